/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Chooses what the next generation is built from, and which way it comes in.
 *
 * Inputs: reload_plan_read_inputs() turns the pending causes into known inputs (rollback,
 * rebuild) or reads the disk. Numbers: reload_plan_facts() gathers what main memory has
 * and what a generation is going to need, from what the last one took; strategy_decide()
 * chooses, and the GPU's decision (gpu.c) is joined to that. The choice is made with and
 * without the memory of spare loaders, and again when a candidate is STAGED with other
 * numbers.
 */

#include <stdio.h>
#include <string.h>

#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/reload/reload.h"
#include "supervisor/spares/spares.h"

/* Known inputs, when the causes ask for them instead of what is on disk. */
static struct inputs *reload_plan_known(const struct model *model)
{
	if (model->ask.pending & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK))
		return model->ledger.rollback_to;
	if (model->ask.pending & ~RELOAD_RECOVERY)
		return NULL;
	return model->ask.pending & RELOAD_CAUSE(MODEL_CAUSE_REBUILD) ? model->ledger.good
	                                                              : NULL;
}

int reload_plan_read_inputs(struct model *model, struct inputs **ret_inputs,
                            struct err *err)
{
	bool is_recovery = (model->ask.pending & ~RELOAD_RECOVERY) == 0;
	struct inputs *known = reload_plan_known(model);
	struct inputs *fresh = NULL;
	struct inputs_found found;
	const struct inputs_choice choice = {
		.last = model->fleet.active ? model->fleet.active->inputs
		                            : model->ledger.good,
		.secrets = sources_secrets(model),
		.is_last_try = sources_gives_up(model),
	};
	int r;

	*ret_inputs = inputs_ref(known);
	model->reload.is_newest = !known;
	if (known)
		return 0;
	r = inputs_new(&fresh, model->context.config, model->section, &choice, &found,
	               err);
	if (r == INPUTS_E_UNSETTLED)
		return r;
	sources_note(model, &found);
	model->reload.is_newest = !is_recovery || !model->ledger.good ||
	                          (r == 0 && !inputs_equal(fresh, model->ledger.refused));
	if (!model->reload.is_newest ||
	    (is_recovery && inputs_equal(fresh, model->ledger.good))) {
		inputs_unref(fresh);
		*ret_inputs = inputs_ref(model->ledger.good);
		return 0;
	}
	*ret_inputs = fresh;
	return r;
}

/* Puts @fresh in the place of @last, which is a part of @bytes; savings of a smaller one
 * are not counted on. */
static uint64_t reload_plan_exchange(uint64_t bytes, uint64_t last, uint64_t fresh)
{
	if (last == 0)
		return bytes + fresh;
	if (fresh == 0)
		return saturate_minus(bytes, last);
	return fresh > last ? bytes + fresh - last : bytes;
}

/* Predicts what a generation of @inputs is going to need, from what the last one needed.
 * Until one was measured, the size of the file stands in, and what its engine takes by
 * itself. */
static void reload_plan_predict(const struct model *model, const struct inputs *inputs,
                                struct strategy_facts *facts)
{
	const struct generation *old = fleet_old(&model->fleet);
	const struct inputs *last = old ? old->inputs : model->ledger.good;
	bool is_private = reload_weights_share(model, inputs) == CONFIG_SHARE_OFF;
	struct inputs_footprint known = { 0 };
	uint64_t file = (uint64_t)inputs->file.st_size;
	uint64_t last_file = 0;

