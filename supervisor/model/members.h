/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a model is made of, for the files of model/ and of reload/ alone; model.h is the view of
 * everybody else. Each part has a header and a file of its own: ask (what is wanted), sources
 * (inputs on disk), requests (queue, blame), trial (the watch window), passage (what reload/
 * writes); parts/ has what knows no model.
 */

#include <stddef.h>

#include "supervisor/devices/devices.h"
#include "supervisor/figures/hold.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/model/ask.h"
#include "supervisor/model/model.h"
#include "supervisor/model/passage.h"
#include "supervisor/model/sources.h"
#include "supervisor/model/trial.h"
#include "supervisor/parts/fleet.h"
#include "supervisor/parts/ledger.h"
#include "supervisor/parts/receipt.h"
#include "supervisor/traffic/poison.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/weights/store.h"

/*
 * The files that write each member, between the start (model_new(), the _init() functions)
 * and the end (reload_fini()):
 *
 *	nobody            name listener
 *	model/ask.c       ask reload.step
 *	model/arbiter.c   arbiter
 *	model/model.c     last_error death public_error
 *	model/poison.c    poison poison_refused
 *	model/queue.c     hold served
 *	model/sources.c   sources
 *	model/trial.c     trial
 *	parts/fleet.c     fleet
 *	parts/ledger.c    ledger
 *	reload/again.c    retry
 *	reload/finish.c   last reloads
 *	reload/gpu.c      figures_ns
 *	reload/life.c     context section turn is_stopping is_stopped
 *	reload/plan.c     reload: decisions and inputs
 *	reload/receipt.c  receipts orphans reload.receipt
 *	reload/recycle.c  recycle
 *	reload/replicas.c replicas
 *	reload/start.c    reload.causes
 *	reload/weights.c  copy
 *	traffic/          queue
 *
 * retry.deaths is written through restart.h, by reload/{again,end,swap}.c.
 */
struct model {
	struct model_context context;
	const struct config_model *section; /* the newest; context.config keeps it */
	char name[CONFIG_NAME_MAX];
	struct generation_listener listener;

	struct queue queue;
	struct hold hold;
	uint64_t served; /* number of the generation that was active last */
	struct poison poison;
	uint64_t poison_refused; /* requests refused because their body is remembered */

	struct fleet fleet;
	struct ledger ledger;
	struct store_copy *copy; /* shared weights that serve, or served last; or NULL */
	struct sources sources;
	struct ask ask;

	struct loads_turn turn; /* the model's turn to be built */
	uint64_t figures_ns;    /* since when it waits for the GPU's; 0: it does not */
	struct model_reload reload;
	struct model_retry retry;
	struct model_replicas replicas;
	struct model_recycle recycle;
	struct model_trial trial;
	struct model_arbiter arbiter;

	uint64_t receipts;   /* begun so far */
	struct receipt last; /* the last receipt that is over; number 0: none */
	uint64_t reloads[MODEL_CAUSE_COUNT][RECEIPT_OUTCOME_COUNT];
	struct orphans_left orphans; /* left by loaders since the last receipt */
	struct err death;            /* why a serving loader ended since then; "" */
	struct err last_error;       /* why the last reload failed; "" after a good one */
	char public_error[128];      /* the same in words that anybody may know */
	bool is_stopping;
	bool is_stopped;
};

/* True: a reload has begun and has no receipt yet. */
static inline bool reload_in_flight(const struct model *model)
{
	return model->reload.step != RELOAD_IDLE;
}

/* True: the watch window is open. */
static inline bool trial_is_open(const struct model *model)
{
	return ev_is_active(&model->trial.look);
}

/* Of the queue that is a model's. */
static inline struct model *model_of(struct queue *queue)
{
	return (struct model *)((char *)queue - offsetof(struct model, queue));
}

/* model.c */

/* Why @dead failed, in words that anybody may know. Borrowed, until the next of these. */
const char *model_public_death(struct model *model, const struct generation *dead);
/* Why the last reload failed; "": it did not. */
void model_set_last_error(struct model *model, const char *reason);
/* Why a loader that served ended; "": the last receipt has said so. */
void model_note_death(struct model *model, const char *why);

/* good.c: what is kept for the next run, and what is cleared away */

/* Nothing has served yet and the inputs on disk are of no use: the ledger's good ones become
 * what an earlier run kept, if that is something else. */
void model_remember_good(struct model *model);
/* The loader is reaped: a process of its own removes the folder that @dead may have left. */
void model_clear_away(struct model *model, const struct generation *dead);
/* What serves served well: keeps it for the next run. */
void model_keep_good(struct model *model);
