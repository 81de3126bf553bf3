/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory of the GPU that a model computes on: decided like main memory, and by the
 * same rules. A lean candidate takes none of it before COMMIT, but for the part that the
 * decision gives it to begin with (prefill).
 *
 * reload_gpu_decide() gathers the facts for devices/strategy.h. reload_gpu_begin(),
 * reload_gpu_claim() and reload_gpu_claim_all() turn a decision into claims of the
 * candidate, so that other models do not count on the same bytes. The rest is for
 * replicas, for what is learnt of the inputs, and for the receipt.
 */

#include <errno.h>

#include "shared/clock.h"
#include "shared/saturate.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/reload/reload.h"

/* A busy machine may make the process that asks the driver wait; the old generation
 * serves on. */
#define RELOAD_GPU_WAIT_NS (5 * CLOCK_NS_PER_SEC)

static struct device *reload_gpu(const struct model *model, const struct inputs *inputs)
{
	return devices_gpu(model->context.devices, inputs->section->device);
}

/* Bytes of the old generation's loaders beside the one that leads. */
static uint64_t reload_gpu_replicas_bytes(const struct model *model,
                                          const struct device *gpu)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (model->fleet.replicas[i] &&
		    model->fleet.replicas[i]->gpu_use.device == gpu)
			bytes += model->fleet.replicas[i]->gpu_use.now_bytes;
	return bytes;
}

/* The most that was measured of the last generation; 0: nothing was. */
static uint64_t reload_gpu_peak(const struct model *model)
{
	const struct generation *old = fleet_old(&model->fleet);
	const struct inputs *last = old ? old->inputs : model->ledger.good;
	uint64_t peak = last ? last->footprint.gpu_peak_bytes : 0;

	return old && old->gpu_use.peak_bytes > peak ? old->gpu_use.peak_bytes : peak;
}

/* Predicts the bytes that a generation of @inputs needs. Until one was measured, the size
 * of the file stands in. */
static uint64_t reload_gpu_predict(const struct model *model, const struct inputs *inputs)
{
	const struct generation *old = fleet_old(&model->fleet);
	const struct inputs *last = old ? old->inputs : model->ledger.good;
	bool is_shared = reload_weights_gpu(model, inputs) != NULL;
	uint64_t file = (uint64_t)inputs->file.st_size;
	uint64_t peak = reload_gpu_peak(model);
	uint64_t last_file = last ? (uint64_t)last->file.st_size : 0;

	/* Beside weights that are there already nothing is known. */
	if (peak == 0)
		return reload_weights_placed(model, inputs) ? 0 : file;
	if (last->footprint.is_gpu_shared)
		return reload_weights_placed(model, inputs) ? peak : peak + file;
	if (is_shared && reload_weights_placed(model, inputs))
		return saturate_minus(peak, last_file);
	/* Savings of a smaller file are not counted on. */
	return peak + saturate_minus(file, last_file);
}

bool reload_gpu_wait(struct model *model, const struct inputs *inputs)
{
	struct device *gpu = reload_gpu(model, inputs);
	uint64_t now_ns = clock_now_ns();

	/* After that time the reload goes on as without a driver. */
	if (!gpu || !fleet_old(&model->fleet) || device_measure(gpu) ||
	    !device_is_asked(gpu, model->figures_ns) ||
	    (model->figures_ns && now_ns - model->figures_ns > RELOAD_GPU_WAIT_NS))
		return false;
	if (!model->figures_ns)
		model->figures_ns = now_ns;
	return true;
}

void reload_gpu_forget_wait(struct model *model)
{
	model->figures_ns = 0;
}

/* Gives back what a candidate of @inputs that is there already holds, or was promised:
 * that is a part of what it needs. */
static void reload_gpu_give_back(const struct model *model, const struct inputs *inputs,
                                 struct device *gpu, struct device_room *room)
{
	const struct generation *candidate = model->fleet.candidate;
	uint64_t bytes;

	if (!candidate || candidate->inputs != inputs || candidate->gpu_use.device != gpu)
		return;
	bytes = candidate->gpu_use.claim_bytes > candidate->gpu_use.now_bytes
	                ? candidate->gpu_use.claim_bytes
	                : candidate->gpu_use.now_bytes;
	device_room_give(room, bytes);
}

