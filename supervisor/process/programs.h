/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The files that a loader is started from: moult-loader, its engine, an interpreter. An upgrade replaces
 * them under loaders that run.
 */

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "supervisor/config/config.h"

struct programs {
	struct stat loader; /* all zero: missing */
	struct stat engine;
	struct stat python;
};

/* Looks at the files that a loader with @engine would be started from now. @python: its
 * interpreter, or NULL. */
void programs_look(struct programs *ret_programs, const struct config *config,
                   const char *engine, const char *python);
/* Names the first file that changed between the two looks, as a clause for the log, or
 * NULL. */
const char *programs_replaced(const struct programs *then, const struct programs *now);
/* True: process @pid runs code of a file that is gone from disk, such as a library that
 * was replaced. */
bool programs_are_gone(pid_t pid);
