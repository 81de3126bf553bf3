/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inputs come from the model's file, if that tells all of them; else from warmup_request, whose
 * tensors have a name, a datatype and a shape each: the first dim may differ from request to
 * request, the others may not. Outputs come from the file, or from the engine, which answers the
 * warm-up for it. learn_check() sees all of it, as the supervisor would kill a loader that says
 * what the protocol has no word for.
 */
#include "loader/proof/learn.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/proof/warmup.h"
#include "shared/cleanup.h"
#include "shared/file.h"
#include "shared/tensor_json.h"

#define LEARN_NAMES_MAX 256

bool learn_is_needed(const struct model_config *config)
{
	return config->n_inputs == 0 || config->n_outputs == 0;
}

/* "'x', 'mask'" */
static void learn_list(const struct tensor_spec *specs, size_t n, char *text, size_t size)
{
	size_t used = 0;

	*text = '\0';
	for (size_t i = 0; i < n && used + TENSOR_NAME_MAX + 8 < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s'%s'",
		                         i ? ", " : "", specs[i].name);
}

/* The request's JSON, a new reference; NULL with an outcome. */
static json_t *learn_read_request(const struct model_config *config, int *ret_outcome,
                                  struct err *err)
{
	FREE char *text = NULL;
	CLOSE_FD int fd = -1;
	json_error_t why;
	json_t *json;
	size_t bytes;

	*ret_outcome = model_config_open_warmup(config, &fd, &bytes, err);
	if (*ret_outcome)
		return NULL;
	text = malloc(bytes);
	if (!text) {
		*ret_outcome = err_set(err, ENGINE_E_FAILED, "out of memory");
		return NULL;
	}
	if (file_read_at(fd, text, bytes, 0) != (ssize_t)bytes) {
		*ret_outcome = err_set(err, ENGINE_E_CONFIG,
		                       "cannot read warmup_request '%s' whole",
		                       config->warmup_request);
		return NULL;
	}
	json = json_loadb(text, bytes, 0, &why);
	if (!json)
		*ret_outcome = err_set(err, ENGINE_E_CONFIG,
		                       "warmup_request '%.200s' is no JSON: line %d: %s",
		                       config->warmup_request, why.line, why.text);
	return json;
}

/* Brings @specs, the request's, into the order of those that the model names. */
static int learn_order(const struct model_config *config,
                       const struct engine_declared *told, struct tensor_spec *specs,
                       size_t n, struct err *err)
{
	struct tensor_spec ordered[ENGINE_TENSORS_MAX];
	char names[LEARN_NAMES_MAX];

	if (told->n_inputs == 0)
		return 0;
	learn_list(told->inputs, told->n_inputs, names, sizeof(names));
	if (n != told->n_inputs)
		return err_set(err, ENGINE_E_CONFIG,
		               "warmup_request '%.200s' has %zu inputs, and the model "
		               "takes %s: bring each once, or declare input",
		               config->warmup_request, n, names);
	for (size_t i = 0; i < n; i++) {
		size_t j = tensor_spec_find(specs, n, told->inputs[i].name);

		if (j == n)
			return err_set(err, ENGINE_E_CONFIG,
			               "warmup_request '%.200s' has no input '%s'; the "
			               "model takes %s: bring each once, or declare "
			               "input",
			               config->warmup_request, told->inputs[i].name,
			               names);
		ordered[i] = specs[j];
	}
	memcpy(specs, ordered, n * sizeof(*specs));
	return 0;
}

static int learn_from_request(struct model_config *config,
                              const struct engine_declared *told, struct err *err)
{
	struct tensor_spec specs[ENGINE_TENSORS_MAX];
	struct err why = ERR_NULL;
	size_t n = 0;
	int r = 0;
	json_t *json = learn_read_request(config, &r, err);

	if (!json)
		return r;
	if (tensors_from_json(json_object_get(json, "inputs"), "inputs", specs,
	                      ENGINE_TENSORS_MAX, &n, &why) < 0)
		r = err_set(err, ENGINE_E_CONFIG, "warmup_request '%.150s': %.300s",
		            config->warmup_request, why.text);
	json_decref(json);
	if (r == 0 && n == 0)
		r = err_set(err, ENGINE_E_CONFIG,
		            "warmup_request '%.200s' has no inputs, and is to tell the "
		            "model's: write a request as a client sends it",
		            config->warmup_request);
	if (r == 0)
		r = learn_order(config, told, specs, n, err);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		if (specs[i].shape.rank > 0)
			specs[i].shape.dims[0] = TENSOR_DIM_ANY;
	model_config_set_inputs(config, specs, n);
	return 0;
}

