/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The options of engine torch. */

#include <stdbool.h>

#include "loader/engine.h"

/* 0, or ENGINE_E_CONFIG with a sentence. *ret_is_profiling: libtorch's executor that specialises
 * is wanted. */
int torch_options_read(const struct engine_config *config, bool *ret_is_profiling,
                       struct err *err);
