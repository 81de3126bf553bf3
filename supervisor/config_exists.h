/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether what a configuration names is there, for `moultd -t`: files and directories, by
 * looking at them. What only a loader can tell is not looked for. */

#include <stddef.h>

#include "supervisor/config/config.h"

/* Calls @say with a sentence for each thing of @config that a start would miss. Returns how
 * many. */
size_t config_check_exists(const struct config *config,
                           void (*say)(void *context, const char *why), void *context);
