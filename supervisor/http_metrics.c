/* SPDX-License-Identifier: Apache-2.0 */

/* The numbers of /metrics, in the text format 0.0.4 of Prometheus. */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/http_conn.h"
#include "supervisor/histogram.h"
#include "supervisor/http_meta.h"
#include "supervisor/spare.h"
#include "supervisor/stats.h"

struct metric {
	const char *name;
	const char *type;
	const char *help;
	size_t offset; /* of the uint64_t in struct request_counts */
};

/* accepted = answered + failed + held + leased, at any moment. */
static const struct metric http_metrics_of_models[] = {
	{ "moult_requests_accepted_total", "counter", "Requests taken in.",
	  offsetof(struct request_counts, accepted) },
	{ "moult_requests_answered_total", "counter", "Requests answered by a loader.",
	  offsetof(struct request_counts, answered) },
	{ "moult_requests_faults_total", "counter",
	  "Answers that were the model's own failure: status 500, or numbers that are "
	  "not "
	  "finite.",
	  offsetof(struct request_counts, faults) },
	{ "moult_requests_failed_total", "counter", "Requests that ended without one.",
	  offsetof(struct request_counts, failed) },
	{ "moult_requests_replayed_total", "counter",
	  "Leases that went back to the queue.",
	  offsetof(struct request_counts, replayed) },
	{ "moult_requests_held", "gauge", "Requests that wait for a loader.",
	  offsetof(struct request_counts, held) },
	{ "moult_requests_held_bytes", "gauge", "Memory that those occupy.",
	  offsetof(struct request_counts, held_bytes) },
	{ "moult_requests_leased", "gauge", "Requests that a loader has.",
	  offsetof(struct request_counts, leased) },
};

void http_metrics_head(FILE *stream, const char *name, const char *type, const char *help)
{
	(void)fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void http_metrics_of_model(FILE *stream, const char *name,
                                  const struct model *model, uint64_t value)
{
	(void)fprintf(stream, "%s{model=\"%s\"} %llu\n", name, model_name(model),
	              (unsigned long long)value);
}

static void http_metrics_counts(FILE *stream, const struct http_models *models,
                                const struct metric *metric)
{
	struct model *model;

	http_metrics_head(stream, metric->name, metric->type, metric->help);
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const void *counts = model_counts(model);

		http_metrics_of_model(stream, metric->name, model,
		                      *(const uint64_t *)((const char *)counts +
		                                          metric->offset));
	}
}

static void http_metrics_failures(FILE *stream, const struct http_models *models)
{
	static const char name[] = "moult_requests_failures_total";
	struct model *model;

	http_metrics_head(stream, name, "counter",
	                  "Requests that ended without an answer, by reason.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		for (unsigned int j = 0; j < REQUEST_FAILURE_COUNT; j++)
			(void)fprintf(stream, "%s{model=\"%s\",reason=\"%s\"} %llu\n",
			              name, model_name(model),
			              request_failure_name((enum request_failure)j),
			              (unsigned long long)model_counts(model)
			                      ->failures[j]);
}

static void http_metrics_states(FILE *stream, const struct http_models *models)
{
	struct model *model;

	http_metrics_head(stream, "moult_generation", "gauge",
	                  "Generation that serves; 0: none.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		http_metrics_of_model(stream, "moult_generation", model,
		                      model_generation(model));
	http_metrics_head(stream, "moult_ready", "gauge", "1: a generation serves.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		http_metrics_of_model(stream, "moult_ready", model,
		                      model_is_ready(model));
	http_metrics_head(stream, "moult_loaders", "gauge", "Loaders that serve.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		http_metrics_of_model(stream, "moult_loaders", model,
		                      model_loaders(model));
}

static void http_metrics_of_gpu(FILE *stream, const char *name, const struct device *gpu,
                                uint64_t value)
{
	(void)fprintf(stream, "%s{device=\"%s\",uuid=\"%s\"} %llu\n", name, gpu->name,
	              gpu->uuid, (unsigned long long)value);
}

static void http_metrics_devices(FILE *stream, const struct http_models *models)
{
	static const struct {
		const char *name;
		const char *help;
		size_t offset; /* in struct device_figures */
	} rows[] = {
		{ "moult_device_total_bytes", "Memory of a GPU.",
		  offsetof(struct device_figures, total_bytes) },
		{ "moult_device_used_bytes", "Of it in use, by everybody.",
		  offsetof(struct device_figures, used_bytes) },
		{ "moult_device_free_bytes", "Of it free.",
		  offsetof(struct device_figures, free_bytes) },
	};
	struct devices *devices = models->devices;

	if (devices->n_gpus == 0)
		return;
	nvml_glance(&devices->nvml);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		http_metrics_head(stream, rows[i].name, "gauge", rows[i].help);
		for (size_t j = 0; j < devices->n_gpus; j++) {
			const struct device *gpu = &devices->gpus[j];
			struct device_figures figures = device_figures(gpu);
			const void *bytes = (const char *)&figures + rows[i].offset;

			if (figures.is_known)
				http_metrics_of_gpu(stream, rows[i].name, gpu,
				                    *(const uint64_t *)bytes);
		}
	}
	http_metrics_head(stream, "moult_device_loaders_bytes", "gauge",
	                  "Of it held by loaders, or claimed by those that are built.");
	for (size_t j = 0; j < devices->n_gpus; j++)
		http_metrics_of_gpu(stream, "moult_device_loaders_bytes",
		                    &devices->gpus[j],
		                    device_room_seen(&devices->gpus[j]).used_bytes);
	http_metrics_head(stream, "moult_device_xids_total", "counter",
	                  "Critical errors of a GPU (Xid) that its driver reported.");
	for (size_t j = 0; j < devices->n_gpus; j++)
		http_metrics_of_gpu(stream, "moult_device_xids_total", &devices->gpus[j],
		                    device_figures(&devices->gpus[j]).xids);
}

