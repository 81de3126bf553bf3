/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * As whom moultd runs. Started as root with a user to be, it becomes that one for good, once
 * what needs root is open: the listener, the control socket, the state directory. Its loaders
 * are that user, too.
 */

#include "shared/err.h"

struct privileges_files {
	const char *state_dir; /* becomes the user's; made when it is not there */
	const char *control;   /* the socket; likewise */
};

/* 0, or -EINVAL with a sentence: there is no such user, or nobody may become it. */
int privileges_check(const char *user, struct err *err);
/* Becomes @user; NULL: stays who it is, and warns when that is root. @files: NULL when there
 * are none to be given. 0, or -errno with a sentence: then it must not go on. */
int privileges_drop(const char *user, const struct privileges_files *files,
                    struct err *err);
