/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Python gives and takes containers, which the container of a compiled model has as one list of
 * tensors. The form tells how they went into it: a node has a type and children, a leaf has
 * none, and the context of a dict is a JSON list of its keys, as a text.
 */
#include "loader/aoti/call.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* A form nests as Python's containers do. */
#define CALL_DEPTH_MAX 16

static const int32_t call_numbers[TENSOR_DTYPE_COUNT] = {
	[TENSOR_DTYPE_BOOL] = AOTI_DTYPE_BOOL,
	[TENSOR_DTYPE_UINT8] = AOTI_DTYPE_UINT8,
	[TENSOR_DTYPE_UINT16] = AOTI_DTYPE_UINT16,
	[TENSOR_DTYPE_UINT32] = AOTI_DTYPE_UINT32,
	[TENSOR_DTYPE_UINT64] = AOTI_DTYPE_UINT64,
	[TENSOR_DTYPE_INT8] = AOTI_DTYPE_INT8,
	[TENSOR_DTYPE_INT16] = AOTI_DTYPE_INT16,
	[TENSOR_DTYPE_INT32] = AOTI_DTYPE_INT32,
	[TENSOR_DTYPE_INT64] = AOTI_DTYPE_INT64,
	[TENSOR_DTYPE_FP16] = AOTI_DTYPE_FLOAT16,
	[TENSOR_DTYPE_BF16] = AOTI_DTYPE_BFLOAT16,
	[TENSOR_DTYPE_FP32] = AOTI_DTYPE_FLOAT32,
	[TENSOR_DTYPE_FP64] = AOTI_DTYPE_FLOAT64,
	[TENSOR_DTYPE_BYTES] = CALL_DTYPE_NONE,
};

int32_t call_number(enum tensor_dtype dtype)
{
	return call_numbers[dtype];
}

bool call_dtype(int32_t dtype, enum tensor_dtype *ret_dtype)
{
	for (size_t i = 0; dtype >= 0 && i < TENSOR_DTYPE_COUNT; i++)
		if (call_numbers[i] == dtype) {
			*ret_dtype = (enum tensor_dtype)i;
			return true;
		}
	return false;
}

/* Names */

struct call_names {
	char (*names)[TENSOR_NAME_MAX];
	bool is_named[ENGINE_TENSORS_MAX];
	size_t n;
};

static bool call_is_name(const char *text)
{
	size_t bytes = strlen(text);

	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return bytes > 0 && bytes < TENSOR_NAME_MAX;
}

/* Appends the leaves below @node; @key is what a dict has for it. */
static void call_walk(json_t *node, const char *key, unsigned int depth,
                      struct call_names *names)
{
	json_t *children = json_object_get(node, "children_spec");
	const char *context = json_string_value(json_object_get(node, "context"));
	json_t *keys;

	if (depth > CALL_DEPTH_MAX || names->n >= ENGINE_TENSORS_MAX)
		return;
	if (!json_is_string(json_object_get(node, "type"))) {
		if (key && call_is_name(key)) {
			memcpy(names->names[names->n], key, strlen(key) + 1);
			names->is_named[names->n] = true;
		}
		names->n++;
		return;
	}
	keys = context ? json_loads(context, 0, NULL) : NULL;
	for (size_t i = 0; i < json_array_size(children); i++) {
		const char *own = json_string_value(json_array_get(keys, i));

		call_walk(json_array_get(children, i), own, depth + 1, names);
	}
	json_decref(keys);
}

/* Two tensors of one name cannot be told apart: none of them has it then. */
static void call_drop_doubles(struct call_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		for (size_t j = 0; j < names->n; j++)
			if (i != j && strcmp(names->names[i], names->names[j]) == 0)
				names->is_named[i] = false;
}

/* True: the form says as many names as there are tensors, and each has one. */
static bool call_read_names(struct call_names *names, const char *spec, size_t n,
                            const char *prefix)
{
	json_t *json = spec ? json_loads(spec, 0, NULL) : NULL;
	bool all = n > 0;

	call_walk(json_array_get(json, 1), NULL, 0, names);
	json_decref(json);
	call_drop_doubles(names);
	for (size_t i = 0; i < n; i++)
		all &= names->n == n && names->is_named[i];
	for (size_t i = 0; i < n && !all; i++) {
		names->is_named[i] = false;
		(void)snprintf(names->names[i], TENSOR_NAME_MAX, "%s__%zu", prefix, i);
	}
	return all;
}

void call_read_inputs(struct call *call, const char *spec)
{
	struct call_names list = { .names = call->input_names };

	call->has_named_inputs = call_read_names(&list, spec, call->n_inputs, "INPUT");
}

void call_read_outputs(struct call *call, const char *spec)
{
	struct call_names list = { .names = call->output_names };

	call->has_named_outputs = call_read_names(&list, spec, call->n_outputs, "OUTPUT");
}

/* The configuration against it */

static void call_list(const struct call *call, bool is_input, char *list, size_t size)
{
	size_t n = is_input ? call->n_inputs : call->n_outputs;
	size_t used = 0;

	*list = '\0';
	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(list + used, size - used, "%s%s",
		                         used ? ", " : "",
		                         is_input ? call->input_names[i]
		                                  : call->output_names[i]);
}

