/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/http_meta.h"

#include <stdio.h>
#include <stdlib.h>

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
					"model_configuration", "parameters", "statistics"));
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
			return http_meta_take(
				json_pack("{s:s,s:b}", "error", text, "ready", 0));
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
		(void)json_array_append_new(
			tensors, json_pack("{s:s,s:s,s:o}", "name", specs[i].name,
					   "datatype", tensor_dtype_name(specs[i].dtype),
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
	json_t *json = json_pack("{s:s,s:b}", "name", model_name(model), "ready", is_ready);

	if (json && !is_ready)
		(void)json_object_set_new(json, "error",
					  json_sprintf("model '%s' is not ready",
						       model_name(model)));
	return http_meta_take(json);
}

char *http_meta_model_config(const struct model *model)
{
	const struct config_model *config = model_config(model);

	return http_meta_take(
		json_pack("{s:s,s:s,s:s,s:i,s:o,s:o}", "name", config->name, "platform",
			  config->platform, "backend", config->engine, "max_batch_size",
			  config->max_batch > 1 ? (int)config->max_batch : 0, "input",
			  http_meta_tensors(config->inputs, config->n_inputs), "output",
			  http_meta_tensors(config->outputs, config->n_outputs)));
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
			stats,
			json_pack("{s:s,s:s,s:I,s:{s:{s:I},s:{s:I}}}", "name",
				  model_name(model), "version",
				  model_config(model)->version, "inference_count",
				  (json_int_t)counts->answered, "inference_stats",
				  "success", "count", (json_int_t)counts->answered, "fail",
				  "count", (json_int_t)counts->failed));
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

static uint64_t metric_leased(const struct model *model)
{
	return model_counts(model)->leased;
}

static uint64_t metric_generation(const struct model *model)
{
	return model_generation(model);
}

/* accepted = answered + failed + held + leased, at any moment. */
static const struct metric metrics[] = {
	{ "moult_requests_accepted_total", "counter", "Requests taken in.",
	  metric_accepted },
	{ "moult_requests_answered_total", "counter", "Requests answered by a loader.",
	  metric_answered },
	{ "moult_requests_failed_total", "counter", "Requests that ended without one.",
	  metric_failed },
	{ "moult_requests_replayed_total", "counter", "Leases that went back to the queue.",
	  metric_replayed },
	{ "moult_requests_held", "gauge", "Requests that wait for a loader.", metric_held },
	{ "moult_requests_leased", "gauge", "Requests that a loader has.", metric_leased },
	{ "moult_generation", "gauge", "Generation that serves; 0: none.",
	  metric_generation },
};

char *http_meta_metrics(const struct http_models *models, const json_t *endpoint)
{
	const char *key;
	json_t *value;
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	struct model *model;

	if (!stream)
		return NULL;
	for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++) {
		(void)fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n", metrics[m].name,
			      metrics[m].help, metrics[m].name, metrics[m].type);
		for (size_t i = 0; (model = models->at(models->context, i)); i++)
			(void)fprintf(stream, "%s{model=\"%s\"} %llu\n", metrics[m].name,
				      model_name(model),
				      (unsigned long long)metrics[m].read(model));
	}
	json_object_foreach((json_t *)(uintptr_t)endpoint, key, value)
		(void)fprintf(stream, "# TYPE moult_http_%s %s\nmoult_http_%s %lld\n", key,
			      key[0] == 'c' ? "gauge" : "counter", key,
			      (long long)json_integer_value(value));
	if (fclose(stream) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
