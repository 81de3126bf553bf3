/* SPDX-License-Identifier: Apache-2.0 */

/* An engine outside moult's tree: answers its one FP32 input, multiplied by option.by. */
#include <moult/engine.h>
#include <stdlib.h>
#include <string.h>

ENGINE_OPTIONS(options, "by");

struct engine {
	const struct engine_config *config;
	float by;
	float *numbers;
};

static int stage(const struct engine_config *config, struct engine **ret_engine,
                 struct err *err)
{
	struct engine *engine = *ret_engine = calloc(1, sizeof(*engine));

	if (!engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	if (config->n_inputs > 1 ||
	    (config->n_inputs == 1 && config->inputs[0].dtype != TENSOR_DTYPE_FP32))
		return err_set(err, ENGINE_E_CONFIG,
		               "declare one input of FP32, or leave input out");
	engine->config = config;
	engine->by = 1;
	for (size_t i = 0; i < config->n_options; i++) {
		if (engine_options_check("scale", options, config->options[i].name, err))
			return ENGINE_E_CONFIG;
		engine->by = strtof(config->options[i].value, NULL);
	}
	return 0;
}

static int commit(struct engine *engine, struct err *err)
{
	(void)engine, (void)err; /* there are no weights to place */
	return 0;
}

/* What the section leaves out: a list of numbers, answered by as many. */
static int declare(struct engine *engine, const struct engine_tensor *example,
                   struct engine_declared *ret_declared, struct err *err)
{
	static const struct tensor_spec list = { .name = "x",
		                                 .dtype = TENSOR_DTYPE_FP32,
		                                 .shape = { 1, { TENSOR_DIM_ANY } } };
	const struct engine_config *config = engine->config;

	(void)example, (void)err;
	ret_declared->inputs[0] = config->n_inputs > 0 ? config->inputs[0] : list;
	ret_declared->outputs[0] = ret_declared->inputs[0];
	(void)strcpy(ret_declared->outputs[0].name, "y");
	ret_declared->n_inputs = ret_declared->n_outputs = 1;
	return 0;
}

static int infer(struct engine *engine, const struct engine_tensor *inputs,
                 struct engine_tensor *outputs, struct err *err)
{
	float *numbers = realloc(engine->numbers, inputs[0].bytes + 1);

	if (!numbers)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	engine->numbers = numbers;
	outputs[0] = inputs[0];
	outputs[0].data = numbers;
	for (size_t i = 0; i < inputs[0].bytes / sizeof(float); i++)
		numbers[i] = ((const float *)inputs[0].data)[i] * engine->by;
	return 0;
}

static void end(struct engine *engine)
{
	if (engine)
		free(engine->numbers);
	free(engine);
}

const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "scale",
		.version = "1",
		.stage = stage,
		.commit = commit,
		.infer = infer,
		.close = end,
		.declare = declare,
	};

	return &api;
}