struct strategy_decision reload_gpu_decide(const struct model *model,
                                           const struct inputs *inputs)
{
	const struct generation *old = fleet_old(&model->fleet);
	struct device *gpu = reload_gpu(model, inputs);
	struct strategy_facts facts = { .wanted = model->section->strategy,
		                        .has_old = old != NULL };
	struct strategy_decision refusal = { .strategy = STRATEGY_REFUSED };

	if (devices_check(model->context.devices, inputs->section->device, &refusal.why) <
	    0) {
		refusal.facts.device = inputs->section->device;
		return refusal;
	}
	if (!gpu)
		return (struct strategy_decision){ 0 };
	facts.device = gpu->name;
	facts.room = device_room(gpu);
	reload_gpu_give_back(model, inputs, gpu, &facts.room);
	facts.is_exclusive = device_is_exclusive(gpu);
	if (device_is_prohibited(gpu)) {
		(void)err_set(&refusal.why, 0,
		              "the compute mode of %s lets nobody use it: nvidia-smi -c "
		              "DEFAULT",
		              gpu->name);
		refusal.facts.device = gpu->name;
		return refusal;
	}
	if (old) {
		facts.old_bytes = reload_gpu_replicas_bytes(model, gpu);
		if (old->gpu_use.device == gpu &&
		    (old == model->fleet.active || old == model->fleet.retiring)) {
			facts.old_bytes +=
				old->gpu_use.unseen_ns && old->gpu_use.claim_bytes >
								  old->gpu_use.now_bytes
					? old->gpu_use.claim_bytes
					: old->gpu_use.now_bytes;
			facts.headroom_bytes = saturate_minus(old->gpu_use.peak_bytes,
			                                      old->gpu_use.now_bytes);
		}
	}
	facts.is_resident = reload_weights_placed(model, inputs) != NULL;
	if (model->copy != reload_weights_placed(model, inputs))
		facts.resident_bytes = reload_weights_gpu_bytes(model, gpu);
	facts.old_bytes += facts.resident_bytes;
	facts.need_bytes = facts.loading_bytes = reload_gpu_predict(model, inputs);
	if (reload_weights_gpu(model, inputs) && !facts.is_resident)
		facts.weights_bytes = (uint64_t)inputs->file.st_size;
	/* Where nobody serves, prefilling gains nothing. */
	facts.may_prefill = facts.weights_bytes > 0 && old &&
	                    old == model->fleet.active && reload_gpu_peak(model) > 0;
	facts.peaks_bytes = device_peaks(gpu, old ? &old->gpu_use : NULL);
	return strategy_decide(&facts);
}

void reload_gpu_begin(const struct model *model, struct generation_start *start)
{
	const struct strategy_decision *decision = &model->reload.gpu_decision;
	const struct strategy_facts *facts = &decision->facts;
	uint64_t beside_bytes = saturate_minus(facts->need_bytes, facts->old_bytes);
	uint64_t ahead_bytes = decision->prefill_bytes +
	                       saturate_minus(facts->need_bytes, facts->weights_bytes);

	start->gpu = reload_gpu(model, start->inputs);
	start->gpu_claim_bytes = start->manner.is_lean ? beside_bytes : facts->need_bytes;
	start->gpu_weights_bytes = facts->weights_bytes;
	start->manner.prefill_bytes = decision->prefill_bytes;
	if (decision->prefill_bytes > 0 && start->gpu_claim_bytes < ahead_bytes)
		start->gpu_claim_bytes = ahead_bytes;
}

void reload_gpu_claim(const struct model *model, struct generation *candidate)
{
	const struct strategy_facts *facts = &model->reload.gpu_decision.facts;

	if (!*candidate->report.why_private.text)
		return;
	generation_claim_gpu(candidate,
	                     candidate->is_lean
	                             ? saturate_minus(facts->need_bytes, facts->old_bytes)
	                             : facts->need_bytes,
	                     facts->weights_bytes);
}

void reload_gpu_claim_all(const struct model *model, struct generation *candidate)
{
	const struct strategy_facts *facts = &model->reload.gpu_decision.facts;
	const struct store_copy *scrap = candidate->copy ? candidate->copy->scrap : NULL;
	uint64_t scrap_bytes = scrap ? scrap->use.memory_bytes : 0;
	uint64_t weights_bytes = saturate_minus(facts->weights_bytes, scrap_bytes);

	/* The prefilled weights are there beside the scrap as long as the scrap is
	 * whole. */
	if (weights_bytes < candidate->report.prefilled_bytes)
		weights_bytes = candidate->report.prefilled_bytes;
	generation_claim_gpu(candidate,
	                     saturate_minus(facts->need_bytes, facts->weights_bytes) +
	                             weights_bytes,
	                     weights_bytes);
}

bool reload_gpu_is_refused(const struct model *model, const struct generation *retired,
                           struct err *ret_why)
{
	const struct generation *candidate = model->fleet.candidate;
	struct device *gpu =
		model->reload.inputs ? reload_gpu(model, model->reload.inputs) : NULL;
	uint64_t need_bytes = model->reload.gpu_decision.facts.need_bytes;
	struct device_room room;
	uint64_t free_bytes;

