/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Golden requests: their answers are known, and a generation has to give all of them before it
 * may serve.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

/* Runs the requests NAME.json of the configured directory, in the order of their names: at most
 * PROTO_GOLDEN_MAX files of at most GOLDEN_FILE_BYTES_MAX. 0 with their number in *ret_requests;
 * ENGINE_E_CONFIG: a file or the directory is not what it should be; ENGINE_E_MODEL: an answer
 * is not the expected one; ENGINE_E_FAILED: an answer took too long, or memory ran out;
 * ENGINE_E_DEVICE, ENGINE_E_MEMORY as rehearsal_run(). All with a sentence that names the file. */
int golden_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine,
               uint32_t *ret_requests, struct err *err);
