/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tensors that the configuration leaves to the model: who tells them is asked in this order: the
 * model's file, the request of the warm-up, the answer to it.
 */

#include <stdbool.h>

#include "loader/engine.h"
#include "loader/load/model_config.h"
#include "loader/serve/lane.h"
#include "shared/err.h"

/* True when @config leaves tensors out. */
bool learn_is_needed(const struct model_config *config);

/* Sets the inputs of @config, and its outputs where the file tells them. *ret_is_open: the warm-up
 * had to be asked, or has to be. 0 or an outcome of enum engine_outcome with a sentence. */
int learn_from_model(struct model_config *config, const struct engine_api *api,
                     struct engine *engine, bool *ret_is_open, struct err *err);

/* Computes the warm-up once and sets the outputs of @config. The engine has been shown the inputs.
 * 0 or an outcome likewise. */
int learn_from_answer(struct model_config *config, struct lane *lane,
                      const struct engine_api *api, struct engine *engine,
                      struct err *err);

/* Holds what was learned against what the protocol and max_batch allow. 0 or an outcome
 * likewise. */
int learn_check(const struct model_config *config, struct err *err);