	/* A generation that has placed its weights needs no more. */
	if (retired->reclaim.verdict != RECLAIM_RESIDUAL || !gpu || model->fleet.active)
		return false;
	room = device_room(gpu);
	free_bytes = room.available_bytes;
	/* The old weights are there still, for their chunks. */
	if (free_bytes != UINT64_MAX && (!candidate || candidate->copy != model->copy))
		free_bytes += reload_weights_gpu_bytes(model, gpu);
	/* Neither the candidate's own claim nor what it has already stands in its way. */
	if (candidate && free_bytes != UINT64_MAX)
		free_bytes += candidate->gpu_use.now_bytes +
		              saturate_minus(candidate->gpu_use.claim_bytes,
		                             candidate->gpu_use.now_bytes);
	if (free_bytes >= need_bytes)
		return false;
	(void)err_set(ret_why, 0,
	              "not enough memory: %.1f MiB are needed and %.1f MiB are "
	              "free; %.320s",
	              (double)need_bytes / 1048576.0, (double)free_bytes / 1048576.0,
	              retired->reclaim.residue.text);
	return true;
}

static int reload_gpu_find_room(struct device *gpu, uint64_t need_bytes,
                                uint64_t own_bytes, struct err *err)
{
	if (device_has_room(gpu, need_bytes, own_bytes))
		return 0;
	return err_set(err, -ENOMEM,
	               "another loader needs %.1f MiB of %s, and that is not free: raise "
	               "its budget, free memory, or set fewer replicas",
	               (double)need_bytes / 1048576.0, gpu->name);
}

int reload_gpu_check_private(const struct model *model, struct generation *replica,
                             struct err *err)
{
	const struct device_use *use = &replica->gpu_use;
	uint64_t own_bytes =
		use->claim_bytes > use->now_bytes ? use->claim_bytes : use->now_bytes;
	uint64_t need_bytes = model->fleet.active->gpu_use.peak_bytes;
	int r;

	if (!use->device)
		return 0;
	if (model->fleet.active->gpu_use.mapped_bytes > 0)
		need_bytes += (uint64_t)replica->inputs->file.st_size;
	r = reload_gpu_find_room(use->device, need_bytes, own_bytes, err);
	if (r == 0)
		generation_claim_gpu(replica, need_bytes, 0);
	return r;
}

int reload_gpu_begin_replica(const struct model *model, struct generation_start *start,
                             struct err *err)
{
	uint64_t need_bytes = model->fleet.active->gpu_use.peak_bytes;
	int r = devices_check(model->context.devices, start->inputs->section->device,
	                      err);

	if (r < 0)
		return r;
	start->gpu = reload_gpu(model, start->inputs);
	start->gpu_claim_bytes = need_bytes;
	if (!start->gpu)
		return 0;
	(void)device_measure(start->gpu);
	if (device_is_exclusive(start->gpu))
		return err_set(
			err, -EBUSY,
			"the compute mode of %s lets one process use it at a time: "
			"set replicas = 1, or nvidia-smi -c DEFAULT",
			start->gpu->name);
	return reload_gpu_find_room(start->gpu, need_bytes, 0, err);
}

void reload_gpu_learn(struct generation *generation)
{
	inputs_learn_gpu_peak(generation->inputs, generation->gpu_use.peak_bytes,
	                      generation->gpu_use.mapped_bytes > 0);
}

void reload_gpu_note(struct model *model, uint64_t *ret_bytes)
{
	struct receipt_gpu *receipt = &model->reload.receipt.gpu;
	const struct inputs *inputs = model->reload.inputs;
	struct device *gpu = inputs ? reload_gpu(model, inputs) : NULL;
	struct device_figures figures;
	bool is_fresh;

	if (!gpu)
		return;
	is_fresh = device_measure(gpu);
	figures = device_figures(gpu);
	receipt->device = gpu->name;
	receipt->uuid = gpu->uuid;
	*ret_bytes = is_fresh && figures.is_known ? figures.used_bytes : UINT64_MAX;
}

void reload_gpu_note_reclaim(struct model *model, const struct generation *dead)
{
	struct receipt_gpu *receipt = &model->reload.receipt.gpu;
	const struct generation_reclaim *reclaim = &dead->reclaim;

	if (reclaim->verdict == RECLAIM_NONE || !receipt->device)
		return;
	receipt->verdict = reclaim->verdict;
	receipt->reaped_ms = generation_phase_ms(dead, GENERATION_STOPPING) +
	                     generation_phase_ms(dead, GENERATION_TERMINATING) +
	                     generation_phase_ms(dead, GENERATION_KILLING) +
	                     generation_phase_ms(dead, GENERATION_FAILED);
	receipt->unlisted_ms =
		reclaim->unlisted_ns
			? clock_ns_to_ms(reclaim->unlisted_ns - reclaim->reaped_ns)
			: -1;
	receipt->freed_ms =
		reclaim->freed_ns ? clock_ns_to_ms(reclaim->freed_ns - reclaim->reaped_ns)
				  : -1;
	receipt->residual_bytes = reclaim->residual_bytes;
	receipt->residue = reclaim->residue;
	receipt->xid = reclaim->xid;
}
