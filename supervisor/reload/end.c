/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Carries a reload on, or ends it, when one of its generations ends: the generation died,
 * was retired and is gone, or survives SIGKILL and is put aside.
 *
 * loaders/generation.c tells each death through reload_on_state(). fleet_bury() has the
 * struct freed when the loop comes round; then the death counts as that of the candidate,
 * of the active one (a crash) or of the retiring one. reload_go_on() takes the step that
 * waited for the last old generation: commit, finish or spawn.
 */

#include <assert.h>

#include "shared/clock.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/model/model_state.h"

/* A loader that served this long was of use, with or without requests. */
#define RELOAD_SERVED_NS CLOCK_NS_PER_SEC
/* How long a candidate may stage on when nobody serves any more: so many times what the
 * dead loader took, and at least so long. Then what served is built again. */
#define RELOAD_ALONE_TIMES 3
#define RELOAD_ALONE_NS    (20 * CLOCK_NS_PER_SEC)

void reload_on_buried(void *context)
{
	struct model *model = context;

	if (!model->is_stopping || model->is_stopped || !fleet_is_gone(&model->fleet))
		return;
	model->is_stopped = true;
	model->context.listener->on_stopped(model->context.listener->context, model);
}

/* The candidate was needless; the active loader that made it so may have died meanwhile,
 * and waited for this. */
static void reload_on_needless_dead(struct model *model)
{
	const struct model_listener *listener = model->context.listener;
	const struct stat *now = &model->reload.inputs->file;
	struct stat before;

	/* Only rights, names or times of the file have changed: its copy is still
	 * good. */
	if (model->fleet.active) {
		before = model->fleet.active->inputs->file;
		if (before.st_dev == now->st_dev && before.st_ino == now->st_ino)
			listener->on_file_touched(listener->context, &before, now);
	}
	reload_finish(model, model->fleet.active ? RECEIPT_UNCHANGED : RECEIPT_FAILED,
	              model->fleet.active
	                      ? "the model file's content is what already serves"
	                      : "the model file's content is what served, and its "
	                        "loader died meanwhile");
	if (!model->fleet.active && !reload_in_flight(model))
		reload_schedule_restart(model, RESTART_INNOCENT);
}

void reload_judge_candidate(struct model *model)
{
	struct generation *candidate = model->fleet.candidate;
	enum arbiter_verdict verdict;
	struct err why = ERR_NULL;

	reload_receipt_note_candidate(model, candidate);
	reload_gpu_note_reclaim(model, candidate);
	verdict = arbiter_on_dead(model, candidate, &why);
	fleet_drop_candidate(&model->fleet);
	if (model->is_stopping)
		reload_finish(model, RECEIPT_FAILED, RELOAD_STOPPING);
	else if (verdict == ARBITER_CALLED_OFF)
		reload_call_off(model, why.text);
	else if (candidate->failure.text[0] == '\0')
		reload_on_needless_dead(model);
	else
		reload_failed(model, candidate->failure.text,
		              reload_weights_was_written(model, candidate)
		                      ? RELOAD_WAS_KILLED /* other weights may do */
		              : candidate->is_permanent     ? RELOAD_IS_FINAL
		              : model_was_killed(candidate) ? RELOAD_WAS_KILLED
		                                            : RELOAD_MAY_PASS);
	if (verdict == ARBITER_UPHELD && !model->is_stopping)
		reload_roll_back_again(model, candidate->inputs);
}

/* True: the loader was of use, with or without answers. */
static bool reload_was_of_use(const struct generation *dead)
{
	uint64_t served_ns = clock_now_ns() - dead->entered_ns[GENERATION_ACTIVE];

	return dead->n_answered > 0 || served_ns >= RELOAD_SERVED_NS;
}

/* The candidate takes what @dead held before another model counts on that, and stands
 * back for nobody. Clients wait, so it has less time than beside one that serves. */
void reload_hurry(struct model *model, const struct generation *dead)
{
	struct generation *candidate = model->fleet.candidate;
	double staged_ms = generation_phase_ms(dead, GENERATION_STAGING);
	uint64_t within_ns = (uint64_t)(staged_ms * 1e6) * RELOAD_ALONE_TIMES;

	if (candidate->state >= GENERATION_COMMITTING)
		return;
	reload_claim_all(model);
	generation_hurry(candidate,
	                 within_ns > RELOAD_ALONE_NS ? within_ns : RELOAD_ALONE_NS);
}

