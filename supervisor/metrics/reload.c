/* SPDX-License-Identifier: Apache-2.0 */

/* Families of /metrics about reloads: how many, and the last receipt of each model. */

#include <stddef.h>

#include "supervisor/metrics/all.h"
#include "supervisor/model/model.h"
#include "supervisor/parts/receipt.h"

struct metric_part {
	const char *label;
	size_t offset; /* in struct receipt */
};

static const struct metric_part metrics_phases[] = {
	{ "spawn", offsetof(struct receipt, spawn_ms) },
	{ "stage", offsetof(struct receipt, stage_ms) },
	{ "stage_weights", offsetof(struct receipt, weights_ms) },
	{ "stage_engine", offsetof(struct receipt, engine_ms) },
	{ "stage_module", offsetof(struct receipt, module_ms) },
	{ "stage_prefill", offsetof(struct receipt, prefill_ms) },
	{ "commit", offsetof(struct receipt, commit_ms) },
	{ "warmup", offsetof(struct receipt, warmup_ms) },
	{ "swap", offsetof(struct receipt, swap_ms) },
	{ "pause", offsetof(struct receipt, pause_ms) },
	{ "drain", offsetof(struct receipt, drain_ms) },
	{ "stop", offsetof(struct receipt, stop_ms) },
	{ "reclaim", offsetof(struct receipt, reclaim_ms) },
	{ "total", offsetof(struct receipt, total_ms) },
};

static const struct metric_part metrics_moments[] = {
	{ "before", offsetof(struct receipt, before) },
	{ "peak", offsetof(struct receipt, peak) },
	{ "after", offsetof(struct receipt, after) },
};

static const struct metric_part metrics_gpu[] = {
	{ "before", offsetof(struct receipt, gpu.before_bytes) },
	{ "peak", offsetof(struct receipt, gpu.peak_bytes) },
	{ "after", offsetof(struct receipt, gpu.after_bytes) },
	{ "prefilled", offsetof(struct receipt, gpu.prefilled_bytes) },
	{ "residual", offsetof(struct receipt, gpu.residual_bytes) },
};

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const void *metrics_part(const struct receipt *receipt,
                                const struct metric_part *part)
{
	return (const char *)receipt + part->offset;
}

/* Writes likely outcomes from the start: a series that begins with its first failure
 * shows no rise. */
static void metrics_reloads_of(struct metrics *metrics, const struct model *model)
{
	for (unsigned int i = 0; i < MODEL_CAUSE_COUNT; i++)
		for (unsigned int j = 0; j < RECEIPT_OUTCOME_COUNT; j++) {
			const struct metrics_label labels[] = {
				{ "model", model_name(model) },
				{ "cause", model_cause_name((enum model_cause)i) },
				{ "outcome",
				  receipt_outcome_name((enum receipt_outcome)j) },
			};
			uint64_t n = model_reloads(model, (enum model_cause)i,
			                           (enum receipt_outcome)j);

			if (n > 0 || j != RECEIPT_UNCHANGED)
				metrics_put(metrics, labels, COUNT(labels), n);
		}
}

static void metrics_phases_of(struct metrics *metrics, const struct model *model,
                              const struct receipt *receipt)
{
	for (size_t i = 0; i < COUNT(metrics_phases); i++) {
		const struct metrics_label labels[] = {
			{ "model", model_name(model) },
			{ "phase", metrics_phases[i].label },
		};
		const double *ms = metrics_part(receipt, &metrics_phases[i]);

		metrics_put_ns(metrics, labels, COUNT(labels), (uint64_t)(*ms * 1e6));
	}
}

static void metrics_memory_of(struct metrics *metrics, const struct model *model,
                              const struct receipt *receipt)
{
	for (size_t i = 0; i < COUNT(metrics_moments); i++) {
		const struct memory_sample *sample =
			metrics_part(receipt, &metrics_moments[i]);
		const struct metrics_label labels[] = {
			{ "model", model_name(model) },
			{ "at", metrics_moments[i].label },
		};

		metrics_put(metrics, labels, COUNT(labels),
		            sample->loader_anon_bytes + sample->shared_bytes);
	}
}

static void metrics_gpu_of(struct metrics *metrics, const struct model *model,
                           const struct receipt *receipt)
{
	for (size_t i = 0; receipt->gpu.device && i < COUNT(metrics_gpu); i++) {
		const uint64_t *bytes = metrics_part(receipt, &metrics_gpu[i]);
		const struct metrics_label labels[] = {
			{ "model", model_name(model) },
			{ "at", metrics_gpu[i].label },
		};

		if (*bytes != UINT64_MAX)
			metrics_put(metrics, labels, COUNT(labels), *bytes);
	}
}

void metrics_add_reloads(struct metrics *metrics, const struct model *const *models)
{
	static const struct {
		enum metrics_id id;
		void (*put)(struct metrics *metrics, const struct model *model,
		            const struct receipt *receipt);
	} rows[] = {
		{ METRICS_RELOAD_SECONDS, metrics_phases_of },
		{ METRICS_RELOAD_MEMORY_BYTES, metrics_memory_of },
		{ METRICS_RELOAD_GPU_BYTES, metrics_gpu_of },
	};

	metrics_begin(metrics, METRICS_RELOADS);
	for (size_t i = 0; models[i]; i++)
		metrics_reloads_of(metrics, models[i]);
	for (size_t row = 0; row < COUNT(rows); row++) {
		metrics_begin(metrics, rows[row].id);
		for (size_t i = 0; models[i]; i++)
			if (model_receipt(models[i]))
				rows[row].put(metrics, models[i],
				              model_receipt(models[i]));
	}
}
