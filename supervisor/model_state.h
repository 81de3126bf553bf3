/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model from the inside, for model.c (requests) and reload.c (generations) only.
 */

#include <sys/stat.h>

#include "supervisor/generation.h"
#include "supervisor/model.h"
#include "supervisor/queue.h"
#include "supervisor/receipt.h"
#include "supervisor/secrets.h"
#include "supervisor/watch.h"

/* Dead generations that wait for the loop to come round before they are freed. */
#define MODEL_GRAVES 4

/* What a reload was tried with: an unchanged input is not worth another try. */
struct model_inputs {
	char secrets_digest[SECRETS_DIGEST_HEX];
	struct stat file; /* identity of the model file; st_ino 0: none */
};

struct model {
	struct model_context context;
	const struct config_model *section;
	char name[CONFIG_NAME_MAX];
	struct queue queue;
	struct generation_listener listener;

	struct generation *active;
	struct generation *candidate;
	struct generation *retiring;
	struct generation *graves[MODEL_GRAVES];
	ev_timer bury;

	/* reload.c */
	unsigned int pending; /* bits of enum model_cause */
	ev_timer kick;        /* starts what is pending, once per round of the loop */
	unsigned int causes;  /* of the reload in flight */
	bool in_flight;
	struct receipt receipt;
	uint64_t receipts; /* begun so far */
	uint64_t started_ns;
	struct model_inputs tried;
	struct secrets secrets; /* the last good ones */
	ev_timer unsettled;     /* secrets changed while being read */
	ev_timer restart;       /* a loader died: back-off */
	unsigned int n_deaths;  /* before READY, in a row */
	struct watch_path *secrets_watch;
	struct watch_path *file_watch;
	struct err stale;      /* why disk and service differ; "" when they do not */
	struct err last_error; /* of the last failed reload; "" after a good one */
	bool is_stopping;
	bool is_stopped;
	struct config_model last_section; /* scalars only, once it is stopping */
};

/* model.c: leases to the active generation what is held and fits. */
void model_dispatch(struct model *model);
/* model.c: answers everything that is held with 503. */
void model_fail_held(struct model *model, const char *reason);
void model_on_lease_lost(void *context, struct generation *generation,
                         struct request *request);
void model_on_answers(void *context, struct generation *generation);

/* reload.c */
void reload_init(struct model *model);
void reload_fini(struct model *model);
void reload_on_state(void *context, struct generation *generation,
                     enum generation_state from);
/* (Re)arms the watches that the section asks for. */
void reload_watch(struct model *model);
void reload_stop(struct model *model);
/* A generation will come, or is expected to: requests may be held for it. */
bool reload_is_expected(const struct model *model);
