/* SPDX-License-Identifier: Apache-2.0 */

/* Starts the candidate, with its claim to main memory, and retires the old generation. */

#include "shared/saturate.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/reload/reload.h"

static uint64_t reload_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
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

void reload_spawn(struct model *model)
{
	const struct model_reload *reload = &model->reload;
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
	reload_receipt_note_start(model, candidate);
}

void reload_retire_active(struct model *model)
{
	struct generation *old = model->fleet.active;

	generation_keep_place(old, model->fleet.candidate, &model->reload.decision.facts,
	                      &model->reload.gpu_decision.facts);
	fleet_retire(&model->fleet);
	fleet_retire_replicas(&model->fleet, true);
	generation_apply(old, GENERATION_EV_RETIRE);
}
