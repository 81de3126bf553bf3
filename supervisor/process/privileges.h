/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The user that moultd runs as. Started as root with the key user, it becomes that user
 * for good, once all that needs root is open: the listener, the control socket, the
 * state directory. Its loaders are that user, too. Root without that key is refused: nobody is to
 * give a model root's rights without having said so ("user = root").
 */

#include "shared/err.h"

struct privileges_files {
	const char *state_dir; /* becomes the user's; made when it is missing */
	const char *control;   /* the socket; becomes the user's */
};

/* Checks that moultd may become @user; "root": stays who it is. NULL: nobody was named, which root
 * may not leave out. 0, or -EINVAL with a sentence. */
int privileges_check(const char *user, struct err *err);
/* Becomes @user, as privileges_check() says, and warns when moultd stays root. @files: NULL when
 * there are none to give away. 0, or -errno with a sentence: moultd must not go on
 * then. */
int privileges_drop(const char *user, const struct privileges_files *files,
                    struct err *err);

/* Closes moultd, and all that it starts, to others: nobody but root looks into its memory, no core
 * is written, and no program that is executed gets more rights than moultd has. */
void privileges_close(void);
