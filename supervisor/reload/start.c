/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The beginning of a reload: what is pending is taken, inputs are read, and numbers decide
 * which way the next generation takes. A reload that has to know something first, or whose
 * turn is yet to come, stays pending.
 */

#include <sys/stat.h>

#include "shared/log.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/reload/reload.h"

/* How often another loader's copy, and the driver's answer, are looked for. */
#define RELOAD_COPY_LOOK_S    2.
#define RELOAD_FIGURES_LOOK_S .05

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
	const struct model_reload *reload = &model->reload;

	reload_weights_doubt(model);
	reload_plan_settle(model);
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
	if (model->ask.pending == 0 || model->is_stopping) {
		reload_gpu_forget_wait(model);
		loads_end(&model->turn);
		return;
	}
	if (model->ask.pending &
	    (RELOAD_CAUSE(MODEL_CAUSE_MANUAL) | RELOAD_CAUSE(MODEL_CAUSE_SIGNAL)))
		reload_weights_forget(model);
	if (model->ask.was_asked)
		reload_again_forget(model);
	r = reload_plan_read_inputs(model, &inputs, &err);
	if (r == INPUTS_E_UNSETTLED) {
		loads_end(&model->turn);
		sources_retry(model, &err);
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
	reload_gpu_forget_wait(model);
	reload_again_begin(model);
	reload->causes = ask_take(model);
	reload_enter(model, RELOAD_DECIDING);
	reload_plan_take(model, inputs);
	reload_receipt_open(model);
	if (r)
		reload_failed(model, err.text,
		              r == INPUTS_E_REFUSED ? RELOAD_IS_FINAL : RELOAD_MAY_PASS);
	else
		reload_begin(model);
}
