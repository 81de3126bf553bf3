/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How long a model is going to pause, from how long it paused before.
 *
 * A pause is the time in which no loader may take requests. What is learnt is how long it
 * took from the beginning of the attempt that ended it, for each cause apart: a back-off
 * before that attempt is known, and needs no history. The estimate is near the worst of
 * late: a longer pause counts at once, shorter ones bring it down by a quarter of the
 * difference each. Pure: times come from outside.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum hold_cause {
	HOLD_CAUSE_START, /* it has not served yet */
	HOLD_CAUSE_CRASH,
	HOLD_CAUSE_RELOAD, /* the old generation had to go first */
	HOLD_CAUSE_COUNT
};

struct hold {
	bool is_paused;
	enum hold_cause cause;
	uint64_t begun_ns;
	uint64_t attempt_ns; /* when the present attempt began, or is going to */
	uint64_t usual_ns[HOLD_CAUSE_COUNT]; /* 0: none was seen */
	uint64_t n_pauses;
	uint64_t last_ns; /* the last one, back-off included */
};

const char *hold_cause_name(enum hold_cause cause);

/* No loader takes requests any more. During a pause: nothing. */
void hold_begin(struct hold *hold, enum hold_cause cause, uint64_t now_ns);
/* What is to end the pause began at @at_ns, or is going to begin then (back-off). A time
 * before the pause means that it was under way already. Outside a pause: nothing. */
void hold_attempt(struct hold *hold, uint64_t at_ns);
/* A loader takes requests again. Outside a pause: nothing. */
void hold_end(struct hold *hold, uint64_t now_ns);

/* How much longer the pause is expected to last; 0 outside a pause. One that outlives its
 * estimate, or for which there is none, is taken to be through two thirds. */
uint64_t hold_left_ns(const struct hold *hold, uint64_t now_ns);

/* How far the pause has come, in per cent of the time that such a one usually takes, at most
 * 99; -1: outside a pause, or none was seen yet. */
int hold_percent(const struct hold *hold, uint64_t now_ns);

/* For `moultctl status`: a new reference. */
json_t *hold_to_json(const struct hold *hold, uint64_t now_ns);
