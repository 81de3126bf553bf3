/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Warns of others who could change what moultd goes by, as StrictModes of sshd does:
 * directories and secrets by a sentence; a configuration file is refused when it is
 * read. */

#include <sys/stat.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

/* Checks the owner and mode of a configuration file. 0, or -EPERM with a sentence when
 * a user other than root and this process's owns it, or everybody may write to it. */
int strict_check_file(const char *path, const struct stat *st, struct err *err);
/* Calls @say with a sentence for each directory of @config that everybody may write to, and
 * for each secret that is a link out of its directory. */
void strict_check(const struct config *config,
                  void (*say)(void *context, const char *why), void *context);
