/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Finds an engine by name and opens it. An engine is never closed again as a library: a
 * framework's destructors are not to be trusted, and the process ends anyway.
 */

#include "loader/engine.h"
#include "shared/err.h"

/* Opens DIR/moult-engine-NAME.so. *ret_api is static in the library. 0; ENGINE_E_CONFIG or
 * ENGINE_E_FAILED (the machine was short of something) with a sentence. */
int engine_host_open(const struct engine_api **ret_api, const char *dir, const char *name,
                     struct err *err);
