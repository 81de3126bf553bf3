/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tells that Python's source below a directory has changed, for those who write it.
 *
 * Files count whose names end in ".py" or ".mar". Hidden folders, virtual environments and what
 * Python and packages make for themselves (__pycache__, site-packages, node_modules) are
 * left out. Bounds: CODE_DIRS_MAX folders, CODE_FILES_MAX files; what is beyond is not
 * seen, and logged once.
 */

#include <stdbool.h>

#include "supervisor/inputs/watch.h"

#define CODE_DIRS_MAX  512
#define CODE_FILES_MAX 8192

struct code;

struct code_place {
	struct watch *watch; /* borrowed, as is the loop */
	struct ev_loop *loop;
	const char *directory; /* absolute; NULL: nowhere */
};

/* Makes *@slot look at what is below @place. One that looks there already stays. @on_change
 * runs from the loop, when names, sizes or times differ from what was last seen. 0 or
 * -errno. */
int code_move(const struct code_place *place,
              void (*on_change)(void *context, const char *directory), void *context,
              struct code **slot);
/* Accepts NULL. */
void code_free(struct code *code);
