/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Warm-up: the generation asks itself its first requests. They pay the price of all first
 * requests, and show whether the model keeps its declaration.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

/* Runs the configured request, or zeros: *@n_runs times with every variable dim 1, and then once
 * with as many rows as a batch may have. 0 with the number of runs that there were, or an outcome
 * of rehearsal_run() with a sentence. */
int warmup_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine, uint32_t *n_runs,
               struct err *err);

/* Runs the request once, to have the engine say which outputs come: api->declare is there, and
 * @config has inputs. 0 or an outcome likewise. */
int warmup_ask(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine,
               struct engine_declared *ret_declared, struct err *err);
