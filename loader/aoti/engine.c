/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Packages of AOTInductor (.pt2), behind loader/engine.h: a model that torch.export and
 * torch._inductor have compiled. torch is opened before the walls are put up (need), where the
 * user has it (shim.h); nothing of it is linked. The package's code (code.h) is opened in
 * stage, inside the walls, once its head says that it can run here; in commit, where the bytes
 * come only then.
 *
 * Everything is read from the bytes that the loader read, never from a path, so that the bytes
 * that were hashed are those that run.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "loader/aoti/catch.h"
#include "loader/aoti/code.h"
#include "loader/aoti/constants.h"
#include "loader/aoti/options.h"
#include "loader/aoti/package.h"
#include "loader/aoti/shim.h"
#include "loader/aoti/call.h"
#include "loader/aoti/tensors.h"
#include "loader/engine.h"

struct engine {
	const struct engine_config *config;
	struct aoti_options options;
	struct code code;
	struct constants constants;
	struct call call;
	struct tensors tensors;
	bool is_placed; /* its call knows where the configuration's tensors are */
};

/* need opens it before there is an engine. */
static struct shim engine_shim;

static int engine_need(const struct engine_config *config, struct engine_walls *walls,
                       struct err *err)
{
	struct aoti_options options;
	int r = aoti_options_read(config, &options, err);

	(void)walls;
	if (r == 0 && strcmp(config->device, "cpu") != 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine aoti computes on the CPU alone: set device = cpu, "
		               "or serve the model on %s by engine torch or python",
		               config->device);
	return r ? r : shim_open(&engine_shim, &options, err);
}

/* Building */

static int engine_read_call(struct engine *engine, const struct package *package,
                            struct err *err)
{
	struct call *call = &engine->call;
	const struct code *code = &engine->code;
	const char *in = NULL;
	const char *out = NULL;

	if (code->model.count_inputs(code->container, &call->n_inputs) ||
	    code->model.count_outputs(code->container, &call->n_outputs) ||
	    code->model.spec(code->container, &in, &out))
		return err_set(
			err, ENGINE_E_MODEL,
			"the package does not tell what it takes: compile it anew");
	if (call->n_inputs > ENGINE_TENSORS_MAX || call->n_outputs > ENGINE_TENSORS_MAX ||
	    call->n_outputs == 0)
		return err_set(
			err, ENGINE_E_MODEL,
			"the model has %zu inputs and %zu outputs, and at most %d of "
			"each can be passed",
			call->n_inputs, call->n_outputs, ENGINE_TENSORS_MAX);
	if (package->source.data)
		source_read(call->inputs, ENGINE_TENSORS_MAX,
		            (const char *)package->source.data, package->source.bytes);
	call_read_inputs(call, in);
	call_read_outputs(call, out);
	return call_check(call, engine->config, err);
}

static int engine_check_package(const struct package *package, struct err *err)
{
	if (package->has_operators)
		return err_set(
			err, ENGINE_E_MODEL,
			"it calls operators (custom ones, or such as torch has not "
			"compiled) that only torch's own loader can call: serve it "
			"by engine python");
	return package_check_machine(package, "cpu", err);
}

/* Compiled checks of requests cost little, and are the only ones where the source of the wrapper
 * is missing or in a form that nobody knew. The code asks once, when it first computes. */
static int engine_choose_checks(const struct engine *engine, struct err *err)
{
	if (call_is_known(&engine->call))
		return 0;
	return setenv("AOTI_RUNTIME_CHECK_INPUTS", "1", 1) < 0
	               ? err_set(err, ENGINE_E_FAILED, "out of memory")
	               : 0;
}

static int engine_build(struct engine *engine, const void *data, size_t bytes,
                        bool is_lasting, struct err *err)
{
	struct package package = PACKAGE_NULL;
	int r = package_open(&package, data, bytes, engine->options.model, err);

	if (r == 0)
		r = engine_check_package(&package, err);
	if (r == 0)
		r = code_open(&engine->code, &package, &engine_shim, err);
	if (r == 0 && is_lasting)
		r = constants_check_shared(&package, &engine->code, err);
	if (r == 0)
		r = engine_read_call(engine, &package, err);
	if (r == 0)
		r = constants_place(&engine->constants, &package, &engine->code,
		                    &engine_shim, is_lasting, err);
	if (r == 0)
		r = engine_choose_checks(engine, err);
	package_fini(&package);
	return r;
}

/* Does it over the loader's bytes, or over a mapping of the file that lasts until it is done. */
static int engine_load(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	void *mapping;
	int r;

	if (config->weights)
		return engine_build(engine, config->weights, config->weights_bytes,
		                    config->is_shared, err);
	mapping = mmap(NULL, config->weights_bytes, PROT_READ, MAP_PRIVATE,
	               config->weights_fd, 0);
	if (mapping == MAP_FAILED)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	r = engine_build(engine, mapping, config->weights_bytes, false, err);
	(void)munmap(mapping, config->weights_bytes);
	return r;
}

static int engine_stage(const struct engine_config *config, struct engine **ret_engine,
                        struct err *err)
{
	struct engine *engine;
	int r;

	if (config->weights_bytes == 0)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine aoti needs a model file: set path");
	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	*ret_engine = engine;
	engine->config = config;
	tensors_init(&engine->tensors, &engine_shim.torch);
	r = aoti_options_read(config, &engine->options, err);
	if (r)
		return r;
	engine_shim.torch.set_threads((int)config->threads);
	return config->is_lean ? 0 : engine_load(engine, err);
}

static int engine_commit(struct engine *engine, struct err *err)
{
	return engine->config->is_lean ? engine_load(engine, err) : 0;
}

/* Computing */

