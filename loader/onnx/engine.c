/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models of ONNX, by ONNX Runtime, behind loader/engine.h. The runtime is opened before the walls
 * are put up (need), where the user has it (runtime.h); nothing of it is linked. Its session
 * (session.h) is built in stage; in commit, where the weights come only then, or the device has
 * memory of its own. infer turns requests into values and back (values.h).
 *
 * A model is parsed from the bytes that the loader read, never from a path, so that the bytes that
 * were hashed are those that run. Weights that a model keeps in files beside it are refused with
 * it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "loader/engine.h"
#include "loader/onnx/account.h"
#include "loader/onnx/options.h"
#include "loader/onnx/runtime.h"
#include "loader/onnx/session.h"
#include "loader/onnx/signature.h"
#include "loader/onnx/status.h"
#include "loader/onnx/values.h"

struct engine {
	const struct engine_config *config;
	struct onnx_options options;
	struct account account;
	struct session session;
	struct signature signature;
	struct values values;
};

/* need opens it before there is an engine. */
static struct runtime engine_runtime;

static bool engine_is_host(const struct engine_config *config)
{
	return strcmp(config->device, "cpu") == 0;
}

static int engine_need(const struct engine_config *config, struct engine_walls *walls,
                       struct err *err)
{
	struct onnx_options options;
	int r = onnx_options_read(config, &options, err);

	if (r == 0)
		r = runtime_open(&engine_runtime, &options, err);
	if (r == 0 && !engine_is_host(config))
		runtime_need_cuda(&engine_runtime, walls);
	return r;
}

/* Building */

/* Builds the session, and holds what the model declares against the configuration. */
static int engine_look(struct engine *engine, const struct session_file *file,
                       struct err *err)
{
	const struct ort_api *api = engine->session.api;
	int r = session_build(&engine->session, file, err);

	if (r == 0)
		r = signature_read(api, engine->session.ort, engine->config,
		                   &engine->signature, err);
	return r ? r : signature_check(&engine->signature, engine->config, err);
}

/* Does it over the loader's bytes, or over a mapping of the file that lasts until it is done. */
static int engine_load(struct engine *engine, bool is_host, struct err *err)
{
	const struct engine_config *config = engine->config;
	struct session_file file = {
		.data = config->weights,
		.bytes = config->weights_bytes,
		.is_lasting = config->weights && config->is_shared,
		.is_host = is_host,
	};
	void *mapping = NULL;
	int r = 0;

	if (!file.data) {
		mapping = mmap(NULL, file.bytes, PROT_READ, MAP_PRIVATE,
		               config->weights_fd, 0);
		if (mapping == MAP_FAILED)
			return err_set(err, ENGINE_E_FAILED, "out of memory");
		file.data = mapping;
	}
	if (file.is_lasting)
		r = session_share(&engine->session, &file, err);
	if (r == 0)
		r = engine_look(engine, &file, err);
	if (mapping)
		(void)munmap(mapping, file.bytes);
	return r;
}

/* True when the weights are in their place only in commit. */
static bool engine_loads_in_commit(const struct engine_config *config)
{
	return config->is_lean || !engine_is_host(config);
}

/* Finds out whether the model can be built, before an old generation has to go for it. */
static int engine_try(struct engine *engine, struct err *err)
{
	int r;

	if (engine->config->is_shared)
		return err_set(err, ENGINE_E_PRIVATE, "device '%s' has memory of its own",
		               engine->config->device);
	r = engine_load(engine, true, err);
	session_drop(&engine->session);
	return r;
}

/* Makes what the runtime needs before it sees a model. */
static int engine_init(struct engine *engine, const struct engine_config *config,
                       struct err *err)
{
	int r = onnx_options_read(config, &engine->options, err);