static void http_metrics_memory(FILE *stream, const struct http_models *models)
{
	static const char name[] = "moult_request_memory_bytes";
	const struct model *model;

	http_metrics_head(
		stream, name, "histogram",
		"Memory of the device that a batch took to be computed, beside the "
		"weights.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const struct histogram *memory = &model_stats(model)->memory;
		uint64_t below = 0;

		for (unsigned int j = 0; j < histogram_buckets(HISTOGRAM_BYTES); j++) {
			below += memory->counts[j];
			(void)fprintf(stream,
			              "%s_bucket{model=\"%s\",le=\"%llu\"} %llu\n", name,
			              model_name(model),
			              (unsigned long long)histogram_bound(HISTOGRAM_BYTES,
			                                                  j),
			              (unsigned long long)below);
		}
		(void)fprintf(stream,
		              "%s_bucket{model=\"%s\",le=\"+Inf\"} %llu\n"
		              "%s_sum{model=\"%s\"} %llu\n"
		              "%s_count{model=\"%s\"} %llu\n",
		              name, model_name(model), (unsigned long long)memory->count,
		              name, model_name(model), (unsigned long long)memory->sum,
		              name, model_name(model), (unsigned long long)memory->count);
	}
}

static void http_metrics_config(FILE *stream, const struct http_models *models)
{
	static const char name[] = "moult_config_refused";

	http_metrics_head(stream, name, "gauge",
	                  "1: the configuration files are refused, the last good one is "
	                  "in use.");
	(void)fprintf(stream, "%s %d\n", name,
	              models->is_config_refused(models->context));
}

static void http_metrics_spares(FILE *stream, const struct http_models *models)
{
	static const struct {
		const char *name;
		const char *type;
		const char *help;
		size_t offset; /* of the uint64_t in struct spare_counts */
	} rows[] = {
		{ "moult_spares_started_total", "counter",
		  "Loaders that were started ahead.",
		  offsetof(struct spare_counts, started) },
		{ "moult_spares_taken_total", "counter", "Those that were taken.",
		  offsetof(struct spare_counts, taken) },
		{ "moult_spares_lost_total", "counter", "Those that were of no use.",
		  offsetof(struct spare_counts, lost) },
	};
	static const char ready[] = "moult_spare_ready";
	struct spare_counts counts;

	if (!models->spare_at(models->context, 0, &counts))
		return;
	http_metrics_head(stream, ready, "gauge", "1: a loader waits to be taken.");
	for (size_t i = 0; models->spare_at(models->context, i, &counts); i++)
		(void)fprintf(stream, "%s{engine=\"%s\"} %d\n", ready, counts.engine,
		              counts.is_ready);
	for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
		http_metrics_head(stream, rows[row].name, rows[row].type, rows[row].help);
		for (size_t i = 0; models->spare_at(models->context, i, &counts); i++) {
			const void *start = &counts;

			(void)fprintf(stream, "%s{engine=\"%s\"} %llu\n", rows[row].name,
			              counts.engine,
			              (unsigned long long)*(
					      const uint64_t *)((const char *)start +
			                                        rows[row].offset));
		}
	}
}

static void http_metrics_of_http(FILE *stream, const struct http *http)
{
	const struct {
		const char *name;
		const char *type;
		const char *help;
		uint64_t value;
	} rows[] = {
		{ "moult_http_connections", "gauge", "Open connections.",
		  http->n_connections },
		{ "moult_http_connections_total", "counter", "Connections accepted.",
		  http->n_accepted },
		{ "moult_http_expired_total", "counter",
		  "Connections closed at a deadline.", http->n_expired },
		{ "moult_http_evicted_total", "counter",
		  "Connections without a request closed at max_connections.",
		  http->n_evicted },
		{ "moult_http_runs_total", "counter",
		  "Rounds of the HTTP daemon: hardly any on an idle server.",
		  http->n_runs },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		http_metrics_head(stream, rows[i].name, rows[i].type, rows[i].help);
		(void)fprintf(stream, "%s %llu\n", rows[i].name,
		              (unsigned long long)rows[i].value);
	}
	http_metrics_head(stream, "moult_http_responses_total", "counter",
	                  "Answers by class of status.");
	for (unsigned int i = 2;
	     i < sizeof(http->n_by_class) / sizeof(http->n_by_class[0]); i++)
		(void)fprintf(stream, "moult_http_responses_total{class=\"%uxx\"} %llu\n",
		              i, (unsigned long long)http->n_by_class[i]);
}

char *http_metrics_print(const struct http_models *models, const struct http *http)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	size_t n = sizeof(http_metrics_of_models) / sizeof(http_metrics_of_models[0]);

	if (!stream)
		return NULL;
	for (size_t i = 0; i < n; i++)
		http_metrics_counts(stream, models, &http_metrics_of_models[i]);
	http_metrics_failures(stream, models);
	http_metrics_states(stream, models);
	http_metrics_devices(stream, models);
	http_metrics_memory(stream, models);
	http_metrics_reload(stream, models);
	http_metrics_config(stream, models);
	http_metrics_spares(stream, models);
	http_metrics_of_http(stream, http);
	if (fclose(stream) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
