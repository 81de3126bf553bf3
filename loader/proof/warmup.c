/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes the request of a warm-up and runs it: the configured file (warmup_read_file()), or zeros
 * in the declared shapes (warmup_make_zeros()). Each run is a rehearsal, so that the paths that
 * clients take are warm. Frameworks choose and compile kernels by shape: hence the last run
 * with a full batch.
 */
#include "loader/proof/warmup.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/serve/compute.h"
#include "loader/proof/rehearsal.h"
#include "shared/cleanup.h"
#include "shared/file.h"

struct warmup {
	struct rehearsal rehearsal;
	size_t json_bytes;
	bool is_file; /* else zeros */
};

static void warmup_seal(struct warmup *warmup)
{
	char length[24];
	struct proto_field field = {
		proto_text_of("inference-header-content-length"),
		{ length, 0 },
	};

	field.value.bytes =
		(size_t)snprintf(length, sizeof(length), "%zu", warmup->json_bytes);
	(void)rehearsal_seal(&warmup->rehearsal, &field, 1); /* one number fits */
}

static int warmup_read_file(struct warmup *warmup, const struct model_config *config,
                            struct err *err)
{
	CLOSE_FD int fd = -1;
	size_t bytes;
	int r = model_config_open_warmup(config, &fd, &bytes, err);

	if (r)
		return r;
	r = rehearsal_alloc(&warmup->rehearsal, bytes, err);
	if (r)
		return r;
	warmup->json_bytes = warmup->rehearsal.body_bytes;
	warmup->is_file = true;
	if (file_read_at(fd, warmup->rehearsal.body, bytes, 0) != (ssize_t)bytes)
		return err_set(err, ENGINE_E_CONFIG,
		               "cannot read warmup_request '%s' whole",
		               config->warmup_request);
	return 0;
}

/* The declared shape with @rows for a variable first dim and 1 for the others. */
static struct tensor_shape warmup_shape(const struct tensor_spec *spec, uint32_t rows)
{
	struct tensor_shape shape = spec->shape;

	for (uint32_t i = 0; i < shape.rank; i++)
		if (shape.dims[i] == TENSOR_DIM_ANY)
			shape.dims[i] = i == 0 ? rows : 1;
	return shape;
}

static int warmup_bytes(const struct tensor_spec *spec, const struct tensor_shape *shape,
                        size_t *ret_bytes)
{
	size_t count;

	if (spec->dtype != TENSOR_DTYPE_BYTES)
		return tensor_bytes(spec->dtype, shape, ret_bytes);
	/* A BYTES tensor of zeros holds empty texts: a length each. */
	if (tensor_count(shape, &count) < 0 ||
	    __builtin_mul_overflow(count, sizeof(uint32_t), ret_bytes))
		return -EOVERFLOW;
	return 0;
}

static json_t *warmup_input(const struct tensor_spec *spec, uint32_t rows,
                            size_t *ret_bytes)
{
	struct tensor_shape shape = warmup_shape(spec, rows);
	json_t *dims = json_array();

	for (uint32_t i = 0; i < shape.rank; i++)
		(void)json_array_append_new(dims, json_integer(shape.dims[i]));
	if (warmup_bytes(spec, &shape, ret_bytes) < 0) {
		json_decref(dims);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:o, s:{s:I}}", "name", spec->name, "datatype",
	                 tensor_dtype_name(spec->dtype), "shape", dims, "parameters",
	                 "binary_data_size", (json_int_t)*ret_bytes);
}

/* Makes a request of zeros. Its answers are asked for in binary: zeros may give numbers that
 * JSON has no word for. */
static int warmup_make_zeros(struct warmup *warmup, const struct model_config *config,
                             uint32_t rows, struct err *err)
{
	json_t *inputs = json_array();
	FREE char *text = NULL;
	json_t *object;
	size_t total = 0;
	int r;

	for (size_t i = 0; i < config->n_inputs; i++) {
		size_t bytes = 0;
		json_t *input = warmup_input(&config->inputs[i], rows, &bytes);

		if (!input || json_array_append_new(inputs, input) < 0 ||
		    __builtin_add_overflow(total, bytes, &total)) {
			json_decref(inputs);
			return err_set(err, ENGINE_E_CONFIG,
			               "input '%s' with %u rows is too large for memory",
			               config->inputs[i].name, rows);
		}
	}
	object = json_pack("{s:{s:b}, s:o}", "parameters", "binary_data_output", 1,
	                   "inputs", inputs);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (!text)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	warmup->json_bytes = strlen(text);
	if (__builtin_add_overflow(total, warmup->json_bytes, &total))
		return err_set(err, ENGINE_E_CONFIG,
		               "the inputs are too large for memory");
	r = rehearsal_alloc(&warmup->rehearsal, total, err);
	if (r == 0)
		memcpy(warmup->rehearsal.body, text, warmup->json_bytes);
	return r;
}

