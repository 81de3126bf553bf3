/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is asked for, and how far the reload is that serves it. Everybody asks here;
 * reload/start.c takes what is pending, in the next round of the loop.
 */

#include "shared/log.h"
#include "supervisor/model/members.h"

/* Changes that follow one another are one: so long after the first one somebody looks whether
 * they may overtake what is being built. */
#define ASK_NEWER_S 1.

const char *model_cause_name(enum model_cause cause)
{
	static const char *const names[] = {
		[MODEL_CAUSE_START] = "start",     [MODEL_CAUSE_SECRETS] = "secrets",
		[MODEL_CAUSE_CONFIG] = "config",   [MODEL_CAUSE_FILE] = "model-file",
		[MODEL_CAUSE_CODE] = "code",       [MODEL_CAUSE_SIGNAL] = "signal",
		[MODEL_CAUSE_MANUAL] = "manual",   [MODEL_CAUSE_ROLLBACK] = "rollback",
		[MODEL_CAUSE_REBUILD] = "rebuild", [MODEL_CAUSE_CRASH] = "crash",
		[MODEL_CAUSE_RECYCLE] = "recycle",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == MODEL_CAUSE_COUNT,
	               "one name per cause");
	return names[cause];
}

void ask_init(struct model *model,
              void (*on_kick)(struct ev_loop *loop, ev_timer *timer, int revents),
              void (*on_newer)(struct ev_loop *loop, ev_timer *timer, int revents))
{
	/* A timer of zero delay rings in the next round, and unlike an idle watcher also
	 * under load. */
	ev_timer_init(&model->ask.kick, on_kick, 0., 0.);
	model->ask.kick.data = model;
	ev_timer_init(&model->ask.newer, on_newer, 0., 0.);
	model->ask.newer.data = model;
}

void ask_fini(struct model *model)
{
	ask_drop(model, ~0u);
	ev_timer_stop(model->context.loop, &model->ask.kick);
	ev_timer_stop(model->context.loop, &model->ask.newer);
}

void ask_look_at_newer(struct model *model, double after_s)
{
	ev_timer_stop(model->context.loop, &model->ask.newer);
	ev_timer_set(&model->ask.newer, after_s, 0.);
	ev_timer_start(model->context.loop, &model->ask.newer);
}

void ask_kick(struct model *model)
{
	if (!ev_is_active(&model->ask.kick))
		ev_timer_start(model->context.loop, &model->ask.kick);
}

void ask_note_load(struct model *model, const struct generation *fresh)
{
	uint64_t load_ns = generation_load_ns(fresh);

	/* One from a spare says little about the next one. */
	if (load_ns < model->ask.usual.load_ns / 2)
		load_ns = model->ask.usual.load_ns / 2;
	model->ask.usual = (struct model_usual){ .load_ns = load_ns };
}

void ask_note_overtaken(struct model *model)
{
	model->ask.usual.n_overtaken++;
}

void ask_add(struct model *model, unsigned int causes)
{
	model->ask.pending |= causes;
}

void ask_drop(struct model *model, unsigned int causes)
{
	model->ask.pending &= ~causes;
}

uint64_t model_reload(struct model *model, enum model_cause cause)
{
	uint64_t number = model->receipts + 1;

	if (reload_in_flight(model) && !(model->ask.pending & RELOAD_CAUSE(cause)))
		log_event(LOG_LEVEL_NOTICE, "reload_pending",
		          "model=%s cause=%s reason=\"another reload is under way, and "
		          "this "
		          "one comes when that is over\" step=%s",
		          model->name, model_cause_name(cause),
		          reload_step_name(model->reload.step));
	model->ask.pending |= RELOAD_CAUSE(cause);
	if (!(RELOAD_CAUSE(cause) & RELOAD_RECOVERY))
		model->ask.was_asked = true;
	if (!reload_in_flight(model))
		ask_kick(model);
	else if ((model->ask.pending & RELOAD_NEWER) && !ev_is_active(&model->ask.newer))
		ask_look_at_newer(model, ASK_NEWER_S);
	return number;
}

void model_on_store(struct model *model)
{
	if (model->ask.pending && !reload_in_flight(model) &&
	    !ev_is_active(&model->sources.unsettled))
		ask_kick(model);
}

bool reload_is_expected(const struct model *model)
{
	if (model->retry.deaths.is_failed)
		return false;
	return reload_in_flight(model) || model->ask.pending ||
	       ev_is_active(&model->retry.restart);
}

/* Takes the pending causes. A rollback does not serve other causes: they come behind
 * it. */
unsigned int ask_take(struct model *model)
{
	unsigned int causes = model->ask.pending;

	model->ask.pending = 0;
	model->ask.was_asked = false;
	ev_timer_stop(model->context.loop, &model->ask.newer);
	if (causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) {
		model->ask.pending =
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
	model->ask.is_trials = is_trials;
	if (bad)
		ledger_refuse(&model->ledger, bad);
	*ret_number = model_reload(model, MODEL_CAUSE_ROLLBACK);
	return 0;
}

bool reload_drops_rollback(struct model *model, const struct inputs *inputs)
{
	const unsigned int rollback = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);

	if (!(model->ask.pending & rollback) || !model->ask.is_trials ||
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
