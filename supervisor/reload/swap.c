/* SPDX-License-Identifier: Apache-2.0 */

/* The candidate serves from now on: what it taught is noted, and the traffic is its own. */

#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"

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

void reload_swap(struct model *model)
{
	struct generation *fresh = model->fleet.candidate;
	struct generation *old = model->fleet.active;

	reload_receipt_note_candidate(model, fresh);
	reload_learn(model, fresh);
	ask_note_load(model, fresh);
	trial_begin(model, fresh->number, reload_accept(model, fresh->inputs));
	reload_receipt_note_pause(model, fleet_promote(&model->fleet));
	reload_enter(model, RELOAD_RETIRING);
	loads_end(&model->turn);
	reload_weights_swap(model, fresh);
	restart_on_ready(&model->retry.deaths);
	model_dispatch(model);
	model->context.listener->on_ready(model->context.listener->context, model);
	reload_receipt_note_peak(model);
	if (old)
		generation_apply(old, GENERATION_EV_RETIRE);
}