enum restart_death reload_judge(const struct generation *dead)
{
	if (dead->has_culprit)
		return RESTART_INNOCENT;
	return dead->entered_ns[GENERATION_ACTIVE] && reload_was_of_use(dead)
	               ? RESTART_USEFUL
	               : RESTART_USELESS;
}

/* True: somebody ended the loader, and the next one runs the same programs. */
static bool reload_is_beyond_doubt(const struct generation *dead)
{
	const struct inputs *inputs = dead->inputs;
	struct programs programs;

	programs_look(&programs, inputs->config, inputs->section->engine);
	return model_was_killed(dead) && !programs_replaced(&dead->programs, &programs);
}

static void reload_on_crash(struct model *model, struct generation *dead)
{
	if (replicas_take_over(model)) {
		replicas_on_death(model, dead);
		return;
	}
	fleet_lose_active(&model->fleet, reload_is_beyond_doubt(dead));
	replicas_retire(model);
	model->context.listener->on_ready(model->context.listener->context, model);
	/* A drain that goes on must not hold up the replacement: its receipt ends
	 * here. */
	reload_tell(model, RELOAD_EV_SERVING_DEAD, dead,
	            "the new generation died before the old one");
	(void)err_set(&model->last_error, 0, "%s", dead->failure.text);
	model->death = dead->failure;
	/* Neither one client with a bad body nor somebody's kill -9 may undo a reload. */
	if (!dead->has_culprit && !model_was_killed(dead))
		trial_on_death(model, dead->failure.text);
	if (!reload_in_flight(model))
		reload_schedule_restart(model, reload_judge(dead));
}

void reload_go_on(struct model *model)
{
	if (!model->is_stopping && !model->fleet.retiring &&
	    !fleet_old_replica(&model->fleet))
		reload_tell(model, RELOAD_EV_OLD_GONE, NULL, NULL);
}

static void reload_on_retired_dead(struct model *model, struct generation *retired)
{
	struct err why;

	fleet_drop_retiring(&model->fleet);
	reload_receipt_note_retired(model, retired);
	if (reload_was_of_use(retired))
		restart_on_use(&model->deaths);
	if (!model->is_stopping && reload_gpu_is_refused(model, retired, &why))
		reload_tell(model, RELOAD_EV_NO_ROOM, NULL, why.text);
	else
		reload_go_on(model);
}

void reload_on_dead(struct model *model, struct generation *generation)
{
	reload_receipt_note_orphans(model, generation);
	if (generation->entered_ns[GENERATION_ACTIVE]) {
		inputs_learn_peak(generation->inputs, generation->use.peak_bytes);
		reload_gpu_learn(generation);
	}
	if (fleet_bury(&model->fleet, generation)) {
		/* Nothing waited for this one. */
	} else if (generation == model->fleet.candidate) {
		reload_tell(model, RELOAD_EV_CANDIDATE_DEAD, NULL, NULL);
	} else if (generation == model->fleet.active) {
		reload_on_crash(model, generation);
	} else {
		assert(generation == model->fleet.retiring);
		reload_on_retired_dead(model, generation);
	}
	model_dispatch(model);
}

/* The old generation keeps its memory. A reload that waits for that has failed; a reload
 * whose new generation serves is over. */
static void reload_on_retired_stuck(struct model *model, struct generation *retired)
{
	reload_receipt_note_retired(model, retired);
	generation_claim(retired, 0);
	fleet_drop_retiring(&model->fleet);
	if (!model->is_stopping)
		reload_tell(model, RELOAD_EV_OLD_STUCK, NULL, retired->failure.text);
}

/* Nothing waits for @generation any more, and its memory counts until it is gone. With
 * too many of them everything waits: whatever causes that, another loader is no help. */
bool reload_put_aside(struct model *model, struct generation *generation)
{
	/* Other models wait for its copy no more, even if this model has to. */
	store_copy_abandon(generation->copy);
	if (!fleet_put_aside(&model->fleet, generation))
		return false;
	generation_note_unkillable(generation);
	return true;
}

void reload_on_unkillable(struct model *model, struct generation *generation)
{
	if (!reload_put_aside(model, generation))
		return;
	if (generation == model->fleet.candidate) {
		reload_tell(model, RELOAD_EV_CANDIDATE_DEAD, NULL, NULL);
	} else {
		reload_tell(model, RELOAD_EV_MEMORY_STUCK, NULL,
		            generation->failure.text);
		if (generation == model->fleet.active)
			reload_on_crash(model, generation);
		else
			reload_on_retired_stuck(model, generation);
	}
	model_dispatch(model);
}
