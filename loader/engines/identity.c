/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine that answers with its input, so that everything around an engine can be tested and
 * measured. A model file is held as any engine holds weights, shared or as a private copy, and
 * is never read otherwise. Options make the engine slow, or have it insist on a private copy.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loader/engine.h"
#include "shared/engine_options.h"
#include "shared/file.h"

#define IDENTITY_DELAY_MAX_US 60000000UL

ENGINE_OPTIONS(identity_options, "secret, secret_prefix, private, delay_us");

struct engine {
	const struct engine_config *config;
	struct timespec delay;
	unsigned char *weights; /* a private copy, or NULL */
	bool is_private;        /* option.private: insists on a private copy */
};

static int identity_check_specs(const struct engine_config *config, struct err *err)
{
	char want[128];
	char got[128];

	if (config->n_inputs == 0 || config->n_outputs == 0)
		return 0; /* what is left out is like what is there */
	if (config->n_inputs != config->n_outputs)
		return err_set(err, ENGINE_E_CONFIG,
		               "engine identity answers with its inputs: declare as many "
		               "outputs as inputs, not %zu and %zu",
		               config->n_outputs, config->n_inputs);
	for (size_t i = 0; i < config->n_inputs; i++) {
		const struct tensor_spec *in = &config->inputs[i];
		const struct tensor_spec *out = &config->outputs[i];

		if (in->dtype == out->dtype && in->shape.rank == out->shape.rank &&
		    memcmp(in->shape.dims, out->shape.dims,
		           in->shape.rank * sizeof(in->shape.dims[0])) == 0)
			continue;
		return err_set(
			err, ENGINE_E_CONFIG,
			"engine identity answers with its inputs: output '%s' must "
			"be %s %s like input '%s', not %s %s",
			out->name, tensor_dtype_name(in->dtype),
			tensor_shape_print(&in->shape, want, sizeof(want)), in->name,
			tensor_dtype_name(out->dtype),
			tensor_shape_print(&out->shape, got, sizeof(got)));
	}
	return 0;
}

static int identity_read_delay(struct engine *engine, const char *text, struct err *err)
{
	char *end;
	unsigned long delay_us;

	errno = 0;
	delay_us = strtoul(text, &end, 10);
	if (errno || end == text || *end != '\0' || delay_us > IDENTITY_DELAY_MAX_US)
		return err_set(err, ENGINE_E_CONFIG,
		               "option.delay_us must be 0 to %lu, not '%s'",
		               IDENTITY_DELAY_MAX_US, text);
	engine->delay.tv_sec = (time_t)(delay_us / 1000000);
	engine->delay.tv_nsec = (long)(delay_us % 1000000) * 1000;
	return 0;
}

static int identity_check_secret(const struct engine_config *config, const char *name,
                                 const char *prefix, struct err *err)
{
	if (!name)
		return err_set(err, ENGINE_E_CONFIG,
		               "option.secret_prefix needs option.secret");
	for (size_t i = 0; i < config->n_secrets; i++) {
		const struct engine_secret *secret = &config->secrets[i];
		size_t bytes = prefix ? strlen(prefix) : 0;

		if (strcmp(secret->name, name) != 0)
			continue;
		if (secret->value_bytes < bytes ||
		    (bytes > 0 && memcmp(secret->value, prefix, bytes) != 0))
			return err_set(err, ENGINE_E_CONFIG,
			               "secret '%s' does not begin with '%s', as "
			               "option.secret_prefix demands",
			               name, prefix);
		return 0;
	}
	return err_set(err, ENGINE_E_CONFIG,
	               "option.secret names '%s', and there is no such secret", name);
}

