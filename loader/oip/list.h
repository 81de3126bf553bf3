/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The `data` of an input in the JSON library's tree: one flat list in row-major order, or lists
 * nested exactly like the shape. First measured, then filled in.
 */

#include <jansson.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/tensor.h"

/* Measures the bytes that @data takes as a tensor of @shape, whose size was checked. 0, or -EINVAL
 * with a sentence to be put behind the tensor's name. */
int oip_list_measure(enum tensor_dtype dtype, const struct tensor_shape *shape,
                     const json_t *data, size_t *ret_bytes, struct err *err);

/* Writes a measured @data to @to. 0, or -EINVAL likewise: an element is no number of @dtype. */
int oip_list_fill(enum tensor_dtype dtype, const struct tensor_shape *shape,
                  const json_t *data, unsigned char *to, struct err *err);
