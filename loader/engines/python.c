/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine that hosts an application of Python, WSGI or ASGI, or computes with a class of
 * Python. It lives inside an interpreter that runs the loader (loader/interpreter_module.c). The
 * loader's thread holds no GIL; each call of the engine takes it, calls a function of
 * moult._engine, and gets an outcome of enum engine_outcome and a sentence from it.
 *
 * Nothing here prints an exception by PyErr_Print(): it would end the process on SystemExit.
 */
#include "loader/engines/python.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/engine_options.h"

#define PYTHON_VERSION_MAX 64

extern char **environ;

ENGINE_OPTIONS(python_options, "wsgi, asgi, model, bytes_as, parameters");

struct engine {
	const struct engine_config *config;
	PyObject *package; /* moult._engine; NULL: not imported */
	PyObject *outputs; /* owns the data of the last outputs; may be NULL */
};

/* Writes the pending exception's type and text, and clears it. Returns @code. */
static int python_tell(struct err *err, int code, const char *what)
{
	PyObject *type;
	PyObject *value;
	PyObject *traceback;
	PyObject *text;
	PyObject *bytes;

	PyErr_Fetch(&type, &value, &traceback);
	PyErr_NormalizeException(&type, &value, &traceback);
	text = value ? PyObject_Repr(value) : NULL;
	bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
	(void)err_set(err, code, "%s: %s", what,
	              bytes ? PyBytes_AsString(bytes) : "an error without a text");
	Py_XDECREF(bytes);
	Py_XDECREF(text);
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(traceback);
	PyErr_Clear();
	return code;
}

/* Reads (outcome, sentence). Takes @result; NULL: an exception is pending. */
static int python_read_outcome(PyObject *result, const char *function, struct err *err)
{
	PyObject *sentence = NULL;
	PyObject *bytes = NULL;
	int outcome;

	if (result && PyArg_ParseTuple(result, "iO", &outcome, &sentence))
		bytes = PyUnicode_AsUTF8String(sentence);
	if (!bytes)
		outcome = python_tell(err, ENGINE_E_FAILED, function);
	else if (outcome)
		(void)err_set(err, outcome, "%s", PyBytes_AsString(bytes));
	Py_XDECREF(bytes);
	Py_XDECREF(result);
	return outcome;
}

/* Calls moult._engine.FUNCTION(@argument). Takes @argument; NULL: an exception is pending. */
static int python_call(const struct engine *engine, const char *function,
                       PyObject *argument, struct err *err)
{
	PyObject *result = NULL;

	if (argument)
		result = PyObject_CallMethod(engine->package, function, "O", argument);
	Py_XDECREF(argument);
	return python_read_outcome(result, function, err);
}

/* The configuration for Python */

/* Adds the pair to @list. Takes both; NULL: an exception is pending. */
static bool python_add(PyObject *list, PyObject *name, PyObject *value)
{
	PyObject *pair = name && value ? PyTuple_Pack(2, name, value) : NULL;
	bool is_added = pair && PyList_Append(list, pair) == 0;

	Py_XDECREF(name);
	Py_XDECREF(value);
	Py_XDECREF(pair);
	return is_added;
}

static PyObject *python_options_of(const struct engine_config *config)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < config->n_options; i++)
		if (!python_add(list, PyUnicode_DecodeFSDefault(config->options[i].name),
		                PyUnicode_DecodeFSDefault(config->options[i].value)))
			Py_CLEAR(list);
	return list;
}

static PyObject *python_secrets_of(const struct engine_config *config)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < config->n_secrets; i++) {
		const struct engine_secret *secret = &config->secrets[i];

		if (!python_add(list, PyUnicode_DecodeFSDefault(secret->name),
		                PyBytes_FromStringAndSize(secret->value,
		                                          (Py_ssize_t)
		                                                  secret->value_bytes)))
			Py_CLEAR(list);
	}
	return list;
}

/* The environment as the loader has made it: the interpreter read it when it started. */
static PyObject *python_environment(void)
{
	PyObject *list = PyList_New(0);

	for (char **entry = environ; list && entry && *entry; entry++) {
		const char *value = strchr(*entry, '=');

		if (value &&
		    !python_add(list,
		                PyUnicode_DecodeFSDefaultAndSize(*entry,
		                                                 (Py_ssize_t)(value -
		                                                              *entry)),
		                PyUnicode_DecodeFSDefault(value + 1)))
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *python_config(const struct engine_config *config)
{
	return Py_BuildValue("{s:s, s:s, s:k, s:N, s:N, s:N, s:O, s:k, s:N, s:N, "
	                     "s:O, s:N, s:O}",
	                     "model", config->model, "device", config->device, "threads",
	                     (unsigned long)config->threads, "options",
	                     python_options_of(config), "secrets",
	                     python_secrets_of(config), "environment",
	                     python_environment(), "is_lean",
	                     config->is_lean ? Py_True : Py_False, "max_batch",
	                     (unsigned long)config->max_batch, "inputs",
	                     python_specs(config->inputs, config->n_inputs), "outputs",
	                     python_specs(config->outputs, config->n_outputs),
	                     "is_shared", config->is_shared ? Py_True : Py_False,
	                     "weights", python_weights(config), "is_hosted",
	                     config->is_hosted ? Py_True : Py_False);
}

/* The calls */

/* Makes moult._lane, unless that is there, and imports moult._engine, which imports it. NULL
 * with an exception. */
static PyObject *python_import(void)
{
	PyObject *modules = PyImport_GetModuleDict();
	PyObject *lane = PyDict_GetItemString(modules, "moult._lane");

	if (!lane) {
		lane = python_lane_new();
		if (!lane || PyDict_SetItemString(modules, "moult._lane", lane) < 0) {
			Py_XDECREF(lane);
			return NULL;
		}
		Py_DECREF(lane);
	}
	return PyImport_ImportModule("moult._engine");
}

/* What fails here fails again in stage, which says so. */
static void python_prepare(void)
{
	PyGILState_STATE state = PyGILState_Ensure();

	Py_XDECREF(python_import());
	PyErr_Clear();
	PyGILState_Release(state);
}

static int python_open(struct engine *engine, struct err *err)
{
	engine->package = python_import();
	if (engine->package)
		return 0;
	return python_tell(err, ENGINE_E_CONFIG,
	                   "moult's own package cannot be imported, install it wholly");
}

static int python_stage(const struct engine_config *config, struct engine **ret_engine,
                        struct err *err)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	PyGILState_STATE state;
	int r;

	*ret_engine = engine;
	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	engine->config = config;
	for (size_t i = 0; i < config->n_options; i++)
		if (engine_options_check("python", python_options,
		                         config->options[i].name, err))
			return ENGINE_E_CONFIG;
	state = PyGILState_Ensure();
	r = python_open(engine, err);
	if (r == 0)
		r = python_call(engine, "stage", python_config(config), err);
	PyGILState_Release(state);
	return r;
}

static int python_commit(struct engine *engine, struct err *err)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int r = python_call(engine, "commit",
	                    Py_BuildValue("(N)", python_weights(engine->config)), err);

	PyGILState_Release(state);
	return r;
}

