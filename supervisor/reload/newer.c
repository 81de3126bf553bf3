/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Newer inputs overtake a candidate that hangs. Without that they would wait for the whole of its
 * timeouts, and somebody who mends what he has just broken would wait for the broken one.
 *
 * A candidate that is as fast as those before it is let alone. Changes that come again and again
 * starve nobody: behind so many candidates that were overtaken in a row the next one has all of its
 * time.
 */

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/reload/reload.h"

/* So many times what the last ones took, and at least so long. */
#define NEWER_TIMES    2
#define NEWER_FLOOR_NS (10 * CLOCK_NS_PER_SEC)
/* Nobody knows how long the model takes. */
#define NEWER_UNKNOWN_NS (60 * CLOCK_NS_PER_SEC)
#define NEWER_MAX        2
/* The candidate does nothing that is its own: it is looked at again. */
#define NEWER_LOOK_S 1.

static uint64_t newer_limit_ns(const struct model *model)
{
	uint64_t limit_ns = model->ask.usual.load_ns * NEWER_TIMES;

	if (model->ask.usual.load_ns == 0)
		return NEWER_UNKNOWN_NS;
	return limit_ns > NEWER_FLOOR_NS ? limit_ns : NEWER_FLOOR_NS;
}

static bool newer_is_loading(const struct generation *candidate)
{
	return candidate && candidate->state <= GENERATION_WARMING &&
	       candidate->state != GENERATION_STAGED;
}

void reload_on_newer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;
	const struct generation *candidate = model->fleet.candidate;
	uint64_t limit_ns = newer_limit_ns(model);
	uint64_t taken_ns;

	(void)loop;
	(void)revents;
	/* A rollback is no older than what waits behind it. */
	if (!(model->ask.pending & RELOAD_NEWER) || !reload_in_flight(model) ||
	    (model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) ||
	    model->ask.usual.n_overtaken >= NEWER_MAX)
		return;
	taken_ns = newer_is_loading(candidate) ? generation_load_ns(candidate) : 0;
	if (taken_ns < limit_ns) {
		ask_look_at_newer(model, newer_is_loading(candidate)
		                                 ? (double)(limit_ns - taken_ns) / 1e9
		                                 : NEWER_LOOK_S);
		return;
	}
	ask_note_overtaken(model);
	log_event(
		LOG_LEVEL_WARNING, "reload_overtaken",
		"model=%s gen=%llu load_s=%.1f usual_s=%.1f reason=\"newer inputs wait, "
		"and the candidate takes longer than is usual\"",
		model->name, (unsigned long long)candidate->number,
		(double)taken_ns / 1e9, (double)model->ask.usual.load_ns / 1e9);
	reload_tell(model, RELOAD_EV_OVERTAKEN, NULL, RELOAD_BEHIND);
}
