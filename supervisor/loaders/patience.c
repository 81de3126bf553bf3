/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two timers of a generation: `deadline` rings once for a state, and `look` several times
 * per stall_timeout. generation.c has their callbacks. patience_set() computes how long
 * each state may take; generation_hurry() can shorten staging. patience.h says what
 * standing still is.
 */

#include "supervisor/loaders/patience.h"

#include <string.h>

#include "shared/clock.h"
#include "shared/saturate.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/process/proc.h"

/* An exec and a handshake. Nothing of the model has run by then: only the machine can be late,
 * and a crowded one has kept an exec waiting for 22 s. */
#define PATIENCE_SPAWN_NS (60 * CLOCK_NS_PER_SEC)
/* A spare has only to wake up: a slower one is no help. */
#define PATIENCE_SPARE_NS (CLOCK_NS_PER_SEC / 2)
/* After SIGTERM, and for a refused loader to exit by itself. */
#define PATIENCE_TERM_NS (2 * CLOCK_NS_PER_SEC)
/* A process that outlives SIGKILL this long is stuck in the kernel. */
#define PATIENCE_KILL_NS (10 * CLOCK_NS_PER_SEC)
/* Beyond the model's reclaim_timeout, which ends the state before that. */
#define PATIENCE_RECLAIM_NS (5 * CLOCK_NS_PER_SEC)
/* Looks for progress per stall_timeout: a stall is noticed within 1.25 of that. */
#define PATIENCE_LOOKS       8
#define PATIENCE_LOOK_MIN_NS (2 * CLOCK_NS_PER_MS)

/* Deadlines */

static void patience_set(struct generation *generation,
                         const struct config_model *section)
{
	struct generation_patience *patience = &generation->patience;
	uint64_t *ns = patience->deadlines_ns;
	uint64_t hurry_ns = patience->hurry_ns;

	ns[GENERATION_SPAWNED] = PATIENCE_SPAWN_NS;
	ns[GENERATION_STAGING] = section->stage_timeout_ns;
	if (hurry_ns && hurry_ns < ns[GENERATION_STAGING])
		ns[GENERATION_STAGING] = hurry_ns;
	/* A staged candidate waits until the old generation is gone. */
	ns[GENERATION_STAGED] = section->stage_timeout_ns + section->drain_timeout_ns +
	                        section->stop_timeout_ns + PATIENCE_TERM_NS +
	                        PATIENCE_KILL_NS + section->reclaim_timeout_ns +
	                        PATIENCE_RECLAIM_NS;
	ns[GENERATION_COMMITTING] = section->commit_timeout_ns;
	ns[GENERATION_WARMING] = section->warmup_timeout_ns;
	ns[GENERATION_DRAINING] = section->drain_timeout_ns;
	ns[GENERATION_STOPPING] = section->stop_timeout_ns;
	ns[GENERATION_TERMINATING] = PATIENCE_TERM_NS;
	ns[GENERATION_KILLING] = PATIENCE_KILL_NS;
	ns[GENERATION_FAILED] = PATIENCE_TERM_NS;
	ns[GENERATION_RECLAIMING] = section->reclaim_timeout_ns + PATIENCE_RECLAIM_NS;
	patience->reclaim_timeout_ns = section->reclaim_timeout_ns;
	patience->stall_timeout_ns = section->stall_timeout_ns;
}

void generation_patience_begin(struct generation *generation)
{
	struct generation_patience *patience = &generation->patience;
	uint64_t ns = generation_link_is_untried(generation)
	                      ? PATIENCE_SPARE_NS
	                      : patience->deadlines_ns[generation->state];
	uint64_t since_ns = clock_now_ns() - generation->entered_ns[generation->state];

	ev_timer_stop(generation->loop, &patience->deadline);
	if (ns == 0 || ns == CLOCK_NEVER)
		return;
	ev_timer_set(&patience->deadline, (double)saturate_minus(ns, since_ns) / 1e9, 0.);
	ev_timer_start(generation->loop, &patience->deadline);
}

void generation_hurry(struct generation *generation, uint64_t within_ns)
{
	uint64_t *staging_ns = &generation->patience.deadlines_ns[GENERATION_STAGING];
	uint64_t since_ns = generation->entered_ns[GENERATION_STAGING];
	bool is_staging = generation->state == GENERATION_STAGING;
	uint64_t limit_ns = within_ns + (is_staging ? clock_now_ns() - since_ns : 0);

	lane_hurry(generation->lane);
	if (generation->state > GENERATION_STAGING || limit_ns >= *staging_ns)
		return;
	generation->patience.hurry_ns = *staging_ns = limit_ns;
	if (is_staging)
		generation_patience_begin(generation);
}

/* Progress */