/* Nothing tells the inputs. */
static int learn_refuse(const struct engine_declared *told, struct err *err)
{
	char names[LEARN_NAMES_MAX];

	if (told->n_inputs == 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "input: the model does not say what it takes: set "
		               "warmup_request to a request that it can answer, or add a "
		               "line for each input, for instance input = image FP32 "
		               "[-1,64]");
	learn_list(told->inputs, told->n_inputs, names, sizeof(names));
	return err_set(err, ENGINE_E_CONFIG,
	               "input: the model takes %s, and does not say of which datatype "
	               "and shape: set warmup_request to a request that it can answer, "
	               "or add a line for each, for instance input = %s FP32 [-1,64]",
	               names, told->inputs[0].name);
}

static bool learn_tells_inputs(const struct engine_declared *told)
{
	for (size_t i = 0; i < told->n_inputs; i++)
		if (told->inputs[i].dtype == ENGINE_DTYPE_OPEN)
			return false;
	return told->n_inputs > 0;
}

int learn_from_model(struct model_config *config, const struct engine_api *api,
                     struct engine *engine, bool *ret_is_open, struct err *err)
{
	struct engine_declared told = { .n_inputs = 0 };
	int r = api->declare ? api->declare(engine, NULL, &told, err) : 0;

	*ret_is_open = false;
	if (r)
		return r;
	if (config->n_outputs == 0)
		model_config_set_outputs(config, told.outputs, told.n_outputs);
	*ret_is_open = config->n_outputs == 0;
	if (config->n_inputs > 0)
		return 0;
	if (learn_tells_inputs(&told)) {
		model_config_set_inputs(config, told.inputs, told.n_inputs);
		return 0;
	}
	*ret_is_open = true;
	return config->warmup_request ? learn_from_request(config, &told, err)
	                              : learn_refuse(&told, err);
}

int learn_from_answer(struct model_config *config, struct lane *lane,
                      const struct engine_api *api, struct engine *engine,
                      struct err *err)
{
	struct engine_declared told = { .n_inputs = 0 };
	int r = 0;

	if (api->declare)
		r = warmup_ask(config, lane, api, engine, &told, err);
	if (r || config->n_outputs > 0)
		return r;
	if (told.n_outputs == 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "output: engine %s does not say what the model answers: "
		               "add a line for each output, for instance output = scores "
		               "FP32 [-1,10]",
		               api->name);
	model_config_set_outputs(config, told.outputs, told.n_outputs);
	return 0;
}

static int learn_check_specs(const char *what, const struct tensor_spec *specs, size_t n,
                             struct err *err)
{
	struct tensor_spec read[ENGINE_TENSORS_MAX];
	json_t *json = tensors_to_json(specs, n);
	size_t n_read = 0;
	int r = 0;

	if (!json)
		return err_set(err, ENGINE_E_MODEL,
		               "%s of the model: a name is no text of UTF-8", what);
	if (tensors_from_json(json, what, read, ENGINE_TENSORS_MAX, &n_read, err) < 0)
		r = err_prefix(err, ENGINE_E_MODEL, "the model's tensors");
	json_decref(json);
	return r;
}

static int learn_check_batch(const struct tensor_spec *specs, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			return err_set(err, ENGINE_E_CONFIG,
			               "max_batch: above 1 every input and output must "
			               "have -1 as its first dim, and the model's '%s' "
			               "has not: leave max_batch out",
			               specs[i].name);
	return 0;
}

int learn_check(const struct model_config *config, struct err *err)
{
	int r = learn_check_specs("inputs", config->inputs, config->n_inputs, err);

	if (r == 0)
		r = learn_check_specs("outputs", config->outputs, config->n_outputs, err);
	if (r || config->max_batch == 1)
		return r;
	r = learn_check_batch(config->inputs, config->n_inputs, err);
	return r ? r : learn_check_batch(config->outputs, config->n_outputs, err);
}
