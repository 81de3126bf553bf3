/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The watch window (trial.c), and the check of the rollback that it asks for (arbiter.c): are
 * the requests to blame, or the generation? Each of the two writes its own struct alone.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/figures/pulse.h"
#include "supervisor/traffic/evidence.h"

struct generation;
struct model;
struct request;

/* The watch window. */
struct model_trial {
	ev_timer look; /* active while the window is open */
	uint64_t begun_ns;
	unsigned int n_deaths;
	unsigned int n_called_off; /* rollbacks that were called off in this window */
	struct pulse pulse;        /* pulse of the serving generation */
	struct pulse before;       /* pulse of the generation before */
	struct evidence *evidence; /* gets what fails; NULL: nobody asks */
	uint64_t n_executions;     /* since the window was opened */
	uint64_t waited_ns;        /* fleet_waited_ns() when the window was opened */
};

/* The check of a rollback that the watch window asks for. */
struct model_arbiter {
	enum evidence_kind kind;
	struct evidence *evidence; /* cases to ask of the rollback's candidate; or NULL */
	double share;              /* upheld if a larger share of the cases is computed */
	bool is_trying;            /* the candidate is READY and is being asked */
	struct request *request;   /* the case that it has now; or NULL */
	ev_timer step;             /* the next case, or the end of this one's time */
	unsigned int n_tried;
	unsigned int n_computed;
	bool is_stuck; /* the candidate did not answer in time */
};

enum arbiter_verdict {
	ARBITER_NONE,       /* nothing came of it */
	ARBITER_UPHELD,     /* what served before can compute them */
	ARBITER_CALLED_OFF, /* what served before fails on them, too */
};
void arbiter_init(struct model *model);
void arbiter_fini(struct model *model);
/* A rollback was asked for. Takes @evidence, which may be NULL. The rollback is upheld
 * when what served before computes more than @share of the cases of @kind. */
void arbiter_open(struct model *model, struct evidence *evidence, enum evidence_kind kind,
                  double share);
/* A person wants the rollback, whatever the cases say. True: the candidate was being
 * asked, and cannot be promoted while it works on that. */
bool arbiter_drop(struct model *model);
/* The candidate is READY. True: it is asked first, and promoted or retired afterwards. */
bool arbiter_try(struct model *model);
/* @candidate, which was to serve, is dead: ends the asking; ARBITER_CALLED_OFF comes with
 * a sentence. */
enum arbiter_verdict arbiter_on_dead(struct model *model,
                                     const struct generation *candidate,
                                     struct err *ret_why);
/* @dead had @request, a case. */
void arbiter_on_lease_lost(struct model *model, const struct generation *dead,
                           struct request *request);

void trial_init(struct model *model);
void trial_fini(struct model *model);
/* @generation serves from now on. If its inputs are new a window opens; the window ends
 * when other inputs are tried. */
void trial_begin(struct model *model, uint64_t generation, bool has_new_inputs);
/* The serving loader died: may ask for a rollback. */
void trial_on_death(struct model *model, const char *why);
/* The rollback that the window asked for is called off: the window goes on, with what
 * comes now. */
void trial_reopen(struct model *model);
