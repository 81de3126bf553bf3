/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the end of a loader says: of the candidate, whether its inputs are tried again; of
 * one that served, whether it was of use.
 */

#include "shared/clock.h"
#include "supervisor/weights/store.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"

/* A loader that served this long was of use, with or without requests. */
#define RELOAD_SERVED_NS CLOCK_NS_PER_SEC
/* How long a candidate may stage on when nobody serves any more: so many times what the
 * dead loader took, and at least so long. Then what served is built again. */
#define RELOAD_ALONE_TIMES 3
#define RELOAD_ALONE_NS    (20 * CLOCK_NS_PER_SEC)

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
	if (!model->fleet.active)
		reload_restart(model, RESTART_INNOCENT);
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

bool reload_was_of_use(const struct generation *dead)
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