/* Calls moult._engine.infer(), which gives the outputs in the place of the sentence. */
static int python_compute(struct engine *engine, PyObject *inputs,
                          struct engine_tensor *outputs, struct err *err)
{
	const struct engine_config *config = engine->config;
	PyObject *result =
		inputs ? PyObject_CallMethod(engine->package, "infer", "O", inputs)
		       : NULL;
	PyObject *list = NULL;
	int outcome;

	if (!result || !PyArg_ParseTuple(result, "iO", &outcome, &list) || outcome)
		return python_read_outcome(result, "infer", err);
	Py_XDECREF(engine->outputs);
	engine->outputs = result;
	if (python_outputs(list, config->outputs, config->n_outputs, outputs))
		return 0;
	return python_tell(err, ENGINE_E_MODEL, "the outputs cannot be read");
}

static int python_infer(struct engine *engine, const struct engine_tensor *inputs,
                        struct engine_tensor *outputs, struct err *err)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *list = python_inputs(inputs, engine->config->n_inputs);
	int r = python_compute(engine, list, outputs, err);

	Py_XDECREF(list);
	PyGILState_Release(state);
	return r;
}

/* Calls moult._engine.tell(), which gives the tensors in the place of the sentence. */
static int python_ask(struct engine *engine, PyObject *specs, PyObject *inputs,
                      struct engine_declared *ret_declared, struct err *err)
{
	PyObject *result = specs && inputs ? PyObject_CallMethod(engine->package, "tell",
	                                                         "OO", specs, inputs)
	                                   : NULL;
	PyObject *told = NULL;
	PyObject *ins;
	PyObject *outs;
	int outcome;

	if (!result || !PyArg_ParseTuple(result, "iO", &outcome, &told) || outcome)
		return python_read_outcome(result, "tell", err);
	outcome = 0;
	if (!PyArg_ParseTuple(told, "OO", &ins, &outs) ||
	    !python_read_specs(ins, ret_declared->inputs, &ret_declared->n_inputs) ||
	    !python_read_specs(outs, ret_declared->outputs, &ret_declared->n_outputs))
		outcome = python_tell(err, ENGINE_E_MODEL,
		                      "the tensors of the class cannot be read");
	Py_DECREF(result);
	return outcome;
}

static int python_declare(struct engine *engine, const struct engine_tensor *example,
                          struct engine_declared *ret_declared, struct err *err)
{
	const struct engine_config *config = engine->config;
	PyGILState_STATE state = PyGILState_Ensure();
	PyObject *specs = python_specs(config->inputs, config->n_inputs);
	PyObject *inputs = Py_None;
	int r;

	if (example)
		inputs = python_inputs(example, config->n_inputs);
	else
		Py_INCREF(inputs);
	r = python_ask(engine, specs, inputs, ret_declared, err);
	Py_XDECREF(specs);
	Py_XDECREF(inputs);
	PyGILState_Release(state);
	return r;
}

static int python_host(struct engine *engine, const struct engine_host *host,
                       struct err *err)
{
	PyGILState_STATE state = PyGILState_Ensure();
	int r;

	python_lane_begin(host);
	r = python_call(engine, "host", PyTuple_New(0), err);
	PyGILState_Release(state);
	return r;
}

static void python_close(struct engine *engine)
{
	PyGILState_STATE state;
	struct err err = ERR_NULL;

	if (!engine)
		return;
	if (engine->package) {
		state = PyGILState_Ensure();
		(void)python_call(engine, "close", PyTuple_New(0), &err);
		python_lane_end();
		Py_XDECREF(engine->outputs);
		Py_DECREF(engine->package);
		PyGILState_Release(state);
	}
	free(engine);
}

/* "3.11.2", of which Py_GetVersion() says more. */
static const char *python_version(void)
{
	static char version[PYTHON_VERSION_MAX];
	const char *text = Py_GetVersion();

	(void)snprintf(version, sizeof(version), "%.*s", (int)strcspn(text, " "), text);
	return version;
}

__attribute__((visibility("default"))) const struct engine_api *moult_engine(void)
{
	static struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "python",
		.need = python_need,
		.stage = python_stage,
		.commit = python_commit,
		.infer = python_infer,
		.host = python_host,
		.close = python_close,
		.prepare = python_prepare,
		.declare = python_declare,
	};

	api.version = python_version();
	return &api;
}
