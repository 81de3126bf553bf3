/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The life of a reload as data: its steps, what may happen in each, and what is done then.
 * Pure: reload/reload.c does it, its unit test walks every cell, and tests/model/ runs on the
 * same rows, printed as Promela.
 */

#include <stdbool.h>

enum reload_step {
	RELOAD_IDLE,         /* no reload is in flight */
	RELOAD_DECIDING,     /* within one handler: inputs are read, numbers decide */
	RELOAD_STOPPING_OLD, /* stop-first: the old generation goes; no candidate yet */
	RELOAD_STAGING,      /* the candidate loads */
	RELOAD_WAITING_OLD,  /* the candidate is STAGED, and the old generation goes */
	RELOAD_COMMITTING,   /* the candidate places its weights and warms up */
	RELOAD_PROVING,      /* the candidate is READY, and the arbiter asks it */
	RELOAD_GIVING_UP,    /* the candidate was told to end */
	RELOAD_RETIRING,     /* the new generation serves, and the old one goes */
	RELOAD_STEP_COUNT
};

enum reload_event {
	RELOAD_EV_STAGED,         /* the candidate is */
	RELOAD_EV_READY,          /* the candidate is */
	RELOAD_EV_ACTIVE,         /* the candidate is */
	RELOAD_EV_CANDIDATE_DEAD, /* or survives SIGKILL */
	RELOAD_EV_SERVING_DEAD,   /* and no replica took its place */
	RELOAD_EV_OLD_GONE,       /* no loader of an old generation is left */
	RELOAD_EV_OLD_STUCK, /* the retiring one survives SIGKILL: nobody waits for it */
	RELOAD_EV_MEMORY_STUCK, /* a loader that survives SIGKILL keeps its memory */
	RELOAD_EV_NO_ROOM,      /* the old one is gone, and its memory is not back */
	RELOAD_EV_OVERTAKEN,    /* a person wants what served before, or newer
	                            inputs wait for what hangs */
	RELOAD_EV_STOP,         /* the model is being stopped */
	RELOAD_EVENT_COUNT
};

enum reload_action {
	RELOAD_DO_REFUSE, /* this cannot happen here */
	RELOAD_DO_NOTHING,
	RELOAD_DO_WEIGH,        /* hold the candidate's figures against the decision */
	RELOAD_DO_PROVE,        /* promote it, unless the arbiter has something to ask */
	RELOAD_DO_SWAP,         /* the candidate serves from now on */
	RELOAD_DO_JUDGE,        /* what the candidate's end says */
	RELOAD_DO_SPAWN,        /* start the candidate */
	RELOAD_DO_COMMIT,       /* the candidate takes what it needs */
	RELOAD_DO_FINISH,       /* it is over */
	RELOAD_DO_LOSE,         /* it is over, and nothing serves */
	RELOAD_DO_FAIL,         /* it is over, and what served is built again */
	RELOAD_DO_GIVE_UP,      /* end the candidate */
	RELOAD_DO_OVERTAKE,     /* the same, and do not try its inputs again */
	RELOAD_DO_GIVE_UP_LEAN, /* the same, if it is to have the memory that is stuck */
	RELOAD_DO_HURRY,        /* the candidate alone may serve soon */
	RELOAD_ACTION_COUNT
};

const char *reload_step_name(enum reload_step step);
const char *reload_event_name(enum reload_event event);
const char *reload_action_name(enum reload_action action);
/* What is done when @event happens in @step. */
enum reload_action reload_action(enum reload_step step, enum reload_event event);
/* True: @next may come after @step. */
bool reload_may_follow(enum reload_step step, enum reload_step next);
/* True: in @step there is a candidate. */
bool reload_has_candidate(enum reload_step step);
