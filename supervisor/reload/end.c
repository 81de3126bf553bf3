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
#include "supervisor/model/requests.h"
#include "supervisor/process/recipe.h"
#include "supervisor/reload/reload.h"

/* True: somebody ended the loader, and the next one runs the same programs. */
static bool reload_is_beyond_doubt(const struct generation *dead)
{
	const struct inputs *inputs = dead->inputs;
	struct programs programs;

	programs_look(&programs, inputs->config, inputs->section->engine,
	              recipe_python(inputs->section));
	return model_was_killed(dead) && !programs_replaced(&dead->programs, &programs);
}

static void reload_on_crash(struct model *model, struct generation *dead)
{
	if (replicas_take_over(model)) {
		replicas_on_death(model, dead);
		return;
	}
	fleet_lose_active(&model->fleet, reload_is_beyond_doubt(dead));
	fleet_retire_replicas(&model->fleet, true);
	model->context.listener->on_ready(model->context.listener->context, model);
	/* A drain that goes on must not hold up the replacement: its receipt ends
	 * here. */
	reload_tell(model, RELOAD_EV_SERVING_DEAD, dead,
	            "the new generation died before the old one");
	model_set_last_error(model, dead->failure.text);
	model_note_death(model, dead->failure.text);
	/* Neither one client with a bad body nor somebody's kill -9 may undo a reload. */
	if (!dead->has_culprit && !model_was_killed(dead))
		trial_on_death(model, dead->failure.text);
	reload_restart(model, reload_judge(dead));
}

static void reload_on_retired_dead(struct model *model, struct generation *retired)
{
	struct err why;

	fleet_drop_retiring(&model->fleet);
	reload_receipt_note_retired(model, retired);
	if (reload_was_of_use(retired))
		restart_on_use(&model->retry.deaths);
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
void reload_on_state(void *context, struct generation *generation,
                     enum generation_state from)
{
	struct model *model = context;

	(void)from;
	switch (generation->state) {
	case GENERATION_STAGED:
		reload_tell(model, RELOAD_EV_STAGED, NULL, NULL);
		break;
	case GENERATION_READY:
		reload_tell(model, RELOAD_EV_READY, NULL, NULL);
		break;
	case GENERATION_ACTIVE:
		reload_tell(model, RELOAD_EV_ACTIVE, NULL, NULL);
		replicas_adjust(model);
		break;
	case GENERATION_UNKILLABLE:
		reload_on_unkillable(model, generation);
		break;
	case GENERATION_RECLAIMING:
		model_clear_away(model, generation);
		break;
	case GENERATION_DEAD:
		reload_on_dead(model, generation);
		break;
	case GENERATION_NONE:
	case GENERATION_SPAWNED:
	case GENERATION_STAGING:
	case GENERATION_COMMITTING:
	case GENERATION_WARMING:
	case GENERATION_DRAINING:
	case GENERATION_STOPPING:
	case GENERATION_TERMINATING:
	case GENERATION_KILLING:
	case GENERATION_FAILED:
	case GENERATION_STATE_COUNT:
		break;
	}
	model_note_state(model, generation);
}
