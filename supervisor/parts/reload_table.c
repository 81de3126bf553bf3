/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/parts/reload_table.h"

#include <stdint.h>

static const char *const reload_step_names[] = {
	[RELOAD_IDLE] = "idle",
	[RELOAD_DECIDING] = "deciding",
	[RELOAD_STOPPING_OLD] = "stopping_old",
	[RELOAD_STAGING] = "staging",
	[RELOAD_WAITING_OLD] = "waiting_old",
	[RELOAD_COMMITTING] = "committing",
	[RELOAD_PROVING] = "proving",
	[RELOAD_GIVING_UP] = "giving_up",
	[RELOAD_RETIRING] = "retiring",
};

static const char *const reload_event_names[] = {
	[RELOAD_EV_STAGED] = "staged",
	[RELOAD_EV_READY] = "ready",
	[RELOAD_EV_ACTIVE] = "active",
	[RELOAD_EV_CANDIDATE_DEAD] = "candidate_dead",
	[RELOAD_EV_SERVING_DEAD] = "serving_dead",
	[RELOAD_EV_OLD_GONE] = "old_gone",
	[RELOAD_EV_OLD_STUCK] = "old_stuck",
	[RELOAD_EV_MEMORY_STUCK] = "memory_stuck",
	[RELOAD_EV_NO_ROOM] = "no_room",
	[RELOAD_EV_OVERTAKEN] = "overtaken",
	[RELOAD_EV_STOP] = "stop",
};

static const char *const reload_action_names[] = {
	[RELOAD_DO_REFUSE] = "refuse",     [RELOAD_DO_NOTHING] = "nothing",
	[RELOAD_DO_WEIGH] = "weigh",       [RELOAD_DO_PROVE] = "prove",
	[RELOAD_DO_SWAP] = "swap",         [RELOAD_DO_JUDGE] = "judge",
	[RELOAD_DO_SPAWN] = "spawn",       [RELOAD_DO_COMMIT] = "commit",
	[RELOAD_DO_FINISH] = "finish",     [RELOAD_DO_LOSE] = "lose",
	[RELOAD_DO_FAIL] = "fail",         [RELOAD_DO_GIVE_UP] = "give_up",
	[RELOAD_DO_OVERTAKE] = "overtake", [RELOAD_DO_GIVE_UP_LEAN] = "give_up_lean",
	[RELOAD_DO_HURRY] = "hurry",
};

_Static_assert(sizeof(reload_step_names) / sizeof(reload_step_names[0]) ==
                       RELOAD_STEP_COUNT,
               "one name per step");
_Static_assert(sizeof(reload_event_names) / sizeof(reload_event_names[0]) ==
                       RELOAD_EVENT_COUNT,
               "one name per event");
_Static_assert(sizeof(reload_action_names) / sizeof(reload_action_names[0]) ==
                       RELOAD_ACTION_COUNT,
               "one name per action");

/* Events that any step with a candidate may see. Whoever serves beside it may die; what is
 * done then is told where the candidate has no memory yet. */
#define RELOAD_WITH_CANDIDATE                                                            \
	[RELOAD_EV_CANDIDATE_DEAD] = RELOAD_DO_JUDGE,                                    \
	[RELOAD_EV_OLD_STUCK] = RELOAD_DO_NOTHING, [RELOAD_EV_STOP] = RELOAD_DO_GIVE_UP