	if (last)
		known = last->footprint;
	if (old && old->use.peak_bytes > known.peak_bytes)
		known.peak_bytes = old->use.peak_bytes;
	if (last && known.is_private)
		last_file = (uint64_t)last->file.st_size;
	if (known.peak_bytes == 0) {
		/* A copy is read and another is built from it: whether they can be shared
		 * is not known yet. */
		facts->engine_bytes =
			engine_base_bytes(model->context.bases, inputs->section->engine);
		facts->staged_bytes = facts->engine_bytes;
		facts->need_bytes =
			facts->engine_bytes + (is_private ? file : facts->copy_bytes);
		facts->loading_bytes = facts->need_bytes + file;
		return;
	}
	/* First what the loader holds beside its weights, then the weights. */
	facts->staged_bytes = known.staged_bytes;
	if (facts->staged_bytes == 0)
		facts->staged_bytes = saturate_minus(known.peak_bytes, last_file);
	facts->need_bytes = reload_plan_exchange(known.peak_bytes, last_file,
	                                         is_private ? file : facts->copy_bytes);
	facts->loading_bytes =
		known.loading_bytes == 0
			? facts->need_bytes + (is_private ? file : 0)
			: reload_plan_exchange(known.loading_bytes, 2 * last_file,
	                                       is_private ? 2 * file : facts->copy_bytes);
}

/* True: @without spares is the better strategy. Spare loaders do not make a reload worse
 * than it would be without them. */
static bool reload_plan_prefers(const struct strategy_decision *without,
                                const struct strategy_decision *with)
{
	return with->strategy != STRATEGY_OVERLAP && with->strategy != STRATEGY_HANDOFF &&
	       without->strategy != with->strategy;
}

static struct strategy_facts reload_plan_facts(const struct model *model,
                                               const struct inputs *inputs)
{
	const struct generation *old = fleet_old(&model->fleet);
	struct strategy_facts facts = {
		.device = model->context.device->name,
		.wanted = model->section->strategy,
		.has_old = old != NULL,
		.room = device_room(model->context.device),
	};

	if (old) {
		facts.old_bytes = fleet_replicas_bytes(&model->fleet);
		if (old == model->fleet.active || old == model->fleet.retiring)
			facts.old_bytes += old->use.now_bytes;
		facts.headroom_bytes = old->use.peak_bytes - old->use.now_bytes;
	}
	reload_weights_note(model, inputs, &facts);
	reload_plan_predict(model, inputs, &facts);
	return facts;
}

static uint64_t reload_plan_least(uint64_t bytes, uint64_t least_bytes)
{
	return bytes > least_bytes ? bytes : least_bytes;
}

/* Decides by main memory. The candidate is a spare that holds @own_bytes, which are a part of
 * what the candidate needs, and of what a lean one holds beside the old generation. */
static struct strategy_decision reload_plan_choose(const struct model *model,
                                                   struct strategy_facts *facts,
                                                   uint64_t own_bytes,
                                                   bool *ret_wants_spares_room)
{
	/* The spares as they were just measured. */
	uint64_t spare_bytes = spares_bytes(model->context.spares);
	struct strategy_facts taken;
	struct strategy_decision with;
	struct strategy_decision without;

	device_room_give(&facts->room, own_bytes);
	taken = *facts;
	taken.staged_bytes = reload_plan_least(taken.staged_bytes, own_bytes);
	taken.need_bytes = reload_plan_least(taken.need_bytes, own_bytes);
	taken.loading_bytes = reload_plan_least(taken.loading_bytes, own_bytes);
	with = strategy_decide(&taken);
	device_room_give(&facts->room, spare_bytes - own_bytes);
	without = strategy_decide(facts);
	*ret_wants_spares_room = spare_bytes > 0 && reload_plan_prefers(&without, &with);
	return *ret_wants_spares_room ? without : with;
}

bool reload_may_take_spare(const struct model *model)
{
	return model->section->spare;
}

/* Bytes of the spare that becomes the candidate; they are a part of what that needs. */
static uint64_t reload_plan_spare(const struct model *model, const struct inputs *inputs)
{
	struct recipe recipe;
	struct err err = ERR_NULL;
	uint64_t bytes = 0;

	if (!reload_may_take_spare(model))
		return 0;
	if (recipe_init_spare(&recipe, inputs->config, inputs->section, model->section,
	                      &err) == 0)
		bytes = spares_bytes_to_take(model->context.spares, &recipe);
	recipe_fini(&recipe);
	return bytes;
}

