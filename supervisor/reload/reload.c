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
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/model/model_state.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/loaders/spare.h"

/* How often another loader's copy, and the driver's answer, are looked for. */
#define RELOAD_COPY_LOOK_S    2.
#define RELOAD_FIGURES_LOOK_S .05

static uint64_t reload_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void reload_finish(struct model *model, enum receipt_outcome outcome, const char *reason)
{
	struct receipt *receipt = &model->reload.receipt;

	/* A reload after which nothing serves has failed. */
	if (outcome == RECEIPT_OK && !model->fleet.active)
		outcome = RECEIPT_FAILED;
	receipt->outcome = outcome;
	(void)err_set(&receipt->reason, 0, "%s", reason);
	receipt->total_ms = clock_ns_to_ms(clock_now_ns() - model->reload.started_ns);
	receipt->after = reload_receipt_sample(model);
	reload_gpu_note(model, &receipt->gpu.after_bytes);
	receipt->requests = model->queue.counts;
	receipt->death = model->death;
	model->death.text[0] = '\0';
	receipt->orphans = model->orphans;
	model->orphans = (struct orphans_left){ 0 };
	/* Inputs on disk stay refused while the last good inputs serve instead. */
	if (outcome == RECEIPT_FAILED) {
		(void)err_set(&model->last_error, 0, "%s", reason);
	} else if (model->reload.is_newest) {
		model->last_error.text[0] = '\0';
		reload_again_stop(model);
	}
	reload_enter(model, RELOAD_IDLE);
	loads_end(&model->turn);
	inputs_unref(model->reload.inputs);
	model->reload.inputs = NULL;
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
	reload_try_start(model);
	replicas_adjust(model);
}

void reload_retire_active(struct model *model)
{
	struct generation *old = model->fleet.active;

	generation_keep_place(old, model->fleet.candidate, &model->reload.decision.facts,
	                      &model->reload.gpu_decision.facts);
	fleet_retire(&model->fleet);
	replicas_retire(model);
	generation_apply(old, GENERATION_EV_RETIRE);
}

static void reload_stop_first(struct model *model)
{
	if (!fleet_old(&model->fleet)) {
		reload_spawn(model);
		return;
	}
	reload_enter(model, RELOAD_STOPPING_OLD);
	if (model->fleet.active)
		reload_retire_active(model); /* else the old one is ending already */
}

static void reload_begin(struct model *model)
{
	struct model_reload *reload = &model->reload;
	bool wants_spares_room;

	reload_weights_doubt(model);
	reload->decision = reload_plan_decide(model, reload->inputs,
	                                      &reload->gpu_decision, &wants_spares_room);
	if (wants_spares_room)
		spares_make_room(model->context.spares, "a reload needs its memory");
	reload->receipt.gpu_decision = reload->gpu_decision;
	reload_gpu_note(model, &reload->receipt.gpu.before_bytes);
	reload->receipt.decision = reload->decision;
	log_event(LOG_LEVEL_NOTICE, "reload_begin",
	          "model=%s cause=%s strategy=%s why=%s", model->name,
	          reload->receipt.cause, strategy_name(reload->decision.strategy),
	          LOG_QUOTED(reload->decision.why.text));
	switch (reload->decision.strategy) {
	case STRATEGY_HANDOFF:
	case STRATEGY_OVERLAP:
	case STRATEGY_STAGED:
		reload_spawn(model);
		break;
	case STRATEGY_STOP_FIRST:
		reload_stop_first(model);
		break;
	case STRATEGY_REFUSED:
	case STRATEGY_COUNT:
		reload_failed(model, reload->decision.why.text, RELOAD_NO_ROOM);
		break;
	}
}

/* Takes the pending causes. A rollback does not serve other causes: they come behind
 * it. */
static unsigned int reload_take_causes(struct model *model)
{
	unsigned int causes = model->pending;

	model->pending = 0;
	if (causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) {
		model->pending =
			causes & ~RELOAD_RECOVERY & ~RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);
		causes = RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK);
		ledger_ask_back(&model->ledger, NULL);
	}
	return causes;
}