/* Names the warm-up in the sentence of @r. When a model fails on zeros, before there were outputs,
 * the sentence names the key for a real request. Returns @r. */
static int warmup_explain(const struct warmup *warmup, int r, bool has_outputs,
                          struct err *err)
{
	if (r == 0)
		return 0;
	if (r == ENGINE_E_CONFIG)
		return err_prefix(err, r, "warm-up request");
	if (r != ENGINE_E_MODEL || has_outputs || warmup->is_file)
		return err_prefix(err, r, "warm-up");
	return err_prefix(err, r,
	                  "warm-up with zeros (set warmup_request where they are no "
	                  "valid input)");
}

static int warmup_once(const struct warmup *warmup, struct compute *compute,
                       struct oip_request *request, uint64_t generation, struct err *err)
{
	struct engine_tensor outputs[ENGINE_TENSORS_MAX];
	int r = rehearsal_run(&warmup->rehearsal, compute, request, generation, outputs,
	                      err);

	return warmup_explain(warmup, r, compute->has_outputs, err);
}

/* Makes the request, ready to be run. */
static int warmup_make(struct warmup *warmup, const struct model_config *config,
                       uint32_t rows, struct err *err)
{
	int r = config->warmup_request ? warmup_read_file(warmup, config, err)
	                               : warmup_make_zeros(warmup, config, rows, err);

	if (r == 0)
		warmup_seal(warmup);
	return r;
}

static int warmup_repeat(const struct model_config *config, struct compute *compute,
                         struct lane *lane, uint32_t rows, uint32_t n_runs,
                         struct err *err)
{
	struct warmup warmup = { 0 };
	struct oip_request request;
	int r;

	oip_request_init(&request);
	r = warmup_make(&warmup, config, rows, err);
	for (uint32_t i = 0; i < n_runs && r == 0; i++) {
		r = warmup_once(&warmup, compute, &request, lane->generation, err);
		lane_progress(lane);
	}
	oip_request_fini(&request);
	rehearsal_fini(&warmup.rehearsal);
	return r;
}

int warmup_run(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine, uint32_t *n_runs,
               struct err *err)
{
	/* Clients wait, and the same recipe has served: one run shows that it computes. */
	bool is_short = config->is_urgent && config->is_proven;
	struct compute compute;
	int r;

	if (*n_runs == 0)
		return 0;
	if (is_short)
		*n_runs = 1;
	if (compute_init(&compute, config, api, engine, 1) < 0) {
		compute_fini(&compute);
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	}
	/* A batch may be larger than what one client may send. */
	compute.model.max_body_bytes = SIZE_MAX;
	r = warmup_repeat(config, &compute, lane, 1, *n_runs, err);
	if (r == 0 && !is_short && compute.batch.is_batchable &&
	    !config->warmup_request) {
		r = warmup_repeat(config, &compute, lane, config->max_batch, 1, err);
		++*n_runs;
	}
	compute_fini(&compute);
	return r;
}

int warmup_ask(const struct model_config *config, struct lane *lane,
               const struct engine_api *api, struct engine *engine,
               struct engine_declared *ret_declared, struct err *err)
{
	struct warmup warmup = { 0 };
	struct oip_request request;
	struct compute compute;
	int r;

	oip_request_init(&request);
	if (compute_init(&compute, config, api, engine, 1) < 0)
		r = err_set(err, ENGINE_E_FAILED, "out of memory");
	else
		r = warmup_make(&warmup, config, 1, err);
	if (r == 0)
		r = warmup_explain(&warmup,
		                   rehearsal_ask(&warmup.rehearsal, &compute, &request,
		                                 ret_declared, err),
		                   false, err);
	lane_progress(lane);
	compute_fini(&compute);
	oip_request_fini(&request);
	rehearsal_fini(&warmup.rehearsal);
	return r;
}