/* Finds the place of each of @n configured tensors: by name where the model has names, else by
 * order. */
static int call_place(const struct call *call, bool is_input,
                      const struct tensor_spec *specs, size_t n, size_t *ret_at,
                      struct err *err)
{
	size_t n_own = is_input ? call->n_inputs : call->n_outputs;
	bool is_named = is_input ? call->has_named_inputs : call->has_named_outputs;
	const char *what = is_input ? "input" : "output";
	char list[256];

	for (size_t i = 0; i < n; i++) {
		size_t at = is_named ? 0 : i;

		while (is_named && at < n_own &&
		       strcmp(is_input ? call->input_names[at] : call->output_names[at],
		              specs[i].name) != 0)
			at++;
		call_list(call, is_input, list, sizeof(list));
		if (at >= n_own)
			return err_set(err, ENGINE_E_MODEL,
			               "the configuration declares %s '%s', and the "
			               "model has %zu: %s",
			               what, specs[i].name, n_own, list);
		ret_at[i] = at;
	}
	return 0;
}

static bool call_differs(const struct source_input *own, const struct tensor_spec *spec)
{
	if (own->dtype != call_number(spec->dtype) || own->shape.rank != spec->shape.rank)
		return true;
	for (uint32_t i = 0; i < own->shape.rank; i++)
		if (own->shape.dims[i] != TENSOR_DIM_ANY &&
		    own->shape.dims[i] != spec->shape.dims[i])
			return true;
	return false;
}

static int call_compare(const struct source_input *own, const struct tensor_spec *spec,
                        struct err *err)
{
	enum tensor_dtype dtype = TENSOR_DTYPE_FP32;
	char model[128];
	char section[128];

	if (!own->is_known || !call_differs(own, spec))
		return 0;
	(void)call_dtype(own->dtype, &dtype);
	return err_set(
		err, ENGINE_E_MODEL,
		"input '%s' is %s %s in the package and %s %s in the configuration",
		spec->name, tensor_dtype_name(dtype),
		tensor_shape_print(&own->shape, model, sizeof(model)),
		tensor_dtype_name(spec->dtype),
		tensor_shape_print(&spec->shape, section, sizeof(section)));
}

int call_check(struct call *call, const struct engine_config *config, struct err *err)
{
	char list[256];
	int r = call_place(call, true, config->inputs, config->n_inputs, call->input_at,
	                   err);

	if (r == 0)
		r = call_place(call, false, config->outputs, config->n_outputs,
		               call->output_at, err);
	call_list(call, true, list, sizeof(list));
	if (r == 0 && config->n_inputs > 0 && config->n_inputs != call->n_inputs)
		return err_set(err, ENGINE_E_MODEL,
		               "the model takes %zu inputs (%s), and the configuration "
		               "declares %zu",
		               call->n_inputs, list, config->n_inputs);
	for (size_t i = 0; i < config->n_inputs && r == 0; i++)
		r = call_compare(&call->inputs[call->input_at[i]], &config->inputs[i],
		                 err);
	return r;
}

/* Requests */

bool call_is_known(const struct call *call)
{
	for (size_t i = 0; i < call->n_inputs; i++)
		if (!call->inputs[i].is_known)
			return false;
	return true;
}

static int call_check_dim(const struct source_input *own, const char *name, uint32_t i,
                          int64_t dim, struct err *err)
{
	if (own->shape.dims[i] != TENSOR_DIM_ANY && own->shape.dims[i] != dim)
		return err_set(err, ENGINE_E_INPUT,
		               "dim %u of input '%s' is %lld, and the model was compiled "
		               "for %lld",
		               i, name, (long long)dim, (long long)own->shape.dims[i]);
	if (dim < own->least[i])
		return err_set(err, ENGINE_E_INPUT,
		               "dim %u of input '%s' is %lld, and the model was compiled "
		               "for %lld and more",
		               i, name, (long long)dim, (long long)own->least[i]);
	if (own->most[i] > 0 && dim > own->most[i])
		return err_set(err, ENGINE_E_INPUT,
		               "dim %u of input '%s' is %lld, and the model was compiled "
		               "for at most %lld",
		               i, name, (long long)dim, (long long)own->most[i]);
	return 0;
}

int call_check_request(const struct call *call, const struct engine_config *config,
                       const struct engine_tensor *inputs, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < config->n_inputs; i++) {
		const struct source_input *own = &call->inputs[call->input_at[i]];
		const struct tensor_shape *shape = &inputs[i].shape;

		if (!own->is_known)
			continue;
		if (shape->rank != own->shape.rank)
			return err_set(err, ENGINE_E_INPUT,
			               "input '%s' has %u dims, and the model takes %u",
			               config->inputs[i].name, shape->rank,
			               own->shape.rank);
		for (uint32_t j = 0; j < shape->rank && r == 0; j++)
			r = call_check_dim(own, config->inputs[i].name, j, shape->dims[j],
			                   err);
	}
	return r;
}
