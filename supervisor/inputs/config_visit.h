/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether the file of a hosted model's warmup_request is a request that the model can be asked. */

#include <stdbool.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

/* @model has a route, and its warmup_request is a file. False, with a sentence: its loader would
 * refuse the file, or no client could ask what it asks. */
bool config_visit_check(const struct config_model *model, struct err *why);
