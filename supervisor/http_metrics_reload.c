/* SPDX-License-Identifier: Apache-2.0 */

/* What /metrics says of reloads: how many, and the last receipt of each model. */

#include <stddef.h>

#include "supervisor/http_meta.h"
#include "supervisor/model.h"
#include "supervisor/receipt.h"

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

static void metrics_reloads(FILE *stream, const struct http_models *models)
{
	const struct model *model;

	http_metrics_head(stream, "moult_reloads_total", "counter",
	                  "Reloads that are over, starts among them.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		for (unsigned int j = 0; j < RECEIPT_OUTCOME_COUNT; j++)
			(void)fprintf(stream,
			              "moult_reloads_total{model=\"%s\",outcome=\"%s\"} "
			              "%llu\n",
			              model_name(model),
			              receipt_outcome_name((enum receipt_outcome)j),
			              (unsigned long long)
			                      model_reloads(model,
			                                    (enum receipt_outcome)j));
}

static void metrics_last_phases(FILE *stream, const struct http_models *models)
{
	const struct model *model;

	http_metrics_head(stream, "moult_reload_seconds", "gauge",
	                  "Phases of the last reload; pause: no loader took requests.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const struct receipt *receipt = model_receipt(model);

		for (size_t j = 0; receipt && j < COUNT(metrics_phases); j++)
			(void)fprintf(
				stream,
				"moult_reload_seconds{model=\"%s\",phase=\"%s\"} %.6f\n",
				model_name(model), metrics_phases[j].label,
				*(const double *)metrics_part(receipt,
			                                      &metrics_phases[j]) /
					1e3);
	}
}

static void metrics_last_memory(FILE *stream, const struct http_models *models)
{
	const struct model *model;

	http_metrics_head(
		stream, "moult_reload_memory_bytes", "gauge",
		"Main memory of loaders and shared weights in the last reload.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const struct receipt *receipt = model_receipt(model);

		for (size_t j = 0; receipt && j < COUNT(metrics_moments); j++) {
			const struct memory_sample *sample =
				metrics_part(receipt, &metrics_moments[j]);

			(void)fprintf(stream,
			              "moult_reload_memory_bytes{model=\"%s\",at=\"%s\"} "
			              "%llu\n",
			              model_name(model), metrics_moments[j].label,
			              (unsigned long long)(sample->loader_anon_bytes +
			                                   sample->shared_bytes));
		}
	}
}

static void metrics_last_gpu(FILE *stream, const struct http_models *models)
{
	const struct model *model;

	http_metrics_head(
		stream, "moult_reload_gpu_bytes", "gauge",
		"Memory in use on the GPU in the last reload; prefilled: weights that "
		"came while the old loader served; residual: what the loader that went "
		"did not give back.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const struct receipt *receipt = model_receipt(model);

		if (!receipt || !receipt->gpu.device)
			continue;
		for (size_t j = 0; j < COUNT(metrics_gpu); j++) {
			uint64_t bytes =
				*(const uint64_t *)metrics_part(receipt, &metrics_gpu[j]);

			if (bytes != UINT64_MAX)
				(void)fprintf(
					stream,
					"moult_reload_gpu_bytes{model=\"%s\",at=\"%s\"}"
					" %llu\n",
					model_name(model), metrics_gpu[j].label,
					(unsigned long long)bytes);
		}
	}
}

void http_metrics_reload(FILE *stream, const struct http_models *models)
{
	metrics_reloads(stream, models);
	metrics_last_phases(stream, models);
	metrics_last_memory(stream, models);
	metrics_last_gpu(stream, models);
}
