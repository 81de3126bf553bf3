/* SPDX-License-Identifier: Apache-2.0 */

/* Writes down what a reload does as it goes. */

#include "shared/clock.h"
#include "supervisor/reload/reload.h"

enum model_cause reload_receipt_cause(const struct model *model)
{
	for (unsigned int i = 0; i < MODEL_CAUSE_COUNT; i++)
		if (model->reload.causes & (1u << i))
			return (enum model_cause)i;
	return MODEL_CAUSE_MANUAL;
}

struct memory_sample reload_receipt_sample(const struct model *model)
{
	struct memory_sample sample =
		device_sample(model->context.device, reload_weights_bytes(model));

	fleet_add_memory(&model->fleet, &sample);
	return sample;
}

void reload_receipt_open(struct model *model)
{
	struct receipt *receipt = &model->reload.receipt;

	*receipt = (struct receipt){
		.number = ++model->receipts,
		.time_ms = clock_unix_ms(),
		.model = model->name,
		.cause = model_cause_name(reload_receipt_cause(model)),
		.recycle = recycle_take_why(model),
		.before = reload_receipt_sample(model),
	};
	model->reload.started_ns = clock_now_ns();
	if (model->fleet.active) {
		receipt->from.generation = model->fleet.active->number;
		receipt->from.pid = model->fleet.active->pid;
	}
}

void reload_receipt_note_decision(struct model *model)
{
	struct receipt *receipt = &model->reload.receipt;

	receipt->decision = model->reload.decision;
	receipt->gpu_decision = model->reload.gpu_decision;
	/* Before anything is started for the first time. */
	if (!model->fleet.candidate)
		reload_gpu_note(model, &receipt->gpu.before_bytes);
}

void reload_receipt_note_start(struct model *model, const struct generation *candidate)
{
	struct receipt_side *to = &model->reload.receipt.to;

	to->generation = candidate->number;
	to->pid = candidate->pid;
}

void reload_receipt_note_pause(struct model *model, double pause_ms)
{
	model->reload.receipt.pause_ms = pause_ms;
}

void reload_receipt_close(struct model *model, enum receipt_outcome outcome,
                          const char *reason)
{
	struct receipt *receipt = &model->reload.receipt;

	receipt->outcome = outcome;
	(void)err_set(&receipt->reason, 0, "%s", reason);
	receipt->total_ms = clock_ns_to_ms(clock_now_ns() - model->reload.started_ns);
	receipt->after = reload_receipt_sample(model);
	reload_gpu_note(model, &receipt->gpu.after_bytes);
	receipt->requests = model->queue.counts;
	receipt->death = model->death;
	model_note_death(model, "");
	receipt->orphans = model->orphans;
	model->orphans = (struct orphans_left){ 0 };
}

void reload_receipt_note_candidate(struct model *model,
                                   const struct generation *candidate)
{
	struct receipt *receipt = &model->reload.receipt;

	/* A spare that was of no use has been replaced meanwhile. */
	receipt->to.pid = candidate->pid;
	receipt->took_spare = candidate->spares != NULL;
	receipt->spawn_ms = generation_phase_ms(candidate, GENERATION_SPAWNED);
	receipt->stage_ms = generation_phase_ms(candidate, GENERATION_STAGING);
	receipt->weights_ms = candidate->report.weights_ms;
	receipt->engine_ms = candidate->report.engine_ms;
	receipt->module_ms = candidate->report.module_ms;
	receipt->prefill_ms = candidate->report.prefill_ms;
	receipt->gpu.prefilled_bytes = candidate->report.prefilled_bytes;
	receipt->commit_ms = generation_phase_ms(candidate, GENERATION_COMMITTING);
	receipt->warmup_ms = generation_phase_ms(candidate, GENERATION_WARMING);
	receipt->swap_ms = generation_phase_ms(candidate, GENERATION_READY);
	receipt->golden = candidate->report.golden;
	receipt->walls = candidate->report.walls;
	receipt->walls_missing = candidate->report.walls_missing;
}

void reload_receipt_note_retired(struct model *model, const struct generation *retired)
{
	struct receipt *receipt = &model->reload.receipt;

	receipt->drain_ms = generation_phase_ms(retired, GENERATION_DRAINING);
	receipt->stop_ms = generation_phase_ms(retired, GENERATION_STOPPING) +
	                   generation_phase_ms(retired, GENERATION_TERMINATING) +
	                   generation_phase_ms(retired, GENERATION_KILLING);
	receipt->reclaim_ms = generation_phase_ms(retired, GENERATION_RECLAIMING);
	reload_gpu_note_reclaim(model, retired);
}

void reload_receipt_note_orphans(struct model *model, const struct generation *dead)
{
	if (dead->reclaim.orphans.n > 0)
		orphans_sum(&model->orphans, &dead->reclaim.orphans);
}

void reload_receipt_note_peak(struct model *model)
{
	struct generation *old = model->fleet.retiring;
	struct receipt *receipt = &model->reload.receipt;

	receipt->peak = reload_receipt_sample(model);
	if (old)
		device_sample_add(&receipt->peak, &old->use, old->report.pss_bytes);
	reload_gpu_note(model, &receipt->gpu.peak_bytes);
}