/* The candidate has claimed its memory: who has gone, or keeps what, changes nothing. */
#define RELOAD_IS_COMMITTED                                                              \
	[RELOAD_EV_SERVING_DEAD] = RELOAD_DO_NOTHING,                                    \
	[RELOAD_EV_OLD_GONE] = RELOAD_DO_NOTHING,                                        \
	[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_NOTHING,                                    \
	[RELOAD_EV_NO_ROOM] = RELOAD_DO_NOTHING

static const uint8_t reload_table[RELOAD_STEP_COUNT][RELOAD_EVENT_COUNT] = {
	[RELOAD_IDLE] = {
		[RELOAD_EV_SERVING_DEAD] = RELOAD_DO_NOTHING,
		[RELOAD_EV_OLD_GONE] = RELOAD_DO_NOTHING,
		[RELOAD_EV_OLD_STUCK] = RELOAD_DO_NOTHING,
		[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_NOTHING,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_NOTHING,
		[RELOAD_EV_STOP] = RELOAD_DO_NOTHING,
	},
	[RELOAD_STOPPING_OLD] = {
		[RELOAD_EV_OLD_GONE] = RELOAD_DO_SPAWN,
		[RELOAD_EV_OLD_STUCK] = RELOAD_DO_FAIL,
		[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_NOTHING,
		[RELOAD_EV_NO_ROOM] = RELOAD_DO_FAIL,
		/* The old one cannot come back: what comes next is asked again then. */
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_NOTHING,
		[RELOAD_EV_STOP] = RELOAD_DO_FINISH,
	},
	[RELOAD_STAGING] = {
		[RELOAD_EV_STAGED] = RELOAD_DO_WEIGH,
		[RELOAD_EV_SERVING_DEAD] = RELOAD_DO_HURRY,
		[RELOAD_EV_OLD_GONE] = RELOAD_DO_NOTHING,
		[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_GIVE_UP_LEAN,
		[RELOAD_EV_NO_ROOM] = RELOAD_DO_GIVE_UP,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_OVERTAKE,
		RELOAD_WITH_CANDIDATE,
	},
	[RELOAD_WAITING_OLD] = {
		[RELOAD_EV_OLD_GONE] = RELOAD_DO_COMMIT,
		[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_GIVE_UP_LEAN,
		[RELOAD_EV_NO_ROOM] = RELOAD_DO_GIVE_UP,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_OVERTAKE,
		RELOAD_WITH_CANDIDATE,
	},
	[RELOAD_COMMITTING] = {
		[RELOAD_EV_READY] = RELOAD_DO_PROVE,
		[RELOAD_EV_ACTIVE] = RELOAD_DO_SWAP,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_OVERTAKE,
		RELOAD_IS_COMMITTED,
		RELOAD_WITH_CANDIDATE,
	},
	[RELOAD_PROVING] = {
		[RELOAD_EV_ACTIVE] = RELOAD_DO_SWAP,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_OVERTAKE,
		RELOAD_IS_COMMITTED,
		RELOAD_WITH_CANDIDATE,
	},
	[RELOAD_GIVING_UP] = {
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_NOTHING,
		RELOAD_IS_COMMITTED,
		[RELOAD_EV_CANDIDATE_DEAD] = RELOAD_DO_JUDGE,
		[RELOAD_EV_OLD_STUCK] = RELOAD_DO_NOTHING,
		[RELOAD_EV_STOP] = RELOAD_DO_NOTHING,
	},
	[RELOAD_RETIRING] = {
		[RELOAD_EV_SERVING_DEAD] = RELOAD_DO_LOSE,
		[RELOAD_EV_OLD_GONE] = RELOAD_DO_FINISH,
		[RELOAD_EV_OLD_STUCK] = RELOAD_DO_FINISH,
		[RELOAD_EV_MEMORY_STUCK] = RELOAD_DO_NOTHING,
		[RELOAD_EV_OVERTAKEN] = RELOAD_DO_NOTHING,
		[RELOAD_EV_STOP] = RELOAD_DO_FINISH,
	},
};

#define STEP(step) (1u << RELOAD_##step)

static const uint16_t reload_next[RELOAD_STEP_COUNT] = {
	[RELOAD_IDLE] = STEP(DECIDING),
	[RELOAD_DECIDING] = STEP(STOPPING_OLD) | STEP(STAGING) | STEP(IDLE),
	[RELOAD_STOPPING_OLD] = STEP(STAGING) | STEP(IDLE),
	[RELOAD_STAGING] =
		STEP(WAITING_OLD) | STEP(COMMITTING) | STEP(GIVING_UP) | STEP(IDLE),
	[RELOAD_WAITING_OLD] = STEP(COMMITTING) | STEP(GIVING_UP) | STEP(IDLE),
	[RELOAD_COMMITTING] =
		STEP(PROVING) | STEP(RETIRING) | STEP(GIVING_UP) | STEP(IDLE),
	[RELOAD_PROVING] = STEP(RETIRING) | STEP(GIVING_UP) | STEP(IDLE),
	[RELOAD_GIVING_UP] = STEP(IDLE),
	[RELOAD_RETIRING] = STEP(IDLE),
};

const char *reload_step_name(enum reload_step step)
{
	return reload_step_names[step];
}

const char *reload_event_name(enum reload_event event)
{
	return reload_event_names[event];
}

const char *reload_action_name(enum reload_action action)
{
	return reload_action_names[action];
}

enum reload_action reload_action(enum reload_step step, enum reload_event event)
{
	return (enum reload_action)reload_table[step][event];
}

bool reload_may_follow(enum reload_step step, enum reload_step next)
{
	return reload_next[step] & (1u << next);
}

bool reload_has_candidate(enum reload_step step)
{
	return step >= RELOAD_STAGING && step <= RELOAD_GIVING_UP;
}
