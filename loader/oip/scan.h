/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Scans the `data` of an input straight from its text into a tensor: numbers, true and false,
 * in one flat list in row-major order, or in lists nested exactly like the shape. Reads no byte
 * behind the text and builds no tree.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/tensor.h"

enum {
	_OIP_SCAN_E_SUCCESS,
	/* Another list, or no JSON at all: the tree (oip/list.h) tells what is wrong. */
	OIP_SCAN_E_OTHER,
};

/* True when a list of @bytes of text can hold the elements of @shape. False: too short, so no
 * memory need be taken for the tensor. */
bool oip_scan_may_hold(const struct tensor_shape *shape, size_t bytes);

/* Fills @to, which has room for a tensor of @shape and @dtype, not BYTES, FP16 or BF16. 0,
 * OIP_SCAN_E_OTHER, or -EINVAL with a sentence to be put behind the tensor's name: @dtype cannot
 * hold an element. */
int oip_scan(enum tensor_dtype dtype, const struct tensor_shape *shape, const char *text,
             size_t bytes, unsigned char *to, struct err *err);