static int identity_read_options(struct engine *engine,
                                 const struct engine_config *config, struct err *err)
{
	const char *secret = NULL;
	const char *prefix = NULL;
	int r = 0;

	for (size_t i = 0; i < config->n_options && r == 0; i++) {
		const struct engine_option *option = &config->options[i];

		if (strcmp(option->name, "secret") == 0)
			secret = option->value;
		else if (strcmp(option->name, "secret_prefix") == 0)
			prefix = option->value;
		else if (strcmp(option->name, "private") == 0)
			engine->is_private = strcmp(option->value, "yes") == 0;
		else if (strcmp(option->name, "delay_us") == 0)
			r = identity_read_delay(engine, option->value, err);
		else if (engine_options_check("identity", identity_options, option->name,
		                              err))
			r = ENGINE_E_CONFIG;
	}
	if (r == 0 && (secret || prefix))
		r = identity_check_secret(config, secret, prefix, err);
	return r;
}

static int identity_read_weights(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;
	ssize_t n = file_read_at(config->weights_fd, engine->weights,
	                         config->weights_bytes, 0);

	if (n < 0)
		return err_set(err, ENGINE_E_FAILED, "cannot be read: %s",
		               strerror((int)-n));
	if ((size_t)n < config->weights_bytes)
		return err_set(err, ENGINE_E_MODEL, "cannot be read: it became shorter");
	return 0;
}

/* Makes the private copy, unless the weights are shared: in stage, or in commit when lean. */
static int identity_take_weights(struct engine *engine, struct err *err)
{
	const struct engine_config *config = engine->config;

	if (config->weights_bytes == 0 || config->is_shared)
		return 0;
	engine->weights = malloc(config->weights_bytes);
	if (!engine->weights)
		return err_set(err, ENGINE_E_FAILED, "no memory for %zu bytes of weights",
		               config->weights_bytes);
	if (config->is_lean)
		return identity_read_weights(engine, err);
	memcpy(engine->weights, config->weights, config->weights_bytes);
	return 0;
}

static int identity_stage(const struct engine_config *config, struct engine **ret_engine,
                          struct err *err)
{
	int r;

	*ret_engine = calloc(1, sizeof(**ret_engine));
	if (!*ret_engine)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	(*ret_engine)->config = config;
	r = identity_check_specs(config, err);
	if (r == 0)
		r = identity_read_options(*ret_engine, config, err);
	/* The refusal comes in stage, so that nothing is placed in vain. */
	if (r == 0 && config->is_shared && (*ret_engine)->is_private)
		return err_set(err, ENGINE_E_PRIVATE, "option.private says so");
	if (r == 0 && !config->is_lean)
		r = identity_take_weights(*ret_engine, err);
	return r;
}

static int identity_commit(struct engine *engine, struct err *err)
{
	return engine->config->is_lean ? identity_take_weights(engine, err) : 0;
}

static int identity_infer(struct engine *engine, const struct engine_tensor *inputs,
                          struct engine_tensor *outputs, struct err *err)
{
	(void)err;
	if (engine->delay.tv_sec || engine->delay.tv_nsec)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &engine->delay, NULL);
	memcpy(outputs, inputs, engine->config->n_inputs * sizeof(*outputs));
	return 0;
}

/* No file says anything: one kind of tensors tells the other. */
static int identity_declare(struct engine *engine, const struct engine_tensor *example,
                            struct engine_declared *ret_declared, struct err *err)
{
	const struct engine_config *config = engine->config;
	bool has_inputs = config->n_inputs > 0;
	size_t n = has_inputs ? config->n_inputs : config->n_outputs;
	size_t bytes = n * sizeof(config->inputs[0]);
	const struct tensor_spec *specs = has_inputs ? config->inputs : config->outputs;

	(void)example;
	if (config->n_inputs > 0 && config->n_outputs > 0)
		return identity_check_specs(config, err);
	memcpy(ret_declared->inputs, specs, bytes);
	memcpy(ret_declared->outputs, specs, bytes);
	ret_declared->n_inputs = ret_declared->n_outputs = n;
	return 0;
}

static void identity_close(struct engine *engine)
{
	if (engine)
		free(engine->weights);
	free(engine);
}

const struct engine_api *moult_engine(void)
{
	static const struct engine_api api = {
		.abi = ENGINE_ABI,
		.name = "identity",
		.version = MOULT_VERSION,
		.stage = identity_stage,
		.commit = identity_commit,
		.infer = identity_infer,
		.close = identity_close,
		.declare = identity_declare,
	};

	return &api;
}
