/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * When the configuration is kept (config_kept.h): soon after a model has served well with
 * new inputs, and after a change of the configuration from then on. What is kept already is
 * not written again.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/keep/config_kept.h"
#include "supervisor/keep/keep.h"
#include "supervisor/keep/keeper.h"

struct config_keeper {
	struct ev_loop *loop;
	struct keeper *keeper;
	/* Fills in what would be kept now. */
	void (*collect)(void *context, struct config_kept *ret_kept);
	void *context;
	ev_timer soon;
	bool has_good; /* before there is nothing to keep: what was, stays */
	char sha256[KEEP_SHA256_HEX]; /* of what was given to a writer last */
	uint64_t n_lost;              /* keeper->n_lost then: that may have been lost */
};

/* Called after the members up to context were set. */
void config_keeper_init(struct config_keeper *keeper);
void config_keeper_fini(struct config_keeper *keeper);

/* A model has served well. */
void config_keeper_on_good(struct config_keeper *keeper);
/* Another configuration is in use. */
void config_keeper_on_change(struct config_keeper *keeper);
/* What was to be done soon is done now. */
void config_keeper_flush(struct config_keeper *keeper);
