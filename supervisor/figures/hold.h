/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Estimates how long a model is going to pause, from how long it paused before.
 *
 * A pause is the time in which no loader may take requests. The estimate learns, for each
 * cause apart, how long the attempt took that ended the pause: a back-off before the
 * attempt is known and needs no history. The estimate stays near the worst of late: a
 * longer pause counts at once, and a shorter one brings the estimate down by a quarter of
 * the difference. Pure: times come from outside.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum hold_cause {
	HOLD_CAUSE_START, /* the model has not served yet */
	HOLD_CAUSE_CRASH,
	HOLD_CAUSE_RELOAD, /* the old generation had to go first */
	HOLD_CAUSE_COUNT
};

struct hold {
	bool is_paused;
	enum hold_cause cause;
	uint64_t begun_ns;
	uint64_t attempt_ns; /* when the present attempt began, or will begin */
	uint64_t usual_ns[HOLD_CAUSE_COUNT]; /* 0: no pause was seen yet */
	uint64_t n_pauses;
	uint64_t last_ns; /* length of the last pause, back-off included */
};

const char *hold_cause_name(enum hold_cause cause);

/* No loader takes requests any more. Does nothing during a pause. */
void hold_begin(struct hold *hold, enum hold_cause cause, uint64_t now_ns);
/* The attempt that is to end the pause began at @at_ns, or will begin then (back-off). A
 * time before the pause means that the attempt was under way already. Does nothing
 * outside a pause. */
void hold_attempt(struct hold *hold, uint64_t at_ns);
/* A loader takes requests again. Does nothing outside a pause. */
void hold_end(struct hold *hold, uint64_t now_ns);

/* Time until the pause is expected to end; 0 outside a pause. A pause that outlives its
 * estimate, or has none, is taken to have two thirds of its length behind it. */
uint64_t hold_left_ns(const struct hold *hold, uint64_t now_ns);

/* Progress of the pause in per cent of its usual length, at most 99. -1: there is no
 * pause, or none was seen yet. */
int hold_percent(const struct hold *hold, uint64_t now_ns);

/* For `moultctl status`: a new reference. */
json_t *hold_to_json(const struct hold *hold, uint64_t now_ns);
