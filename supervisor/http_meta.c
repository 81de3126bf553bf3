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