static struct strategy_decision reload_plan_decide(const struct model *model,
                                                   const struct inputs *inputs,
                                                   struct strategy_decision *ret_gpu,
                                                   bool *ret_wants_spares_room)
{
	struct strategy_facts facts = reload_plan_facts(model, inputs);
	struct strategy_decision decision;
	uint64_t own_bytes = reload_plan_spare(model, inputs);

	decision = reload_plan_choose(model, &facts, own_bytes, ret_wants_spares_room);
	*ret_gpu = reload_gpu_decide(model, inputs);
	if (ret_gpu->facts.device)
		strategy_join(&decision, ret_gpu);
	return decision;
}

static struct strategy_decision reload_plan_decide_again(const struct model *model,
                                                         struct strategy_decision *gpu,
                                                         bool *ret_wants_spares_room)
{
	const struct generation *candidate = model->fleet.candidate;
	const struct inputs *inputs = candidate->inputs;
	const struct device_use *use = &candidate->use;
	bool is_private = *candidate->report.why_private.text != '\0';
	uint64_t file_bytes = (uint64_t)inputs->file.st_size;
	uint64_t weights_bytes = candidate->report.weights_bytes;
	struct strategy_facts facts = reload_plan_facts(model, inputs);
	struct strategy_decision decision;

	/* Memory that the candidate holds, or was promised, is a part of what it
	 * needs. */
	device_room_give(&facts.room, use->claim_bytes > use->now_bytes ? use->claim_bytes
	                                                                : use->now_bytes);
	/* The candidate is staged, and reads the rest from the file itself. */
	facts.staged_bytes = use->now_bytes;
	if (weights_bytes > file_bytes)
		facts.need_bytes += weights_bytes - file_bytes;
	facts.loading_bytes = facts.need_bytes;
	/* A copy that the candidate has filled itself was not there before. */
	if (!is_private)
		facts.is_resident = model->reload.decision.facts.is_resident;
	decision = reload_plan_choose(model, &facts, 0, ret_wants_spares_room);
	if (is_private)
		*gpu = reload_gpu_decide(model, inputs);
	if (gpu->facts.device)
		strategy_join(&decision, gpu);
	return decision;
}

/* Spare loaders stand back where the decision counts on their memory. */
static void reload_plan_note(struct model *model, bool wants_spares_room)
{
	if (wants_spares_room)
		spares_make_room(model->context.spares, "a reload needs its memory");
	reload_receipt_note_decision(model);
}

void reload_plan_settle(struct model *model)
{
	struct model_reload *reload = &model->reload;
	bool wants_spares_room;

	reload->decision = reload_plan_decide(model, reload->inputs,
	                                      &reload->gpu_decision, &wants_spares_room);
	reload_plan_note(model, wants_spares_room);
}

void reload_plan_settle_again(struct model *model)
{
	struct model_reload *reload = &model->reload;
	bool wants_spares_room;

	reload->decision = reload_plan_decide_again(model, &reload->gpu_decision,
	                                            &wants_spares_room);
	reload_plan_note(model, wants_spares_room);
}

void reload_plan_take(struct model *model, struct inputs *inputs)
{
	inputs_unref(model->reload.inputs);
	model->reload.inputs = inputs;
}

json_t *model_explain(struct model *model)
{
	struct inputs *inputs;
	struct inputs_found found;
	const struct inputs_choice choice = {
		.last = model->fleet.active ? model->fleet.active->inputs
		                            : model->ledger.good,
	};
	struct err err = ERR_NULL;
	struct strategy_decision decision;
	bool wants_spares_room;
	struct strategy_decision gpu;
	int r;

	r = inputs_new(&inputs, model->context.config, model->section, &choice, &found,
	               &err);
	if (r)
		return json_pack("{s:s,s:{s:s,s:s}}", "model", model->name, "decision",
		                 "strategy", strategy_name(STRATEGY_REFUSED), "why",
		                 r == INPUTS_E_UNSETTLED ? "the secrets are changing now"
		                                         : err.text);
	decision = reload_plan_decide(model, inputs, &gpu, &wants_spares_room);
	inputs_unref(inputs);
	return json_pack("{s:s,s:o,s:o}", "model", model->name, "decision",
	                 strategy_to_json(&decision), "gpu_decision",
	                 gpu.facts.device ? strategy_to_json(&gpu) : json_null());
}
