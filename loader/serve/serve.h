/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The serving loop: takes requests from the lane, computes them in batches, answers them.
 * One thread, which blocks only where nothing can be done, and then on the doorbell and the
 * control channel together.
 *
 * A request is answered exactly once, or the process ends and the supervisor replays it.
 */

#include "loader/engine.h"
#include "loader/serve/lane.h"
#include "loader/load/model_config.h"
#include "shared/err.h"

struct serve;

enum {
	_SERVE_E_SUCCESS,
	SERVE_E_CONTROL,   /* the control channel has something to read */
	SERVE_E_VIOLATION, /* the supervisor sent an impossible entry */
	SERVE_E_BROKEN,    /* the engine is beyond repair */
};

/* Borrows everything until serve_free(), which has to follow in any case. 0 or -ENOMEM. */
int serve_new(struct serve **ret_serve, const struct model_config *config,
              struct lane *lane, const struct engine_api *api, struct engine *engine,
              int control_fd);
void serve_free(struct serve *serve); /* accepts NULL */

/* Serves until something else must be done: SERVE_E_*, VIOLATION and BROKEN with a sentence.
 * Requests without an answer stay leased. */
int serve_run(struct serve *serve, struct err *err);
