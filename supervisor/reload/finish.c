/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ends of a reload: over, failed, overtaken, called off. Each writes the
 * receipt, and what is pending comes in the next round of the loop.
 */

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"

void reload_finish(struct model *model, enum receipt_outcome outcome, const char *reason)
{
	const struct receipt *receipt = &model->reload.receipt;

	/* A reload after which nothing serves has failed. */
	if (outcome == RECEIPT_OK && !model->fleet.active)
		outcome = RECEIPT_FAILED;
	reload_receipt_close(model, outcome, reason);
	/* Inputs on disk stay refused while the last good inputs serve instead. */
	if (outcome == RECEIPT_FAILED) {
		model_set_last_error(model, reason);
	} else if (model->reload.is_newest) {
		model_set_last_error(model, "");
		reload_again_stop(model);
	}
	reload_enter(model, RELOAD_IDLE);
	loads_end(&model->turn);
	reload_plan_take(model, NULL);
	log_event(outcome == RECEIPT_FAILED ? LOG_LEVEL_ERR : LOG_LEVEL_NOTICE, "reload",
	          "model=%s outcome=%s cause=%s strategy=%s from=%llu to=%llu "
	          "pause_ms=%.1f total_ms=%.1f serving=%llu reason=%s",
	          model->name, receipt_outcome_name(outcome), receipt->cause,
	          strategy_name(receipt->decision.strategy),
	          (unsigned long long)receipt->from.generation,
	          (unsigned long long)receipt->to.generation, receipt->pause_ms,
	          receipt->total_ms, (unsigned long long)model_generation(model),
	          LOG_QUOTED(reason));
	model->reloads[reload_receipt_cause(model)][outcome]++;
	model->last = *receipt;
	model->context.listener->on_receipt(model->context.listener->context, model,
	                                    receipt);
	/* What is pending, and replicas, come in the next round. */
	ask_kick(model);
}

/* Chooses what comes when nobody serves: the inputs that did, or the same once more. */
static void reload_recover(struct model *model, bool was_good,
                           enum reload_failure failure)
{
	static const enum restart_death deaths[] = {
		[RELOAD_MAY_PASS] = RESTART_USELESS,
		[RELOAD_IS_FINAL] = RESTART_USELESS,
		/* A kill -9 by somebody says nothing about what was being built. */
		[RELOAD_WAS_KILLED] = RESTART_INNOCENT,
		[RELOAD_NO_ROOM] = RESTART_REFUSED,
	};
	bool is_final = failure == RELOAD_IS_FINAL;

	if (model->ledger.good && !was_good) {
		ask_add(model, RELOAD_CAUSE(MODEL_CAUSE_REBUILD));
		/* The old inputs are to serve for a while, not for ever. */
		if (!is_final)
			reload_schedule_again(model);
	} else if (model->ledger.good || !is_final) {
		reload_schedule_restart(model, deaths[failure]);
	} else {
		model_fail_held(model, model_public_error(model));
	}
}

void reload_failed(struct model *model, const char *reason, enum reload_failure failure)
{
	struct inputs *inputs = model->reload.inputs;
	bool was_good = inputs && inputs == model->ledger.good;
	bool is_final = failure == RELOAD_IS_FINAL;

	model_set_last_error(model, reason);
	if (is_final && inputs && !was_good)
		ledger_refuse(&model->ledger, inputs);
	if (!model->ledger.good && !model->is_stopping)
		model_remember_good(model);
	if (!model->is_stopping && !model->fleet.active)
		reload_recover(model, was_good, failure);
	else if (!model->is_stopping && !is_final)
		reload_schedule_again(model);
	reload_finish(model, RECEIPT_FAILED, reason);
	if (was_good && !model->fleet.active && failure != RELOAD_WAS_KILLED &&
	    failure != RELOAD_NO_ROOM)
		trial_on_death(model, reason);
}

void reload_overtake(struct model *model, const char *why)
{
	const struct generation *candidate = model->fleet.candidate;

	/* The candidate is what lies on disk: no crash of another one is to bring it
	 * back. */
	if (candidate->state <= GENERATION_READY && model->reload.is_newest)
		ledger_refuse(&model->ledger, candidate->inputs);
	reload_give_up(model, why);
}

bool reload_is_overtaken(struct model *model)
{
	const unsigned int rollback = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);

	if (!(model->ask.pending & rollback) || model->ask.is_trials ||
	    (model->reload.causes & rollback))
		return false;
	if (model->reload.is_newest && model->reload.inputs)
		ledger_refuse(&model->ledger, model->reload.inputs);
	reload_failed(model, RELOAD_OVERTAKEN, RELOAD_MAY_PASS);
	return true;
}

void reload_call_off(struct model *model, const char *why)
{
	ledger_pardon(&model->ledger);
	model_set_last_error(model, "");
	reload_finish(model, RECEIPT_UNCHANGED, why);
	trial_reopen(model);
	if (!model->fleet.active)
		reload_restart(model, RESTART_INNOCENT);
}

void reload_roll_back_again(struct model *model, struct inputs *inputs)
{
	ledger_ask_back(&model->ledger, inputs);
	(void)model_reload(model, MODEL_CAUSE_ROLLBACK);
}
