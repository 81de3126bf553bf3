/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way back to what served before: asked for by a person, or by the watch window.
 *
 * A person means what serves now and wants it gone. What is being built meanwhile is
 * ended, for it would get the traffic in between, and is not tried again by itself. The
 * watch window judges what serves and nothing else: what is on its way may be the cure.
 */

#include <errno.h>

#include "shared/log.h"
#include "supervisor/model/model_state.h"

#define RELOAD_OVERTAKEN "ended before it served: a rollback was asked for"

int reload_ask_rollback(struct model *model, uint64_t *ret_number, struct err *err)
{
	/* Within the watch window the inputs that came last are to go, dead or alive. */
	struct inputs *bad = trial_is_open(model) ? model->ledger.good : NULL;
	struct inputs *target;
	int r;

	if (model->fleet.active)
		bad = model->fleet.active->inputs;
	r = ledger_way_back(&model->ledger, model->name, bad, &target, err);
	if (r < 0)
		return r;
	ledger_ask_back(&model->ledger, target);
	model->trial.has_asked = false;
	if (bad)
		ledger_refuse(&model->ledger, bad);
	*ret_number = model_reload(model, MODEL_CAUSE_ROLLBACK);
	return 0;
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

int model_rollback(struct model *model, uint64_t *ret_number, struct err *err)
{
	const struct inputs *building = reload_in_flight(model) && !model->fleet.active
	                                        ? model->reload.inputs
	                                        : NULL;
	bool is_asked;
	int r;

	if (reload_in_flight(model) && model->fleet.candidate)
		building = model->reload.inputs;
	r = reload_ask_rollback(model, ret_number, err);
	if (r < 0)
		return r;
	is_asked = arbiter_drop(model);
	if (!building || building != model->ledger.rollback_to || is_asked) {
		reload_tell(model, RELOAD_EV_OVERTAKEN, NULL, RELOAD_OVERTAKEN);
		return 0;
	}
	/* The very same inputs are on their way, and a person wants them, whatever the
	 * arbiter would say. */
	model->pending &= ~RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);
	ledger_ask_back(&model->ledger, NULL);
	*ret_number = model->receipts;
	return 0;
}

bool reload_is_overtaken(struct model *model)
{
	const unsigned int rollback = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);

	if (!(model->pending & rollback) || model->trial.has_asked ||
	    (model->reload.causes & rollback))
		return false;
	if (model->reload.is_newest && model->reload.inputs)
		ledger_refuse(&model->ledger, model->reload.inputs);
	reload_failed(model, RELOAD_OVERTAKEN, RELOAD_MAY_PASS);
	return true;
}

bool reload_drops_rollback(struct model *model, const struct inputs *inputs)
{
	const unsigned int rollback = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);

	if (!(model->pending & rollback) || !model->trial.has_asked ||
	    !model->reload.is_newest || inputs_equal(inputs, model->ledger.refused))
		return false;
	model->pending &= ~rollback;
	log_event(LOG_LEVEL_NOTICE, "rollback_dropped",
	          "model=%s reason=\"newer inputs serve\"", model->name);
	return true;
}

void reload_call_off(struct model *model, const char *why)
{
	ledger_pardon(&model->ledger);
	model->last_error.text[0] = '\0';
	reload_finish(model, RECEIPT_UNCHANGED, why);
	trial_reopen(model);
	if (!model->fleet.active && !reload_in_flight(model))
		reload_schedule_restart(model, RESTART_INNOCENT);
}

void reload_roll_back_again(struct model *model, struct inputs *inputs)
{
	ledger_ask_back(&model->ledger, inputs);
	(void)model_reload(model, MODEL_CAUSE_ROLLBACK);
}
