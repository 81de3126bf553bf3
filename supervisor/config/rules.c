/* SPDX-License-Identifier: Apache-2.0 */

/* What must hold between the keys of a model; check.c has what each value must be. */
#include "supervisor/config/check.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "supervisor/config/config.h"

/* Eight pieces as large as engine server makes them, and as many again. */
#define RULES_SERVER_ARENA_MIN (UINT64_C(1) << 20)

static const struct tensor_spec *rules_find_fixed(const struct tensor_spec *specs,
                                                  size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (specs[i].shape.rank == 0 || specs[i].shape.dims[0] != TENSOR_DIM_ANY)
			return &specs[i];
	return NULL;
}

static int rules_check_batch(const struct config_model *model, const char **ret_key,
                             struct err *err)
{
	const struct tensor_spec *fixed;

	if (model->max_batch == 1)
		return 0;
	fixed = rules_find_fixed(model->inputs, model->n_inputs);
	if (!fixed)
		fixed = rules_find_fixed(model->outputs, model->n_outputs);
	if (!fixed)
		return 0;
	*ret_key = "max_batch";
	return err_set(err, -EINVAL,
	               "max_batch: above 1 every input and output must have -1 as its "
	               "first dim, and '%s' has not",
	               fixed->name);
}

/* Tensors that are left out the model tells, or its warm-up: the loader checks those. */
static int rules_check_tensors(const struct config_model *model, const char **ret_key,
                               struct err *err)
{
	if (model->route && model->n_inputs + model->n_outputs > 0) {
		*ret_key = "route";
		return err_set(err, -EINVAL,
		               "route: a model has either routes or tensors: leave input "
		               "and output out, or route");
	}
	if (model->route)
		return 0;
	return rules_check_batch(model, ret_key, err);
}

/* Keys that tell one engine what it hosts. */
static int rules_check_engine(const struct config_model *model, const char **ret_key,
                              struct err *err)
{
	const struct {
		const char *key;
		const char *engine;
		const char *others; /* "engine onnx and engine aoti"; NULL: none */
		const char *value;
	} rows[] = {
		{ "command", "server", NULL, model->command },
		{ "ready", "server", NULL, model->ready },
		{ "python", "python", "engine onnx and engine aoti", model->python },
		{ "wsgi", "python", NULL, model->wsgi },
		{ "asgi", "python", NULL, model->asgi },
		{ "model", "python", NULL, model->python_class },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *others = rows[i].others;

		if (!rows[i].value || strcmp(model->engine, rows[i].engine) == 0 ||
		    (others && config_takes_framework(model)))
			continue;
		*ret_key = rows[i].key;
		return err_set(err, -EINVAL, "%s: is for engine %s%s%s: leave it out",
		               rows[i].key, rows[i].engine, others ? ", " : " alone",
		               others ? others : "");
	}
	return 0;
}

/* What engine python serves, and where. */
static int rules_check_python(const struct config_model *model, const char *label,
                              struct err *err)
{
	int n = (model->wsgi != NULL) + (model->asgi != NULL) +
	        (model->python_class != NULL);

	if (!config_is_python(model))
		return 0;
	if (n != 1)
		return err_set(err, -EINVAL,
		               "wsgi: engine python serves one thing, and %s names %s: "
		               "write one of wsgi = app:app, asgi = app:app and model = "
		               "app:Model",
		               label, n ? "several" : "none");
	if (!model->python_class && !model->route)
		return err_set(err, -EINVAL,
		               "route: an application serves paths, and %s has none: for "
		               "instance route = /",
		               label);
	return 0;
}

/* True: @name, of the letters that names have, is one that Python imports. */
static bool rules_is_module(const char *name)
{
	bool is_start = true;

	for (; *name; name++) {
		bool is_digit = *name >= '0' && *name <= '9';

		if (*name == '-' || (is_start && (is_digit || *name == '.')))
			return false;
		is_start = *name == '.';
	}
	return !is_start;
}

/* What a spare imports ahead. */
static int rules_check_preload(const struct config_model *model, const char *label,
                               const char **ret_key, struct err *err)
{
	if (model->n_preload == 0)
		return 0;
	*ret_key = "preload";
	if (!config_is_python(model))
		return err_set(err, -EINVAL,
		               "preload: these are modules of Python, and %s has engine "
		               "%s: leave preload out",
		               label, model->engine);
	if (!model->spare)
		return err_set(err, -EINVAL,
		               "preload: a spare loader imports modules ahead, and %s "
		               "has none: add spare = yes",
		               label);
	for (size_t i = 0; i < model->n_preload; i++)
		if (!rules_is_module(model->preload[i]))
			return err_set(err, -EINVAL,
			               "preload: '%s' is no name of a module: write it "
			               "as import does, for instance preload = torch, "
			               "sklearn.svm",
			               model->preload[i]);
	*ret_key = NULL;
	return 0;
}

