/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What shows that a server is ready: "[METHOD] PATH [STATUS]", as in "GET /health 200". Without
 * METHOD it is GET, without STATUS any from 200 to 299.
 */

#include "shared/err.h"

#define READY_METHOD_MAX 16
#define READY_TARGET_MAX 1024

struct ready {
	char method[READY_METHOD_MAX];
	char target[READY_TARGET_MAX];
	unsigned int status_min;
	unsigned int status_max;
};

/* Reads @text; NULL: "/" is asked, and any status below 500 will do, because a server that has no
 * such page answers for itself as well. 0 or -EINVAL with a sentence. */
int ready_read(struct ready *ret_ready, const char *text, struct err *err);
