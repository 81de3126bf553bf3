/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Computes one batch in the engine and checks its outputs against the configuration. Serving
 * and warming up share this, so that the path that serves has been warmed up.
 */

#include <stdbool.h>
#include <stdint.h>

#include "loader/serve/batch.h"
#include "loader/engine.h"
#include "loader/serve/fit.h"
#include "loader/load/model_config.h"
#include "loader/oip/oip.h"
#include "shared/err.h"

struct compute {
	const struct engine_api *api;
	struct engine *engine; /* borrowed */
	struct oip_model model;
	struct batch batch;
	struct fit fit;
	uint64_t began_ns;     /* CLOCK_MONOTONIC: the turn of the last batch */
	uint64_t gather_ns;    /* laying the last batch together */
	uint64_t took_ns;      /* inside the engine */
	struct engine_use use; /* memory that the last batch took */
	bool has_outputs; /* the engine computed; after a failure: the check failed */
};

/* Borrows everything. At most @max_members requests in a batch. 0 or -ENOMEM;
 * compute_fini() in any case. */
int compute_init(struct compute *compute, const struct model_config *config,
                 const struct engine_api *api, struct engine *engine,
                 uint32_t max_members);
void compute_fini(struct compute *compute);

/* Computes the members of compute->batch; batch_split() has the outputs then, until the
 * next run. compute->fit learns which shapes fitted and which did not. 0, or ENGINE_E_INPUT,
 * ENGINE_E_MEMORY, ENGINE_E_FAILED, ENGINE_E_MODEL, ENGINE_E_BROKEN with a sentence. */
int compute_run(struct compute *compute, struct err *err);
