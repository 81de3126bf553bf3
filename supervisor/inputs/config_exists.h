/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether everything that a configuration names is there, for `moultd -t`, as far as
 * looking at files and directories tells. A loader alone finds the rest. */

#include <stddef.h>

#include "supervisor/config/config.h"

/* Calls @say with a sentence for each thing that a start with @config would miss. Returns
 * their number. */
size_t config_check_exists(const struct config *config,
                           void (*say)(void *context, const char *why), void *context);

/* Calls @say with a sentence for each file or folder that a start with @config makes and, as
 * things are, could not. They may be due to another user, or made by a unit. */
void config_check_places(const struct config *config,
                         void (*say)(void *context, const char *why), void *context);
