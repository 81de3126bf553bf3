/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/table.h"

#include <stdint.h>

/*
 * The life of a generation as data. Kept apart from the side effects so that a test can
 * walk every cell, and so that docs/states.dot can be printed from it.
 */

static const char *const generation_state_names[] = {
	[GENERATION_NONE] = "none",
	[GENERATION_SPAWNED] = "spawned",
	[GENERATION_STAGING] = "staging",
	[GENERATION_STAGED] = "staged",
	[GENERATION_COMMITTING] = "committing",
	[GENERATION_WARMING] = "warming",
	[GENERATION_READY] = "ready",
	[GENERATION_ACTIVE] = "active",
	[GENERATION_DRAINING] = "draining",
	[GENERATION_STOPPING] = "stopping",
	[GENERATION_TERMINATING] = "terminating",
	[GENERATION_KILLING] = "killing",
	[GENERATION_UNKILLABLE] = "unkillable",
	[GENERATION_FAILED] = "failed",
	[GENERATION_RECLAIMING] = "reclaiming",
	[GENERATION_DEAD] = "dead",
};

static const char *const generation_event_names[] = {
	[GENERATION_EV_HELLO] = "hello",
	[GENERATION_EV_STAGED] = "staged",
	[GENERATION_EV_COMMITTED] = "committed",
	[GENERATION_EV_READY] = "ready",
	[GENERATION_EV_BYE] = "bye",
	[GENERATION_EV_REFUSED] = "refused",
	[GENERATION_EV_VIOLATION] = "violation",
	[GENERATION_EV_STALLED] = "stalled",
	[GENERATION_EV_EXITED] = "exited",
	[GENERATION_EV_COMMIT] = "commit",
	[GENERATION_EV_PROMOTE] = "promote",
	[GENERATION_EV_RETIRE] = "retire",
	[GENERATION_EV_DRAINED] = "drained",
	[GENERATION_EV_DEADLINE] = "deadline",
	[GENERATION_EV_RECLAIMED] = "reclaimed",
};

_Static_assert(sizeof(generation_state_names) / sizeof(generation_state_names[0]) ==
                       GENERATION_STATE_COUNT,
               "one name per state");
_Static_assert(sizeof(generation_event_names) / sizeof(generation_event_names[0]) ==
                       GENERATION_EVENT_COUNT,
               "one name per event");

/* Events that may happen to every candidate on its way to READY. */
#define GENERATION_MAY_FAIL                                                              \
	[GENERATION_EV_REFUSED] = GENERATION_FAILED,                                     \
	[GENERATION_EV_VIOLATION] = GENERATION_FAILED,                                   \
	[GENERATION_EV_DEADLINE] = GENERATION_FAILED,                                    \
	[GENERATION_EV_RETIRE] = GENERATION_STOPPING,                                    \
	[GENERATION_EV_EXITED] = GENERATION_RECLAIMING

/* Events that may happen to every process that has been told to end. */
#define GENERATION_IS_ENDING(state)                                                      \
	[GENERATION_EV_BYE] = state, [GENERATION_EV_REFUSED] = state,                    \
	[GENERATION_EV_HELLO] = state, [GENERATION_EV_STAGED] = state,                   \
	[GENERATION_EV_COMMITTED] = state, [GENERATION_EV_READY] = state,                \
	[GENERATION_EV_RETIRE] = state, [GENERATION_EV_EXITED] = GENERATION_RECLAIMING

static const uint8_t generation_table[GENERATION_STATE_COUNT][GENERATION_EVENT_COUNT] = {
	[GENERATION_SPAWNED] = {
		[GENERATION_EV_HELLO] = GENERATION_STAGING,
		GENERATION_MAY_FAIL,
	},
	[GENERATION_STAGING] = {
		[GENERATION_EV_STAGED] = GENERATION_STAGED,
		GENERATION_MAY_FAIL,
	},
	[GENERATION_STAGED] = {
		[GENERATION_EV_COMMIT] = GENERATION_COMMITTING,
		GENERATION_MAY_FAIL,
	},
	[GENERATION_COMMITTING] = {
		[GENERATION_EV_COMMITTED] = GENERATION_WARMING,
		GENERATION_MAY_FAIL,
	},
	[GENERATION_WARMING] = {
		[GENERATION_EV_READY] = GENERATION_READY,
		GENERATION_MAY_FAIL,
	},
	[GENERATION_READY] = {
		[GENERATION_EV_PROMOTE] = GENERATION_ACTIVE,
		[GENERATION_EV_RETIRE] = GENERATION_STOPPING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		[GENERATION_EV_EXITED] = GENERATION_RECLAIMING,
	},
	[GENERATION_ACTIVE] = {
		[GENERATION_EV_RETIRE] = GENERATION_DRAINING,
		[GENERATION_EV_STALLED] = GENERATION_KILLING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		[GENERATION_EV_EXITED] = GENERATION_RECLAIMING,
	},
	[GENERATION_DRAINING] = {
		[GENERATION_EV_RETIRE] = GENERATION_DRAINING,
		[GENERATION_EV_DRAINED] = GENERATION_STOPPING,
		[GENERATION_EV_DEADLINE] = GENERATION_STOPPING,
		[GENERATION_EV_STALLED] = GENERATION_KILLING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		[GENERATION_EV_EXITED] = GENERATION_RECLAIMING,
	},
	[GENERATION_STOPPING] = {
		[GENERATION_EV_DEADLINE] = GENERATION_TERMINATING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		GENERATION_IS_ENDING(GENERATION_STOPPING),
	},
	[GENERATION_TERMINATING] = {
		[GENERATION_EV_DEADLINE] = GENERATION_KILLING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		GENERATION_IS_ENDING(GENERATION_TERMINATING),
	},
	[GENERATION_KILLING] = {
		[GENERATION_EV_DEADLINE] = GENERATION_UNKILLABLE,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		[GENERATION_EV_STALLED] = GENERATION_KILLING,
		GENERATION_IS_ENDING(GENERATION_KILLING),
	},
	[GENERATION_UNKILLABLE] = {
		[GENERATION_EV_VIOLATION] = GENERATION_UNKILLABLE,
		GENERATION_IS_ENDING(GENERATION_UNKILLABLE),
	},
	[GENERATION_FAILED] = {
		[GENERATION_EV_DEADLINE] = GENERATION_KILLING,
		[GENERATION_EV_VIOLATION] = GENERATION_KILLING,
		GENERATION_IS_ENDING(GENERATION_FAILED),
	},
	[GENERATION_RECLAIMING] = {
		[GENERATION_EV_RECLAIMED] = GENERATION_DEAD,
		[GENERATION_EV_DEADLINE] = GENERATION_DEAD,
		[GENERATION_EV_RETIRE] = GENERATION_RECLAIMING,
	},
};

const char *generation_state_name(enum generation_state state)
{
	return generation_state_names[state];
}

const char *generation_event_name(enum generation_event event)
{
	return generation_event_names[event];
}

enum generation_state generation_next(enum generation_state state,
                                      enum generation_event event)
{
	return (enum generation_state)generation_table[state][event];
}
