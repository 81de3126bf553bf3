/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The user that moultd runs as. Started as root with the key user, it becomes that user
 * for good, once all that needs root is open: the listener, the control socket, the
 * state directory. Its loaders are that user, too. Root without that key is refused: nobody is to
 * give a model root's rights without having said so ("user = root").
 */

#include <stdbool.h>
#include <sys/types.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

struct privileges_files {
	const char *state_dir; /* becomes the user's; made when it is missing */
	const char *control;   /* the socket; becomes the user's */
};

/* Checks that moultd may become @user; "root": stays who it is. NULL: nobody was named, which root
 * may not leave out. 0, or -EINVAL with a sentence. */
int privileges_check(const char *user, struct err *err);
/* Becomes @config's user, as privileges_check() says, and warns when moultd stays root. @files: NULL when
 * there are none to give away. With loader_users the right to change users stays, in reserve. 0, or -errno with a sentence: moultd must not go on
 * then. */
int privileges_drop(const struct config *config, const struct privileges_files *files,
                    struct err *err);

/* Puts the right to change users into reserve, or takes it back, for what moultd starts meanwhile:
 * moultd itself does not use it. */
void privileges_lend(bool is_lent);
/* Calls @call in a process of its own, as @uid, and waits for its end. */
void privileges_call_as(uid_t uid, void (*call)(void));

/* Closes moultd, and all that it starts, to others: nobody but root looks into its memory, no core
 * is written, and no program that is executed gets more rights than moultd has. */
void privileges_close(void);