	engine->config = config;
	engine->session = (struct session){
		.api = engine_runtime.api,
		.editor = engine_runtime.editor,
		.version = engine_runtime.version,
		.config = config,
		.options = &engine->options,
		.throw = engine_runtime.throw,
	};
	if (r == 0)
		r = session_check_device(&engine->session, err);
	if (r == 0)
		r = session_init(&engine->session, &engine->account, err);
	engine->values = (struct values){
		.api = engine_runtime.api,
		.config = config,
		.memory = engine->session.memory,
	};
	return r;
}

static int engine_stage(const struct engine_config *config, struct engine **ret_engine,
                        struct err *err)
{
	struct engine *engine;
	int r;

	if (config->weights_bytes == 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine onnx needs a model file: set path");
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	*ret_engine = engine;
	r = engine_init(engine, config, err);
	if (r)
		return r;
	if (!engine_is_host(config))
		return engine_try(engine, err);
	return engine_loads_in_commit(config) ? 0 : engine_load(engine, true, err);
}

static int engine_commit(struct engine *engine, struct err *err)
{
	return engine_loads_in_commit(engine->config) ? engine_load(engine, false, err)
	                                              : 0;
}

/* The file tells all, so that no example is needed. */
static int engine_declare(struct engine *engine, const struct engine_tensor *example,
                          struct engine_declared *ret_declared, struct err *err)
{
	const struct signature *signature = &engine->signature;

	(void)example;
	(void)err;
	memcpy(ret_declared->inputs, signature->inputs, sizeof(signature->inputs));
	memcpy(ret_declared->outputs, signature->outputs, sizeof(signature->outputs));
	ret_declared->n_inputs = signature->n_inputs;
	ret_declared->n_outputs = signature->n_outputs;
	return 0;
}

/* Computing */

static int engine_run(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	struct values *values = &engine->values;
	const char *inputs[ENGINE_TENSORS_MAX];
	const char *outputs[ENGINE_TENSORS_MAX];
	const struct ort_value *given[ENGINE_TENSORS_MAX];
	struct ort_status *status;

	for (size_t i = 0; i < config->n_inputs; i++) {
		inputs[i] = config->inputs[i].name;
		given[i] = values->inputs[i];
	}
	for (size_t i = 0; i < config->n_outputs; i++)
		outputs[i] = config->outputs[i].name;
	status = values->api->run(engine->session.ort, NULL, inputs, given,
	                          config->n_inputs, outputs, config->n_outputs,
	                          values->outputs);
	if (!status)
		return 0;
	if (account_wanted(&engine->account) == 0)
		return status_of_run(values->api, status, config, err);
	values->api->release_status(status);
	return err_set(err, ENGINE_E_MEMORY, "ONNX Runtime is out of memory%s",
	               config->working_bytes ? ": more than working_memory" : "");
}

static int engine_infer(struct engine *engine, const struct engine_tensor *inputs,
                        struct engine_tensor *outputs, struct err *err)
{
	struct values *values = &engine->values;
	int r;

	values_drop(values);
	account_begin(&engine->account, engine->config->working_bytes);
	r = values_put(values, inputs, err);
	if (r == 0)
		r = engine_run(engine, err);
	account_end(&engine->account);
	values_drop_inputs(values);
	if (r == 0)
		r = values_take(values, outputs, err);
	if (r)
		values_drop(values);
	return r;
}

static void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	values_drop(&engine->values);
	session_fini(&engine->session);
	free(engine);
}

static void engine_measure(const struct engine *engine, struct engine_use *ret_use)
{
	*ret_use = (struct engine_use){
		.peak_bytes = account_peak(&engine->account),
		.wanted_bytes = account_wanted(&engine->account),
		.available_bytes = engine->config->working_bytes,
	};
}

__attribute__((visibility("default"))) const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "onnx",
		.version = engine_runtime.version,
		.stage = engine_stage,
		.commit = engine_commit,
		.infer = engine_infer,
		.close = engine_close,
		.measure = engine_measure,
		.need = engine_need,
		.declare = engine_declare,
	};

	return &api;
}
