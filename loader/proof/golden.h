/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Requests whose answers are known, asked of a generation before it may serve. One miss
 * and it may not.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

/* Asks what lies in the configured directory as NAME.json, in the order of the names: at
 * most PROTO_GOLDEN_MAX files of at most GOLDEN_FILE_BYTES_MAX. 0
 * and their number; ENGINE_E_CONFIG: a file or the directory is not what it should be;
 * ENGINE_E_MODEL: an answer is not the expected one; ENGINE_E_FAILED: one took too long,
 * or there is no memory; ENGINE_E_DEVICE. All with a sentence that names the file. */
int golden_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine,
               uint32_t *ret_requests, struct err *err);