/* True: the model's turn has come. */
static bool reload_ask_turn(struct model *model)
{
	struct loads_turn *turn = &model->turn;
	const char *path = model->section->path;
	bool was_waiting = loads_is_waiting(turn);
	struct stat st;

	turn->class = model->fleet.active ? LOADS_RELOAD
	              : model->served     ? LOADS_URGENT
	                                  : LOADS_FIRST;
	turn->bytes = path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
	if (loads_ask(model->context.loads, turn))
		return true;
	if (!was_waiting)
		log_event(LOG_LEVEL_INFO, "load_waits",
		          "model=%s reason=\"its turn is to come (loads_at_once)\"",
		          model->name);
	return false;
}

/* True: the reload waits for something that it must know first. */
static bool reload_must_wait(struct model *model, const struct inputs *inputs)
{
	if (reload_weights_wait(model, inputs))
		reload_again_wait(model, RELOAD_COPY_LOOK_S,
		                  "another model's loader copies the same file");
	else if (reload_gpu_wait(model, inputs))
		reload_again_wait(model, RELOAD_FIGURES_LOOK_S,
		                  "the driver has not said yet how full the GPU is");
	else
		return false;
	return true;
}

void reload_try_start(struct model *model)
{
	struct model_reload *reload = &model->reload;
	struct inputs *inputs;
	struct err err = ERR_NULL;
	int r;

	if (reload_in_flight(model))
		return;
	if (model->pending == 0 || model->is_stopping) {
		model->figures_ns = 0;
		loads_end(&model->turn);
		return;
	}
	r = reload_plan_read_inputs(model, &inputs, &err);
	if (r == INPUTS_E_UNSETTLED) {
		loads_end(&model->turn);
		model_watch_retry(model, &err);
		return;
	}
	/* model_on_store() tells when a copy is full. */
	if (r == 0 && reload_must_wait(model, inputs)) {
		loads_end(&model->turn);
		inputs_unref(inputs);
		return;
	}
	if (r == 0 && !reload_ask_turn(model)) {
		inputs_unref(inputs);
		return;
	}
	model->figures_ns = 0;
	ev_timer_stop(model->context.loop, &model->wait);
	ev_timer_stop(model->context.loop, &model->restart);
	if (model->pending & ~RELOAD_RECOVERY)
		ev_timer_stop(model->context.loop, &model->again);
	reload->causes = reload_take_causes(model);
	reload_enter(model, RELOAD_DECIDING);
	reload->inputs = inputs;
	reload_receipt_open(model);
	if (r)
		reload_failed(model, err.text,
		              r == INPUTS_E_REFUSED ? RELOAD_IS_FINAL : RELOAD_MAY_PASS);
	else
		reload_begin(model);
}

bool reload_is_lean(const struct model *model)
{
	enum strategy strategy = model->reload.decision.strategy;

	return strategy != STRATEGY_OVERLAP && strategy != STRATEGY_HANDOFF;
}

uint64_t reload_claim(const struct model *model)
{
	const struct strategy_facts *facts = &model->reload.decision.facts;
	uint64_t beside_bytes = saturate_minus(facts->need_bytes, facts->old_bytes);

	/* The shared copy has a claim of its own. */
	if (!reload_is_lean(model))
		return saturate_minus(reload_max(facts->loading_bytes, facts->need_bytes),
		                      facts->copy_bytes);
	return reload_max(beside_bytes, facts->staged_bytes);
}

/* A spare is for waiting clients; where somebody serves there is time to start a
 * loader. */
bool reload_may_take_spare(const struct model *model)
{
	return !model->fleet.active && model->section->spare;
}