/* What engine server starts, and where it serves. */
static int rules_check_server(const struct config_model *model, const char *label,
                              const char **ret_key, struct err *err)
{
	if (!config_is_server(model))
		return 0;
	if (!model->command)
		return err_set(
			err, -EINVAL,
			"command: engine server hosts the program that it names, and "
			"%s has none: for instance command = gunicorn -b "
			"127.0.0.1:{port} app:app",
			label);
	if (!model->route)
		return err_set(err, -EINVAL,
		               "route: engine server serves paths, and %s has none: for "
		               "instance route = /",
		               label);
	if (model->path) {
		*ret_key = "path";
		return err_set(err, -EINVAL,
		               "path: the program of engine server reads its files "
		               "itself: leave path out, and name the file in command");
	}
	if (model->response_arena_bytes < RULES_SERVER_ARENA_MIN) {
		*ret_key = "response_arena";
		return err_set(
			err, -EINVAL,
			"response_arena: answers of a server are passed on in pieces "
			"of 64 KiB, and none must wait for another's client: engine "
			"server takes 1M or more");
	}
	return 0;
}

/* Batches and golden requests are of tensors. What takes whole requests by itself has neither; a
 * class may get requests that wait together. */
static int rules_check_whole(const struct config_model *model, const char **ret_key,
                             struct err *err)
{
	if (model->route && model->golden) {
		*ret_key = "golden";
		return err_set(
			err, -EINVAL,
			"golden: golden requests are of tensors, and this model has "
			"routes: leave it out; warmup_request asks one request");
	}
	if ((model->wsgi || model->asgi || model->command) && model->max_batch > 1) {
		*ret_key = "max_batch";
		return err_set(err, -EINVAL,
		               "max_batch: an application gets its requests one by one, "
		               "whatever waits: leave it out");
	}
	return 0;
}

/* The arena uses the largest power of two that fits, and the largest body must leave room
 * for another one. */
static uint64_t rules_largest_body(uint64_t arena_bytes)
{
	return (UINT64_C(1) << (63 - __builtin_clzll(arena_bytes))) / 2;
}

static int rules_check_memory(const struct config_model *model, const char **ret_key,
                              struct err *err)
{
	if (model->leases & (model->leases - 1)) {
		*ret_key = "leases";
		return err_set(
			err, -EINVAL,
			"leases: %u is no power of two: allowed are 1, 2, 4, ... 4096",
			model->leases);
	}
	if (model->max_body_bytes > rules_largest_body(model->request_arena_bytes)) {
		*ret_key = "max_body";
		return err_set(
			err, -EINVAL,
			"max_body: %llu bytes are more than half of request_arena, which "
			"allows %llu: make it smaller, or request_arena larger",
			(unsigned long long)model->max_body_bytes,
			(unsigned long long)
				rules_largest_body(model->request_arena_bytes));
	}
	return 0;
}

int config_rules_check(const struct config_model *model, const char *label,
                       const char **ret_key, struct err *err)
{
	*ret_key = NULL;
	if (!model->engine)
		return err_set(err, -EINVAL,
		               "engine: %s names none: add a line such as engine = torch",
		               label);
	if (rules_check_engine(model, ret_key, err) < 0 ||
	    rules_check_python(model, label, err) < 0 ||
	    rules_check_preload(model, label, ret_key, err) < 0 ||
	    rules_check_server(model, label, ret_key, err) < 0 ||
	    rules_check_tensors(model, ret_key, err) < 0 ||
	    rules_check_whole(model, ret_key, err) < 0 ||
	    rules_check_memory(model, ret_key, err) < 0)
		return -EINVAL;
	if (model->watch_code && !model->working_directory) {
		*ret_key = "watch_code";
		return err_set(err, -EINVAL,
		               "watch_code: %s names no working_directory to look below",
		               label);
	}
	if (model->n_required_secrets > 0 && !model->secrets) {
		*ret_key = "required_secrets";
		return err_set(err, -EINVAL,
		               "required_secrets: need a directory to come from: add "
		               "secrets = DIRECTORY");
	}
	return 0;
}