static uint64_t patience_look_ns(const struct generation_patience *patience)
{
	uint64_t ns = patience->stall_timeout_ns / PATIENCE_LOOKS;

	return ns > PATIENCE_LOOK_MIN_NS ? ns : PATIENCE_LOOK_MIN_NS;
}

static bool patience_is_stopped(const struct generation *generation)
{
	struct proc proc;

	return proc_read(generation->pid, &proc) && proc.state == 'T';
}

/* Says why the loader stands still; NULL: it moves. */
static const char *patience_why(struct generation *generation)
{
	struct generation_patience *patience = &generation->patience;
	uint64_t progress = lane_progress(generation->lane);
	bool has_moved = progress != patience->progress;

	patience->progress = progress;
	if (lane_leased(generation->lane) > 0)
		return has_moved ? NULL : "holds requests and makes no progress";
	return patience_is_stopped(generation)
	               ? "was stopped (SIGSTOP) and makes no progress"
	               : NULL;
}

/* The event for a loader that stands still now; COUNT: none. States in which it is told
 * to end have short deadlines anyway. */
static enum generation_event patience_event(const struct generation *generation)
{
	if (generation->state >= GENERATION_SPAWNED &&
	    generation->state <= GENERATION_WARMING)
		return GENERATION_EV_DEADLINE;
	if (generation->state == GENERATION_ACTIVE ||
	    generation->state == GENERATION_DRAINING)
		return GENERATION_EV_STALLED;
	return GENERATION_EVENT_COUNT;
}

enum generation_event generation_patience_look(struct generation *generation,
                                               struct err *ret_why)
{
	struct generation_patience *patience = &generation->patience;
	enum generation_event event = patience_event(generation);
	const char *why =
		event == GENERATION_EVENT_COUNT ? NULL : patience_why(generation);
	uint64_t look_ns = patience_look_ns(patience);
	uint64_t now_ns = clock_now_ns();
	uint64_t since_ns = now_ns - patience->looked_ns;

	patience->looked_ns = now_ns;
	/* After a longer interval moultd itself may have stood still: count two looks at
	 * most. */
	if (why)
		patience->still_ns += since_ns < 2 * look_ns ? since_ns : 2 * look_ns;
	else
		patience->still_ns = 0;
	if (!why || patience->still_ns < patience->stall_timeout_ns)
		return GENERATION_EVENT_COUNT;
	patience->still_ns = 0;
	(void)err_set(ret_why, 0, "the loader %s for %.4g s (stall_timeout)", why,
	              (double)patience->stall_timeout_ns / 1e9);
	return event;
}

static void patience_start(struct generation *generation)
{
	struct generation_patience *patience = &generation->patience;

	patience->looked_ns = clock_now_ns();
	patience->still_ns = 0;
	patience->look.repeat = (double)patience_look_ns(patience) / 1e9;
	ev_timer_again(generation->loop, &patience->look);
}

void generation_patience_watch(struct generation *generation)
{
	generation->patience.progress = lane_progress(generation->lane);
	patience_start(generation);
}

void generation_patience_on_lease(struct generation *generation)
{
	struct generation_patience *patience = &generation->patience;

	/* The first lease: the time before it was idle. */
	if (lane_leased(generation->lane) > 1)
		return;
	patience->progress = lane_progress(generation->lane);
	patience->looked_ns = clock_now_ns();
	patience->still_ns = 0;
}

void generation_patience_end(struct generation *generation)
{
	ev_timer_stop(generation->loop, &generation->patience.look);
}

void generation_patience_fini(struct generation *generation)
{
	generation_patience_end(generation);
	ev_timer_stop(generation->loop, &generation->patience.deadline);
}

/* Configuration */

void generation_patience_init(struct generation *generation,
                              const struct config_model *section,
                              void (*on_deadline)(struct ev_loop *, ev_timer *, int),
                              void (*on_look)(struct ev_loop *, ev_timer *, int))
{
	struct generation_patience *patience = &generation->patience;

	ev_init(&patience->deadline, on_deadline);
	ev_init(&patience->look, on_look);
	patience->deadline.data = patience->look.data = generation;
	patience_set(generation, section);
}

void generation_set_config(struct generation *generation,
                           const struct config_model *section)
{
	struct generation_patience *patience = &generation->patience;
	uint64_t stall_timeout_ns = patience->stall_timeout_ns;
	uint64_t deadlines_ns[GENERATION_STATE_COUNT];

	memcpy(deadlines_ns, patience->deadlines_ns, sizeof(deadlines_ns));
	patience_set(generation, section);
	/* A configuration file that is written over and over must not put anything
	 * off. */
	if (stall_timeout_ns == section->stall_timeout_ns &&
	    memcmp(deadlines_ns, patience->deadlines_ns, sizeof(deadlines_ns)) == 0)
		return;
	if (ev_is_active(&patience->deadline))
		generation_patience_begin(generation);
	if (ev_is_active(&patience->look))
		patience_start(generation);
}
