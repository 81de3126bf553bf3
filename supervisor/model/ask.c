/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is asked for, and how far the reload is that serves it. Everybody asks here;
 * reload/start.c takes what is pending, in the next round of the loop.
 */

#include "shared/log.h"
#include "supervisor/model/model_state.h"

void ask_init(struct model *model,
              void (*on_kick)(struct ev_loop *loop, ev_timer *timer, int revents))
{
	/* A timer of zero delay rings in the next round, and unlike an idle watcher also
	 * under load. */
	ev_timer_init(&model->kick, on_kick, 0., 0.);
	model->kick.data = model;
}

void ask_fini(struct model *model)
{
	ask_drop(model, ~0u);
	ev_timer_stop(model->context.loop, &model->kick);
}

void ask_kick(struct model *model)
{
	if (!ev_is_active(&model->kick))
		ev_timer_start(model->context.loop, &model->kick);
}

void ask_add(struct model *model, unsigned int causes)
{
	model->pending |= causes;
}

void ask_drop(struct model *model, unsigned int causes)
{
	model->pending &= ~causes;
}

uint64_t model_reload(struct model *model, enum model_cause cause)
{
	uint64_t number = model->receipts + 1;

	model->pending |= RELOAD_CAUSE(cause);
	if (!(RELOAD_CAUSE(cause) & RELOAD_RECOVERY))
		model->was_asked = true;
	if (!reload_in_flight(model))
		ask_kick(model);
	return number;
}

void model_on_store(struct model *model)
{
	if (model->pending && !reload_in_flight(model) &&
	    !ev_is_active(&model->unsettled))
		ask_kick(model);
}

bool reload_is_expected(const struct model *model)
{
	if (model->deaths.is_failed)
		return false;
	return reload_in_flight(model) || model->pending || ev_is_active(&model->restart);
}

/* Takes the pending causes. A rollback does not serve other causes: they come behind
 * it. */
unsigned int ask_take(struct model *model)
{
	unsigned int causes = model->pending;

	model->pending = 0;
	model->was_asked = false;
	if (causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) {
		model->pending =
			causes & ~RELOAD_RECOVERY & ~RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);
		causes = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);
		ledger_ask_back(&model->ledger, NULL);
	}
	return causes;
}

int reload_ask_rollback(struct model *model, bool is_trials, uint64_t *ret_number,
                        struct err *err)
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
	model->is_trials = is_trials;
	if (bad)
		ledger_refuse(&model->ledger, bad);
	*ret_number = model_reload(model, MODEL_CAUSE_ROLLBACK);
	return 0;
}

bool reload_drops_rollback(struct model *model, const struct inputs *inputs)
{
	const unsigned int rollback = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);

	if (!(model->pending & rollback) || !model->is_trials ||
	    !model->reload.is_newest || inputs_equal(inputs, model->ledger.refused))
		return false;
	ask_drop(model, rollback);
	log_event(LOG_LEVEL_NOTICE, "rollback_dropped",
	          "model=%s reason=\"newer inputs serve\"", model->name);
	return true;
}

/* The step of the reload */

void reload_enter(struct model *model, enum reload_step step)
{
	enum reload_step from = model->reload.step;

	if (!reload_may_follow(from, step))
		log_event(LOG_LEVEL_ERR, "reload_unexpected", "model=%s step=%s next=%s",
		          model->name, reload_step_name(from), reload_step_name(step));
	log_event(LOG_LEVEL_DEBUG, "reload_step", "model=%s from=%s to=%s", model->name,
	          reload_step_name(from), reload_step_name(step));
	model->reload.step = step;
}

void reload_give_up(struct model *model, const char *why)
{
	struct generation *candidate = model->fleet.candidate;
	struct err failure;

	if (candidate->state > GENERATION_READY)
		return;
	reload_enter(model, RELOAD_GIVING_UP);
	(void)err_set(&failure, 0, "%s", why ? why : "");
	generation_dismiss(candidate, &failure);
}
