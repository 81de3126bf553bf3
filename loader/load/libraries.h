/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which shared objects this process consists of, and whether the same names lead to the same
 * files still. For a process that was started long before it is needed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct library {
	char *path;       /* as the dynamic linker found it, links and all */
	struct stat file; /* as it was then */
};

struct libraries {
	struct library *rows;
	size_t n_rows;
};

/* Notes all that are open now. 0 or -ENOMEM; what has no file is left out. */
int libraries_init(struct libraries *libraries);
void libraries_fini(struct libraries *libraries);

/* The first one whose name leads to another file now, or to none; NULL: they all hold. */
const char *libraries_find_replaced(const struct libraries *libraries);
