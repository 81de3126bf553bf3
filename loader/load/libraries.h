/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The shared objects that this process consists of, and whether the same names still lead to
 * the same files. A spare needs it: it was started long before it is taken.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct library {
	char *path;       /* as the dynamic linker found it, links and all */
	struct stat file; /* when it was noted */
};

struct libraries {
	struct library *rows;
	size_t n_rows;
};

/* Notes all that are open now; objects without a file are left out. 0 or -ENOMEM. */
int libraries_init(struct libraries *libraries);
void libraries_fini(struct libraries *libraries);

/* Returns the path of the first object whose name leads to another file now, or to none;
 * borrowed. NULL: all are the same. */
const char *libraries_find_replaced(const struct libraries *libraries);
