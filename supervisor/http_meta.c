/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/http_meta.h"

#include <stdio.h>
#include <stdlib.h>

#include "supervisor/http_conn.h"

static char *http_meta_take(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return text;
}

char *http_meta_error(const char *text)
{
	return http_meta_take(json_pack("{s:s}", "error", text));
}

char *http_meta_server(void)
{
	return http_meta_take(json_pack("{s:s,s:s,s:[s,s,s,s,s]}", "name", "moult",
	                                "version", MOULT_VERSION, "extensions",
	                                "binary_tensor_data", "model_repository",
	                                "model_configuration", "parameters",
	                                "statistics"));
}

char *http_meta_ready(const struct http_models *models, bool *ret_is_ready)
{
	struct model *model;

	*ret_is_ready = true;
	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		if (!model_is_ready(model)) {
			char text[128];

			*ret_is_ready = false;
			(void)snprintf(text, sizeof(text), "model '%s' is not ready",
			               model_name(model));
			return http_meta_take(json_pack("{s:s,s:b}", "error", text,
			                                "ready", 0));
		}
	}
	/* Clients disagree on the key: both are there. */
	return http_meta_take(json_pack("{s:b,s:b}", "ready", 1, "live", 1));
}

static json_t *http_meta_tensors(const struct tensor_spec *specs, size_t n)
{
	json_t *tensors = json_array();

	for (size_t i = 0; i < n; i++) {
		json_t *shape = json_array();

		for (uint32_t d = 0; d < specs[i].shape.rank; d++)
			(void)json_array_append_new(shape,
			                            json_integer(specs[i].shape.dims[d]));
		(void)json_array_append_new(tensors,
		                            json_pack("{s:s,s:s,s:o}", "name",
		                                      specs[i].name, "datatype",
		                                      tensor_dtype_name(specs[i].dtype),
		                                      "shape", shape));
	}
	return tensors;
}

char *http_meta_model(const struct model *model)
{
	const struct config_model *config = model_config(model);

	return http_meta_take(
		json_pack("{s:s,s:[s],s:s,s:o,s:o}", "name", config->name, "versions",
	                  config->version, "platform", config->platform, "inputs",
	                  http_meta_tensors(config->inputs, config->n_inputs), "outputs",
	                  http_meta_tensors(config->outputs, config->n_outputs)));
}

char *http_meta_model_ready(const struct model *model)
{
	bool is_ready = model_is_ready(model);
	json_t *json =
		json_pack("{s:s,s:b}", "name", model_name(model), "ready", is_ready);

	if (json && !is_ready)
		(void)json_object_set_new(json, "error",
		                          json_sprintf("model '%s' is not ready",
		                                       model_name(model)));
	return http_meta_take(json);
}

/* Triton's name of a datatype. */
static const char *http_meta_config_type(enum tensor_dtype dtype, char *text, size_t size)
{
	if (dtype == TENSOR_DTYPE_BYTES)
		return "TYPE_STRING";
	(void)snprintf(text, size, "TYPE_%s", tensor_dtype_name(dtype));
	return text;
}

/* With @is_batched the first dim is the batch, which this format leaves out. */
static json_t *http_meta_config_tensors(const struct tensor_spec *specs, size_t n,
                                        bool is_batched)
{
	json_t *tensors = json_array();
	char type[32];

	for (size_t i = 0; i < n; i++) {
		json_t *dims = json_array();

		for (uint32_t d = is_batched ? 1 : 0; d < specs[i].shape.rank; d++)
			(void)json_array_append_new(dims,
			                            json_integer(specs[i].shape.dims[d]));
		(void)json_array_append_new(
			tensors,
			json_pack("{s:s,s:s,s:o}", "name", specs[i].name, "data_type",
		                  http_meta_config_type(specs[i].dtype, type,
		                                        sizeof(type)),
		                  "dims", dims));
	}
	return tensors;
}

static bool http_meta_has_batch(const struct tensor_spec *specs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			return false;
	return true;
}

char *http_meta_model_config(const struct model *model)
{
	const struct config_model *config = model_config(model);
	bool is_batched = config->max_batch > 1 &&
	                  http_meta_has_batch(config->inputs, config->n_inputs) &&
	                  http_meta_has_batch(config->outputs, config->n_outputs);

	return http_meta_take(json_pack(
		"{s:s,s:s,s:s,s:i,s:o,s:o}", "name", config->name, "platform",
		config->platform, "backend", config->engine, "max_batch_size",
		is_batched ? (int)config->max_batch : 0, "input",
		http_meta_config_tensors(config->inputs, config->n_inputs, is_batched),
		"output",
		http_meta_config_tensors(config->outputs, config->n_outputs,
	                                 is_batched)));
}

char *http_meta_index(const struct http_models *models)
{
	json_t *index = json_array();
	struct model *model;

	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		bool is_ready = model_is_ready(model);

		(void)json_array_append_new(
			index, json_pack("{s:s,s:s,s:s,s:s}", "name", model_name(model),
		                         "version", model_config(model)->version, "state",
		                         is_ready ? "READY" : "UNAVAILABLE", "reason",
		                         is_ready ? "" : "no generation serves"));
	}
	return http_meta_take(index);
}

