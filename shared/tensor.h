/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Datatypes and shapes, as the Open Inference Protocol v2 names them, with byte sizes that
 * are checked for overflow. Layout is little-endian, row-major, no padding. A BYTES element
 * is a uint32 length and as many bytes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

#define TENSOR_RANK_MAX 8
#define TENSOR_NAME_MAX 64
#define TENSOR_DIM_ANY  INT64_C(-1)

enum tensor_dtype {
	TENSOR_DTYPE_BOOL,
	TENSOR_DTYPE_UINT8,
	TENSOR_DTYPE_UINT16,
	TENSOR_DTYPE_UINT32,
	TENSOR_DTYPE_UINT64,
	TENSOR_DTYPE_INT8,
	TENSOR_DTYPE_INT16,
	TENSOR_DTYPE_INT32,
	TENSOR_DTYPE_INT64,
	TENSOR_DTYPE_FP16,
	TENSOR_DTYPE_BF16,
	TENSOR_DTYPE_FP32,
	TENSOR_DTYPE_FP64,
	TENSOR_DTYPE_BYTES,
	TENSOR_DTYPE_COUNT
};

struct tensor_shape {
	uint32_t rank;
	int64_t dims[TENSOR_RANK_MAX];
};

/* A tensor as a model declares it: a dim of TENSOR_DIM_ANY takes any size. */
struct tensor_spec {
	char name[TENSOR_NAME_MAX];
	enum tensor_dtype dtype;
	struct tensor_shape shape;
};

/* The protocol's name, "FP32"; static. */
const char *tensor_dtype_name(enum tensor_dtype dtype);
/* 0 or -EINVAL. */
int tensor_dtype_from_name(const char *name, enum tensor_dtype *ret_dtype);
/* Bytes of one element; 0 for BYTES, whose elements differ. */
size_t tensor_dtype_bytes(enum tensor_dtype dtype);

/* Product of the dims. 0, -EINVAL (a negative dim) or -EOVERFLOW. Rank 0 has 1 element. */
int tensor_count(const struct tensor_shape *shape, size_t *ret_count);
/* Elements times element size; not for BYTES. 0, -EINVAL or -EOVERFLOW. */
int tensor_bytes(enum tensor_dtype dtype, const struct tensor_shape *shape,
                 size_t *ret_bytes);
/* True when @shape has the spec's rank and equals every dim that is not TENSOR_DIM_ANY. */
bool tensor_shape_matches(const struct tensor_shape *spec,
                          const struct tensor_shape *shape);
/* "[-1,64]" into @text. Returns @text. */
const char *tensor_shape_print(const struct tensor_shape *shape, char *text, size_t size);
/* Returns the index of the spec of @name (NULL: none has it); @n: there is no such spec. */
size_t tensor_spec_find(const struct tensor_spec *specs, size_t n, const char *name);
/* Bytes of the first @count BYTES elements in @data, each a uint32 length and that many bytes.
 * False: they are not there. */
bool tensor_measure_texts(const unsigned char *data, size_t bytes, size_t count,
                          size_t *ret_bytes);
/* Reads "NAME DATATYPE [d,d,...]". 0 or -EINVAL with a sentence. */
int tensor_spec_parse(const char *text, struct tensor_spec *ret_spec, struct err *err);
