/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/tensor_json.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

json_t *tensors_to_json(const struct tensor_spec *specs, size_t n)
{
	json_t *array = json_array();
	int failed = 0;

	for (size_t i = 0; i < n; i++) {
		json_t *shape = json_array();

		for (uint32_t j = 0; j < specs[i].shape.rank; j++)
			failed |= json_array_append_new(
				shape, json_integer(specs[i].shape.dims[j]));
		failed |=
			json_array_append_new(array,
		                              json_pack("{s:s,s:s,s:o}", "name",
		                                        specs[i].name, "datatype",
		                                        tensor_dtype_name(specs[i].dtype),
		                                        "shape", shape));
	}
	if (!failed)
		return array;
	json_decref(array);
	return NULL;
}

/* jansson gives UTF-8 alone, and no byte 0. */
static bool tensor_json_is_name(const char *name)
{
	size_t bytes = name ? strlen(name) : 0;

	if (bytes == 0 || bytes >= TENSOR_NAME_MAX)
		return false;
	for (; *name; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return false;
	return true;
}

static int tensor_json_shape(const json_t *json, const char *what, const char *name,
                             struct tensor_shape *shape, struct err *err)
{
	for (uint32_t i = 0; i < shape->rank; i++) {
		const json_t *dim = json_array_get(json, i);

		shape->dims[i] = json_integer_value(dim);
		if (!json_is_integer(dim) || shape->dims[i] < TENSOR_DIM_ANY)
			return err_set(err, -EINVAL,
			               "%s: a dim of '%s' must be -1 or larger", what,
			               name);
	}
	return 0;
}

static int tensor_json_spec(const json_t *object, const char *what,
                            struct tensor_spec *ret_spec, struct err *err)
{
	const char *name = json_string_value(json_object_get(object, "name"));
	const char *dtype = json_string_value(json_object_get(object, "datatype"));
	const json_t *shape = json_object_get(object, "shape");
	struct tensor_spec spec = { .shape.rank = (uint32_t)json_array_size(shape) };
	int r;

	if (!tensor_json_is_name(name) || !dtype ||
	    tensor_dtype_from_name(dtype, &spec.dtype) < 0 || !json_is_array(shape) ||
	    json_array_size(shape) > TENSOR_RANK_MAX)
		return err_set(
			err, -EINVAL,
			"%s: a tensor needs a name of 1 to %d bytes, a datatype and a "
			"shape of at most %d dims",
			what, TENSOR_NAME_MAX - 1, TENSOR_RANK_MAX);
	(void)strcpy(spec.name, name);
	r = tensor_json_shape(shape, what, name, &spec.shape, err);
	*ret_spec = spec;
	return r;
}

int tensors_from_json(const json_t *json, const char *what, struct tensor_spec *ret_specs,
                      size_t max, size_t *ret_n, struct err *err)
{
	size_t n = json_array_size(json);

	if (!json_is_array(json) || n > max)
		return err_set(err, -EINVAL, "%s must be 0 to %zu tensors", what, max);
	for (size_t i = 0; i < n; i++) {
		int r = tensor_json_spec(json_array_get(json, i), what, &ret_specs[i],
		                         err);

		if (r == 0 && tensor_spec_find(ret_specs, i, ret_specs[i].name) < i)
			r = err_set(err, -EINVAL, "%s: '%s' is there twice", what,
			            ret_specs[i].name);
		if (r < 0)
			return r;
	}
	*ret_n = n;
	return 0;
}