char *http_meta_stats(const struct http_models *models, const struct model *only)
{
	json_t *stats = json_array();
	struct model *model;

	for (size_t i = 0; (model = models->at(models->context, i)); i++) {
		const struct request_counts *counts = model_counts(model);

		if (only && model != only)
			continue;
		/* Durations are not measured here: their counts are, and nothing is
		 * made up. */
		(void)json_array_append_new(
			stats, json_pack("{s:s,s:s,s:I,s:{s:{s:I},s:{s:I}}}", "name",
		                         model_name(model), "version",
		                         model_config(model)->version, "inference_count",
		                         (json_int_t)counts->answered, "inference_stats",
		                         "success", "count", (json_int_t)counts->answered,
		                         "fail", "count", (json_int_t)counts->failed));
	}
	return http_meta_take(json_pack("{s:o}", "model_stats", stats));
}

struct metric {
	const char *name;
	const char *type;
	const char *help;
	uint64_t (*read)(const struct model *model);
};

static uint64_t metric_accepted(const struct model *model)
{
	return model_counts(model)->accepted;
}

static uint64_t metric_answered(const struct model *model)
{
	return model_counts(model)->answered;
}

static uint64_t metric_failed(const struct model *model)
{
	return model_counts(model)->failed;
}

static uint64_t metric_replayed(const struct model *model)
{
	return model_counts(model)->replayed;
}

static uint64_t metric_held(const struct model *model)
{
	return model_counts(model)->held;
}

static uint64_t metric_held_bytes(const struct model *model)
{
	return model_counts(model)->held_bytes;
}

static uint64_t metric_leased(const struct model *model)
{
	return model_counts(model)->leased;
}

static uint64_t metric_generation(const struct model *model)
{
	return model_generation(model);
}

static uint64_t metric_ready(const struct model *model)
{
	return model_is_ready(model);
}

/* accepted = answered + failed + held + leased, at any moment. */
static const struct metric model_metrics[] = {
	{ "moult_requests_accepted_total", "counter", "Requests taken in.",
	  metric_accepted },
	{ "moult_requests_answered_total", "counter", "Requests answered by a loader.",
	  metric_answered },
	{ "moult_requests_failed_total", "counter", "Requests that ended without one.",
	  metric_failed },
	{ "moult_requests_replayed_total", "counter",
	  "Leases that went back to the queue.", metric_replayed },
	{ "moult_requests_held", "gauge", "Requests that wait for a loader.",
	  metric_held },
	{ "moult_requests_held_bytes", "gauge", "Memory that those occupy.",
	  metric_held_bytes },
	{ "moult_requests_leased", "gauge", "Requests that a loader has.",
	  metric_leased },
	{ "moult_generation", "gauge", "Generation that serves; 0: none.",
	  metric_generation },
	{ "moult_ready", "gauge", "1: a generation serves.", metric_ready },
};

static void http_meta_metric(FILE *stream, const char *name, const char *type,
                             const char *help)
{
	(void)fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void http_meta_failures(FILE *stream, const struct model *model)
{
	for (unsigned int i = 0; i < REQUEST_FAILURE_COUNT; i++)
		(void)fprintf(stream,
		              "moult_requests_failures_total{model=\"%s\",reason=\"%s\"} "
		              "%llu\n",
		              model_name(model),
		              request_failure_name((enum request_failure)i),
		              (unsigned long long)model_counts(model)->failures[i]);
}

static void http_meta_own_metrics(FILE *stream, const struct http *http)
{
	http_meta_metric(stream, "moult_http_connections", "gauge", "Open connections.");
	(void)fprintf(stream, "moult_http_connections %u\n", http->n_connections);
	http_meta_metric(stream, "moult_http_connections_total", "counter",
	                 "Connections accepted.");
	(void)fprintf(stream, "moult_http_connections_total %llu\n",
	              (unsigned long long)http->n_accepted);
	http_meta_metric(stream, "moult_http_expired_total", "counter",
	                 "Connections closed at a deadline.");
	(void)fprintf(stream, "moult_http_expired_total %llu\n",
	              (unsigned long long)http->n_expired);
	http_meta_metric(stream, "moult_http_evicted_total", "counter",
	                 "Idle connections closed at max_connections.");
	(void)fprintf(stream, "moult_http_evicted_total %llu\n",
	              (unsigned long long)http->n_evicted);
	http_meta_metric(stream, "moult_http_runs_total", "counter",
	                 "Rounds of the HTTP daemon: hardly any on an idle server.");
	(void)fprintf(stream, "moult_http_runs_total %llu\n",
	              (unsigned long long)http->n_runs);
	http_meta_metric(stream, "moult_http_responses_total", "counter",
	                 "Answers by class of status.");
	for (unsigned int i = 2;
	     i < sizeof(http->n_by_class) / sizeof(http->n_by_class[0]); i++)
		(void)fprintf(stream, "moult_http_responses_total{class=\"%uxx\"} %llu\n",
		              i, (unsigned long long)http->n_by_class[i]);
}

char *http_meta_metrics(const struct http_models *models, const struct http *http)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	struct model *model;

	if (!stream)
		return NULL;
	for (size_t m = 0; m < sizeof(model_metrics) / sizeof(model_metrics[0]); m++) {
		const struct metric *metric = &model_metrics[m];

		http_meta_metric(stream, metric->name, metric->type, metric->help);
		for (size_t i = 0; (model = models->at(models->context, i)); i++)
			(void)fprintf(stream, "%s{model=\"%s\"} %llu\n", metric->name,
			              model_name(model),
			              (unsigned long long)metric->read(model));
	}
	http_meta_metric(stream, "moult_requests_failures_total", "counter",
	                 "Requests that ended without an answer, by reason.");
	for (size_t i = 0; (model = models->at(models->context, i)); i++)
		http_meta_failures(stream, model);
	http_meta_own_metrics(stream, http);
	if (fclose(stream) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
