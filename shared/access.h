/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Why a file cannot be used, for the person who has to mend it. */

#include <sys/types.h>

#include "shared/err.h"

/* Returns the sentence for @error (an errno) of a call that wanted @want (R_OK, W_OK, X_OK of
 * access(2)) with @path. After EACCES and EPERM the sentence names the user of this process, the
 * directory or file that forbids the call, its owner and mode, and a remedy. The text lives
 * in @storage; errno is kept. Names of users come from local files alone. */
const char *access_why(struct err *storage, const char *path, int want, int error);
/* Returns "995 (moult)", or the number alone. The text lives in @storage. */
const char *access_user(struct err *storage, uid_t uid);
