/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The states of a generation, and which event leads from which to which.
 */

enum generation_state {
	GENERATION_NONE, /* never stored */
	GENERATION_SPAWNED,
	GENERATION_STAGING,
	GENERATION_STAGED,
	GENERATION_COMMITTING,
	GENERATION_WARMING,
	GENERATION_READY,
	GENERATION_ACTIVE,
	GENERATION_DRAINING,
	GENERATION_STOPPING,    /* asked to quit */
	GENERATION_TERMINATING, /* SIGTERM */
	GENERATION_KILLING,     /* SIGKILL */
	GENERATION_UNKILLABLE,  /* survived SIGKILL: stuck in the kernel */
	GENERATION_FAILED,      /* before READY: being killed; the old one is untouched */
	GENERATION_RECLAIMING,  /* reaped: its memory is being looked for */
	GENERATION_DEAD,
	GENERATION_STATE_COUNT
};

enum generation_event {
	/* from the loader */
	GENERATION_EV_HELLO,
	GENERATION_EV_STAGED,
	GENERATION_EV_COMMITTED,
	GENERATION_EV_READY,
	GENERATION_EV_BYE,
	GENERATION_EV_REFUSED,
	/* about the loader */
	GENERATION_EV_VIOLATION,
	GENERATION_EV_STALLED,
	GENERATION_EV_EXITED,
	/* ours */
	GENERATION_EV_COMMIT,
	GENERATION_EV_PROMOTE,
	GENERATION_EV_RETIRE,
	GENERATION_EV_DRAINED,
	GENERATION_EV_DEADLINE,
	GENERATION_EV_RECLAIMED,
	GENERATION_EVENT_COUNT
};

const char *generation_state_name(enum generation_state state);
const char *generation_event_name(enum generation_event event);
/* Looks the table up: GENERATION_NONE when @event is not allowed in @state. */
enum generation_state generation_next(enum generation_state state,
                                      enum generation_event event);