void reload_spawn(struct model *model)
{
	struct model_reload *reload = &model->reload;
	struct generation_start start = {
		.number = numbers_next(model->context.numbers),
		.model = model->name,
		.inputs = reload->inputs,
		.section = model->section,
		.manner = { .is_lean = reload_is_lean(model),
		            .is_urgent = !model->fleet.active,
		            .was_killed =
		                    !model->fleet.active && model->fleet.was_killed },
		.device = model->context.device,
		.claim_bytes = reload_claim(model),
		.spares = reload_may_take_spare(model) ? model->context.spares : NULL,
		.queue = &model->queue,
	};
	struct generation *candidate;
	struct err err = ERR_NULL;
	int r;

	reload_gpu_begin(model, &start);
	r = reload_weights_begin(model, &start, &err);
	if (r == 0)
		r = generation_new(&candidate, model->context.loop, &start,
		                   &model->listener, &err);
	store_copy_unref(start.copy);
	if (r < 0) {
		reload_failed(model, err.text, RELOAD_MAY_PASS);
		return;
	}
	fleet_add_candidate(&model->fleet, candidate);
	reload_enter(model, RELOAD_STAGING);
	reload->receipt.to.generation = candidate->number;
	reload->receipt.to.pid = candidate->pid;
}

uint64_t model_reload(struct model *model, enum model_cause cause)
{
	uint64_t number = model->receipts + 1;

	model->pending |= RELOAD_CAUSE(cause);
	if (!(RELOAD_CAUSE(cause) & RELOAD_RECOVERY))
		reload_again_forget(model);
	if (cause == MODEL_CAUSE_MANUAL || cause == MODEL_CAUSE_SIGNAL)
		reload_weights_forget(model);
	if (!reload_in_flight(model) && !ev_is_active(&model->kick))
		ev_timer_start(model->context.loop, &model->kick);
	return number;
}

void model_on_store(struct model *model)
{
	if (model->pending && !reload_in_flight(model) &&
	    !ev_is_active(&model->unsettled) && !ev_is_active(&model->kick))
		ev_timer_start(model->context.loop, &model->kick);
}

void reload_on_kick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	reload_try_start(timer->data);
}

bool reload_is_expected(const struct model *model)
{
	if (model->deaths.is_failed)
		return false;
	return reload_in_flight(model) || model->pending || ev_is_active(&model->restart);
}

/* The way up */

/* Notes what this generation taught of its inputs. */
static void reload_learn(struct model *model, struct generation *fresh)
{
	const struct generation_report *report = &fresh->report;
	const struct inputs_load load = {
		.is_private = reload_weights_learn(model, fresh),
		/* A loader that turned out not to share went on as a lean one. */
		.is_lean = fresh->is_lean || *report->why_private.text,
		.anon_bytes = report->anon_bytes,
		.loading_bytes = report->loading_bytes,
		.weights_sha256 = report->weights_sha256,
	};

	inputs_learn_load(fresh->inputs, model->ledger.good, &load);
	reload_gpu_learn(fresh);
}

/* Accepts the inputs that serve from now on. True: they are not the ones that served
 * last. */
static bool reload_accept(struct model *model, struct inputs *inputs)
{
	struct ledger *ledger = &model->ledger;
	bool drops_rollback = reload_drops_rollback(model, inputs);
	bool is_back = (model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) ||
	               inputs_equal(ledger->good, ledger->refused);

	if (model->reload.is_newest)
		ledger_pardon(ledger);
	return drops_rollback ? ledger_accept_newer(ledger, inputs)
	                      : ledger_accept(ledger, inputs, is_back);
}

static void reload_swap(struct model *model)
{
	struct generation *fresh = model->fleet.candidate;
	struct generation *old = model->fleet.active;

	reload_receipt_note_candidate(model, fresh);
	reload_learn(model, fresh);
	trial_begin(model, fresh->number, reload_accept(model, fresh->inputs));
	model->reload.receipt.pause_ms = fleet_promote(&model->fleet);
	reload_enter(model, RELOAD_RETIRING);
	loads_end(&model->turn);
	reload_weights_swap(model, fresh);
	restart_on_ready(&model->deaths);
	model_dispatch(model);
	model->context.listener->on_ready(model->context.listener->context, model);
	reload_receipt_note_peak(model);
	replicas_adjust(model);
	if (old)
		generation_apply(old, GENERATION_EV_RETIRE);
	else
		reload_go_on(model);
}

/* The table at work */

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
		break;
	case GENERATION_UNKILLABLE:
		reload_on_unkillable(model, generation);
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
	case GENERATION_RECLAIMING:
	case GENERATION_STATE_COUNT:
		break;
	}
}
