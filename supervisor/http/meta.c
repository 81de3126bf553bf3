/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bodies of the supervisor's own answers, as the Open Inference Protocol v2 and Triton's
 * extensions model_configuration and model_repository have them. All of them tell of
 * models by the configuration and by model_presence(); nothing is kept from one answer to
 * the next. stats.c has the statistics, which are larger.
 */

#include "supervisor/http/meta.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/tensor_json.h"
#include "supervisor/http/conn.h"
#include "supervisor/model/repository.h"

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

/* Whether readiness of moultd waits for @model. */
static bool http_meta_counts(const struct config *config, const char *model)
{
	if (config_ready_is_all(config) || config_ready_is_any(config))
		return true;
	for (size_t i = 0; i < config->n_ready; i++)
		if (strcmp(config->ready[i], model) == 0)
			return true;
	return false;
}

static json_t *http_meta_presence(struct model *model)
{
	struct err why;
	enum model_presence presence = model_presence(model, &why);

	return json_pack("{s:s,s:s,s:s,s:s}", "name", model_name(model), "version",
	                 model_config(model)->version, "state",
	                 model_presence_name(presence), "reason", why.text);
}

/* Takes @missing, the models that are not ready. */
static json_t *http_meta_not_ready(const char *text, json_t *missing)
{
	return json_pack("{s:s,s:b,s:b,s:o}", "error", text, "ready", 0, "live", 1,
	                 "models", missing);
}

char *http_meta_ready(const struct http *http, bool *ret_is_ready)
{
	struct model *const *models = http->models.list;
	json_t *missing = json_array();
	size_t n_missing = 0;
	struct err first = ERR_NULL;
	struct model *model;
	size_t n = 0;

	for (; (model = *models); models++) {
		struct err why;
		enum model_presence presence;

		if (!http_meta_counts(http->config, model_name(model)))
			continue;
		n++;
		presence = model_presence(model, &why);
		if (presence == MODEL_READY)
			continue;
		if (n_missing++ == 0)
			(void)err_set(&first, 0, "model '%s' is not ready: %s: %s",
			              model_name(model), model_presence_name(presence),
			              why.text);
		(void)json_array_append_new(missing, http_meta_presence(model));
	}
	*ret_is_ready =
		!http->is_leaving &&
		(n_missing == 0 || (config_ready_is_any(http->config) && n_missing < n));
	if (!*ret_is_ready)
		return http_meta_take(http_meta_not_ready(
			http->is_leaving ? "moultd is about to stop" : first.text,
			missing));
	json_decref(missing);
	/* Clients disagree on the key: both are there. */
	return http_meta_take(json_pack("{s:b,s:b}", "ready", 1, "live", 1));
}

char *http_meta_model(const struct model *model, const struct declared_view *view)
{
	const struct config_model *config = model_config(model);

	return http_meta_take(json_pack("{s:s,s:[s],s:s,s:o,s:o}", "name", config->name,
	                                "versions", config->version, "platform",
	                                config->platform, "inputs",
	                                tensors_to_json(view->inputs, view->n_inputs),
	                                "outputs",
	                                tensors_to_json(view->outputs, view->n_outputs)));
}

char *http_meta_model_ready(struct model *model)
{
	struct err why;
	enum model_presence presence = model_presence(model, &why);
	json_t *json = json_pack("{s:s,s:b}", "name", model_name(model), "ready",
	                         presence == MODEL_READY);

	if (json && presence != MODEL_READY) {
		(void)json_object_set_new(json, "error",
		                          json_sprintf("model '%s' is not ready: %s: %s",
		                                       model_name(model),
		                                       model_presence_name(presence),
		                                       why.text));
		(void)json_object_set_new(json, "state",
		                          json_string(model_presence_name(presence)));
		(void)json_object_set_new(json, "reason", json_string(why.text));
	}
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

char *http_meta_model_config(const struct model *model, const struct declared_view *view)
{
	const struct config_model *config = model_config(model);
	bool is_batched = config->max_batch > 1 &&
	                  http_meta_has_batch(view->inputs, view->n_inputs) &&
	                  http_meta_has_batch(view->outputs, view->n_outputs);
	return http_meta_take(json_pack(
		"{s:s,s:s,s:s,s:i,s:o,s:o}", "name", config->name, "platform",
		config->platform, "backend", config->engine, "max_batch_size",
		is_batched ? (int)config->max_batch : 0, "input",
		http_meta_config_tensors(view->inputs, view->n_inputs, is_batched),
		"output",
		http_meta_config_tensors(view->outputs, view->n_outputs, is_batched)));
}

static json_t *http_meta_unloaded(const struct repository_unloaded *one)
{
	return json_pack("{s:s,s:s,s:s,s:s}", "name", one->section->name, "version",
	                 one->section->version, "state",
	                 one->is_leaving ? "UNLOADING" : "UNAVAILABLE", "reason",
	                 "unloaded");
}

char *http_meta_index(const struct http_meta_index_of *of)
{
	json_t *index = json_array();
	struct repository_unloaded one;

	for (struct model *const *models = of->models; *models; models++)
		if (of->shows(of->context, model_name(*models)) &&
		    (!of->only_ready || model_is_ready(*models)))
			(void)json_array_append_new(index, http_meta_presence(*models));
	for (size_t i = 0; !of->only_ready &&
	                   of->repository->unloaded(of->repository->context, i, &one);
	     i++)
		if (of->shows(of->context, one.section->name))
			(void)json_array_append_new(index, http_meta_unloaded(&one));
	return http_meta_take(index);
}
