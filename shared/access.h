/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Why a file cannot be used, for the person who has to mend it. */

#include <sys/types.h>

#include "shared/err.h"

/* The sentence for @error, of a call that wanted to do @want (R_OK, W_OK, X_OK of access(2))
 * with @path. Where that was forbidden it names as whom this process runs, which
 * directory or file forbids it, whose that is and with which mode, and what would help. The
 * text lives in @storage. Asks local files alone for names. */
const char *access_why(struct err *storage, const char *path, int want, int error);
/* "995 (moult)". The text lives in @storage. */
const char *access_user(struct err *storage, uid_t uid);
