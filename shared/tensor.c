/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/tensor.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	size_t bytes;
} tensor_dtypes[] = {
	[TENSOR_DTYPE_BOOL] = { "BOOL", 1 },     [TENSOR_DTYPE_UINT8] = { "UINT8", 1 },
	[TENSOR_DTYPE_UINT16] = { "UINT16", 2 }, [TENSOR_DTYPE_UINT32] = { "UINT32", 4 },
	[TENSOR_DTYPE_UINT64] = { "UINT64", 8 }, [TENSOR_DTYPE_INT8] = { "INT8", 1 },
	[TENSOR_DTYPE_INT16] = { "INT16", 2 },   [TENSOR_DTYPE_INT32] = { "INT32", 4 },
	[TENSOR_DTYPE_INT64] = { "INT64", 8 },   [TENSOR_DTYPE_FP16] = { "FP16", 2 },
	[TENSOR_DTYPE_BF16] = { "BF16", 2 },     [TENSOR_DTYPE_FP32] = { "FP32", 4 },
	[TENSOR_DTYPE_FP64] = { "FP64", 8 },     [TENSOR_DTYPE_BYTES] = { "BYTES", 0 },
};

_Static_assert(sizeof(tensor_dtypes) / sizeof(tensor_dtypes[0]) == TENSOR_DTYPE_COUNT,
               "one row per datatype");

const char *tensor_dtype_name(enum tensor_dtype dtype)
{
	return tensor_dtypes[dtype].name;
}

int tensor_dtype_from_name(const char *name, enum tensor_dtype *ret_dtype)
{
	for (unsigned int i = 0; i < TENSOR_DTYPE_COUNT; i++) {
		if (strcmp(tensor_dtypes[i].name, name) == 0) {
			*ret_dtype = (enum tensor_dtype)i;
			return 0;
		}
	}
	return -EINVAL;
}

size_t tensor_dtype_bytes(enum tensor_dtype dtype)
{
	return tensor_dtypes[dtype].bytes;
}

int tensor_count(const struct tensor_shape *shape, size_t *ret_count)
{
	size_t count = 1;
	bool is_empty = false;

	/* Zeros are looked for before the product, so that [huge,huge,0] is empty and not
	 * an overflow. */
	for (uint32_t i = 0; i < shape->rank; i++) {
		if (shape->dims[i] < 0)
			return -EINVAL;
		is_empty = is_empty || shape->dims[i] == 0;
	}
	for (uint32_t i = 0; i < shape->rank && !is_empty; i++)
		if (__builtin_mul_overflow(count, (size_t)shape->dims[i], &count))
			return -EOVERFLOW;
	*ret_count = is_empty ? 0 : count;
	return 0;
}

int tensor_bytes(enum tensor_dtype dtype, const struct tensor_shape *shape,
                 size_t *ret_bytes)
{
	size_t count;
	int r;

	r = tensor_count(shape, &count);
	if (r < 0)
		return r;
	if (__builtin_mul_overflow(count, tensor_dtype_bytes(dtype), ret_bytes))
		return -EOVERFLOW;
	return 0;
}

bool tensor_shape_matches(const struct tensor_shape *spec,
                          const struct tensor_shape *shape)
{
	if (spec->rank != shape->rank)
		return false;
	for (uint32_t i = 0; i < spec->rank; i++)
		if (spec->dims[i] != TENSOR_DIM_ANY && spec->dims[i] != shape->dims[i])
			return false;
	return true;
}

const char *tensor_shape_print(const struct tensor_shape *shape, char *text, size_t size)
{
	size_t used = 0;

	for (uint32_t i = 0; i < shape->rank && used < size; i++) {
		int n = snprintf(text + used, size - used, "%s%lld", i == 0 ? "[" : ",",
		                 (long long)shape->dims[i]);

		used += n > 0 ? (size_t)n : 0;
	}
	if (used < size)
		(void)snprintf(text + used, size - used, shape->rank ? "]" : "[]");
	return text;
}

static const char *tensor_spec_parse_shape(const char *text, struct tensor_shape *shape)
{
	if (*text++ != '[')
		return NULL;
	for (shape->rank = 0;; shape->rank++) {
		char *end;
		long long dim;

		text += strspn(text, " \t");
		if (*text == ']' && shape->rank == 0)
			return text + 1;
		if (shape->rank == TENSOR_RANK_MAX)
			return NULL;
		errno = 0;
		dim = strtoll(text, &end, 10);
		if (end == text || errno || dim < TENSOR_DIM_ANY)
			return NULL;
		shape->dims[shape->rank] = dim;
		text = end + strspn(end, " \t");
		if (*text == ']') {
			shape->rank++;
			return text + 1;
		}
		if (*text++ != ',')
			return NULL;
	}
}

int tensor_spec_parse(const char *text, struct tensor_spec *ret_spec, struct err *err)
{
	struct tensor_spec spec = { .name = "" };
	char dtype[16];
	int used = 0;
	const char *rest;

	if (sscanf(text, " %63s %15s %n", spec.name, dtype, &used) < 2 || used == 0)
		return err_set(err, -EINVAL,
		               "'%s' must read NAME DATATYPE [d,d,...], for instance "
		               "image FP32 [-1,64]",
		               text);
	if (tensor_dtype_from_name(dtype, &spec.dtype) < 0)
		return err_set(err, -EINVAL,
		               "'%s' is no datatype; known are BOOL, UINT8..UINT64, "
		               "INT8..INT64, FP16, BF16, FP32, FP64, BYTES",
		               dtype);
	rest = tensor_spec_parse_shape(text + used, &spec.shape);
	if (rest)
		rest += strspn(rest, " \t");
	if (!rest || *rest != '\0')
		return err_set(
			err, -EINVAL,
			"'%s' must be a shape of at most %d dims, each -1 (any) or "
			"larger, for instance [-1,64]",
			text + used, TENSOR_RANK_MAX);
	*ret_spec = spec;
	return 0;
}

size_t tensor_spec_find(const struct tensor_spec *specs, size_t n, const char *name)
{
	size_t i = 0;

	if (!name)
		return n;
	while (i < n && strcmp(specs[i].name, name) != 0)
		i++;
	return i;
}

bool tensor_measure_texts(const unsigned char *data, size_t bytes, size_t count,
                          size_t *ret_bytes)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t length;

		if (bytes - at < sizeof(length))
			return false;
		memcpy(&length, data + at, sizeof(length));
		at += sizeof(length);
		if (bytes - at < length)
			return false;
		at += length;
	}
	*ret_bytes = at;
	return true;
}
