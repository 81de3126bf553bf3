/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a model passes from one generation to the next.
 *
 * At most one reload is in flight and one pending, however many are asked for: causes are
 * bits. The inputs of the next generation are read once, at the start. Numbers decide then
 * which way it takes (devices/strategy.h):
 *
 *	overlap     spawn, stage, commit, warm up, swap, retire the old one
 *	staged      spawn, stage; retire the old one and wait until it is gone; commit, ...
 *	stop-first  retire the old one and wait until it is gone; spawn, ...
 *
 * Before the old one is retired, a candidate that fails changes nothing. After that, what
 * served last is rebuilt (again.c). Every reload ends with a receipt: when the old generation
 * is reaped and the new one serves, or when the reload failed.
 *
 * start.c begins a reload. end.c says what happens to its loaders, and this file does what
 * the table (parts/reload_table.c) has for that.
 */

#include "shared/log.h"
#include "supervisor/reload/reload.h"

static void reload_give_up_lean(struct model *model, const char *why)
{
	if (model->fleet.candidate->is_lean)
		reload_give_up(model, why);
}

static void reload_prove(struct model *model)
{
	struct generation *candidate = model->fleet.candidate;

	if (arbiter_try(model))
		reload_enter(model, RELOAD_PROVING);
	else
		generation_apply(candidate, GENERATION_EV_PROMOTE);
}

void reload_tell(struct model *model, enum reload_event event,
                 const struct generation *about, const char *why)
{
	switch (reload_action(model->reload.step, event)) {
	case RELOAD_DO_NOTHING:
		break;
	case RELOAD_DO_WEIGH:
		reload_on_staged(model);
		break;
	case RELOAD_DO_PROVE:
		reload_prove(model);
		break;
	case RELOAD_DO_SWAP:
		reload_swap(model);
		reload_go_on(model);
		break;
	case RELOAD_DO_JUDGE:
		reload_judge_candidate(model);
		break;
	case RELOAD_DO_SPAWN:
		if (!reload_is_overtaken(model))
			reload_spawn(model);
		break;
	case RELOAD_DO_COMMIT:
		reload_commit(model);
		break;
	case RELOAD_DO_FINISH:
		reload_finish(model, RECEIPT_OK, why ? why : "");
		break;
	case RELOAD_DO_LOSE:
		reload_finish(model, RECEIPT_FAILED, why);
		break;
	case RELOAD_DO_FAIL:
		reload_failed(model, why, RELOAD_MAY_PASS);
		break;
	case RELOAD_DO_GIVE_UP: /* to be stopped is no failure */
		reload_give_up(model, event == RELOAD_EV_STOP ? NULL : why);
		break;
	case RELOAD_DO_OVERTAKE:
		reload_overtake(model, why);
		break;
	case RELOAD_DO_GIVE_UP_LEAN:
		reload_give_up_lean(model, why);
		break;
	case RELOAD_DO_HURRY:
		reload_hurry(model, about);
		break;
	case RELOAD_DO_REFUSE:
	case RELOAD_ACTION_COUNT:
		log_event(LOG_LEVEL_ERR, "reload_unexpected", "model=%s step=%s event=%s",
		          model->name, reload_step_name(model->reload.step),
		          reload_event_name(event));
		break;
	}
}

void reload_go_on(struct model *model)
{
	if (!model->is_stopping && !model->fleet.retiring &&
	    !fleet_old_replica(&model->fleet))
		reload_tell(model, RELOAD_EV_OLD_GONE, NULL, NULL);
}
