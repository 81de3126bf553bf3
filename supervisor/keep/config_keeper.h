/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Decides when the configuration is kept (config_kept.h): soon after a model has served
 * well with new inputs, and from then on after each change of the configuration. A text
 * that is kept already is not written again.
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
	bool has_good; /* a model has served well; until then what was kept stays */
	char sha256[KEEP_SHA256_HEX]; /* digest of the text that a writer got last */
	uint64_t n_lost;              /* keeper->n_lost then: more means maybe lost */
};

/* The caller sets the members up to context first; all are borrowed. */
void config_keeper_init(struct config_keeper *keeper);
void config_keeper_fini(struct config_keeper *keeper);

/* A model has served well. */
void config_keeper_on_good(struct config_keeper *keeper);
/* Another configuration is in use. */
void config_keeper_on_change(struct config_keeper *keeper);
/* Does now what was to be done soon. */
void config_keeper_flush(struct config_keeper *keeper);