/* Runs the model once. False: it failed. */
static bool engine_run(struct engine *engine, const struct engine_tensor *inputs,
                       struct err *err, int *ret_outcome)
{
	const struct code *code = &engine->code;
	struct tensors *tensors = &engine->tensors;
	bool is_done;

	tensors_drop(tensors);
	*ret_outcome = tensors_put(tensors, &engine->call, inputs,
	                           engine->config->n_inputs, err);
	is_done = *ret_outcome == 0 &&
	          code->model.run(code->container, tensors->inputs, engine->call.n_inputs,
	                          tensors->outputs, engine->call.n_outputs, NULL,
	                          NULL) == 0;
	tensors_drop_inputs(tensors);
	return is_done;
}

static bool engine_has(const char *text, const char *const *marks)
{
	while (*marks && !strcasestr(text, *marks))
		marks++;
	return *marks != NULL;
}

/* Whose fault it is, by what torch has written. */
static int engine_judge(const char *cause, struct err *err)
{
	static const char *const memory[] = { "can't allocate memory", "bad_alloc",
		                              "out of memory", "not enough memory",
		                              NULL };
	static const char *const request[] = { "input_handles[",       "index out of",
		                               "out of range",         "out of bounds",
		                               "indices should be in", NULL };

	if (engine_has(cause, memory))
		return err_set(err, ENGINE_E_FAILED, "torch: %s", cause);
	if (engine_has(cause, request))
		return err_set(err, ENGINE_E_INPUT, "the model refuses the request: %s",
		               cause);
	return err_set(err, ENGINE_E_MODEL, "torch: %s",
	               *cause ? cause : "the model failed without a word");
}

/* A failed computation is done once more with its cause caught; that may succeed. */
static int engine_compute(struct engine *engine, const struct engine_tensor *inputs,
                          struct err *err)
{
	char cause[ERR_TEXT_MAX];
	struct catch catch;
	int outcome;
	bool is_done;

	if (engine_run(engine, inputs, err, &outcome) || outcome)
		return outcome;
	catch_begin(&catch);
	is_done = engine_run(engine, inputs, err, &outcome);
	catch_end(&catch, cause, sizeof(cause));
	return is_done || outcome ? outcome : engine_judge(cause, err);
}

static int engine_infer(struct engine *engine, const struct engine_tensor *inputs,
                        struct engine_tensor *outputs, struct err *err)
{
	const struct engine_config *config = engine->config;
	const struct call *call = &engine->call;
	int r = engine->is_placed ? 0 : call_check(&engine->call, config, err);

	engine->is_placed = r == 0;
	if (r == 0)
		r = call_check_request(call, config, inputs, err);
	if (r == 0)
		r = engine_compute(engine, inputs, err);
	for (size_t i = 0; i < config->n_outputs && r == 0; i++)
		r = tensors_take(&engine->tensors, call->output_at[i],
		                 config->outputs[i].name, &outputs[i], err);
	if (r)
		tensors_drop(&engine->tensors);
	return r;
}

/* Declaring */

static void engine_declare_inputs(const struct call *call,
                                  struct engine_declared *ret_declared)
{
	for (size_t i = 0; i < call->n_inputs; i++) {
		const struct source_input *own = &call->inputs[i];
		struct tensor_spec *spec = &ret_declared->inputs[i];

		memcpy(spec->name, call->input_names[i], sizeof(spec->name));
		spec->shape = own->shape;
		if (!own->is_known || !call_dtype(own->dtype, &spec->dtype))
			spec->dtype = ENGINE_DTYPE_OPEN;
	}
	ret_declared->n_inputs = call->n_inputs;
}

/* Every dim of an output may be another one for another request. */
static int engine_declare_outputs(struct engine *engine,
                                  struct engine_declared *ret_declared, struct err *err)
{
	const struct call *call = &engine->call;
	int r = 0;

	for (size_t i = 0; i < call->n_outputs && r == 0; i++) {
		struct tensor_spec *spec = &ret_declared->outputs[i];
		struct engine_tensor tensor = { .bytes = 0 };

		r = tensors_take(&engine->tensors, i, call->output_names[i], &tensor,
		                 err);
		memcpy(spec->name, call->output_names[i], sizeof(spec->name));
		spec->dtype = tensor.dtype;
		spec->shape.rank = tensor.shape.rank;
		for (uint32_t j = 0; j < spec->shape.rank; j++)
			spec->shape.dims[j] = TENSOR_DIM_ANY;
	}
	ret_declared->n_outputs = r ? 0 : call->n_outputs;
	return r;
}

static int engine_declare(struct engine *engine, const struct engine_tensor *example,
                          struct engine_declared *ret_declared, struct err *err)
{
	int r;

	/* The configuration gets what is told here. */
	engine->is_placed = false;
	engine_declare_inputs(&engine->call, ret_declared);
	if (!example)
		return 0;
	/* By now the configuration has the inputs that were told. */
	r = call_check(&engine->call, engine->config, err);
	if (r == 0)
		r = call_check_request(&engine->call, engine->config, example, err);
	if (r == 0)
		r = engine_compute(engine, example, err);
	if (r == 0)
		r = engine_declare_outputs(engine, ret_declared, err);
	tensors_drop(&engine->tensors);
	return r;
}

static void engine_close(struct engine *engine)
{
	if (!engine)
		return;
	tensors_drop(&engine->tensors);
	code_close(&engine->code);
	constants_fini(&engine->constants, &engine_shim);
	free(engine);
}

__attribute__((visibility("default"))) const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "aoti",
		.version = engine_shim.version,
		.stage = engine_stage,
		.commit = engine_commit,
		.infer = engine_infer,
		.close = engine_close,
		.need = engine_need,
		.declare = engine_declare,
	};

	return &api;
}
