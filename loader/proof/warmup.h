/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The first requests of a generation, asked by itself: they pay for what only first
 * requests pay for, and they show a declaration that the model does not keep.
 */

#include <stdint.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

/* Runs them: the configured request, or zeros with every variable dim 1 and then once
 * with as many rows as a batch may have. 0 and their number, or with a sentence
 * ENGINE_E_CONFIG or ENGINE_E_MODEL (the model cannot do it), or ENGINE_E_DEVICE or
 * ENGINE_E_FAILED (this process could not: a broken device, no memory). */
int warmup_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine, uint32_t *ret_runs,
               struct err *err);
