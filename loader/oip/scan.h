/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The `data` of an input straight from its text into a tensor: numbers, true and false, in
 * one flat list in row-major order, or in lists nested exactly like the shape. Reads no byte
 * behind the text and builds no tree.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/tensor.h"

enum {
	_OIP_SCAN_E_SUCCESS,
	/* Not one of these, or no JSON at all: the tree (list.h) tells what is wrong. */
	OIP_SCAN_E_OTHER,
};

/* Whether the list at @text can hold what a tensor of @shape, with @bytes of text. False: no
 * memory need be taken for it. */
bool oip_scan_may_hold(const struct tensor_shape *shape, size_t bytes);

/* Fills @to, which has room for a tensor of @shape and @dtype, not BYTES, FP16 or BF16. 0,
 * OIP_SCAN_E_OTHER, or -EINVAL with a sentence to be put behind the tensor's name: an element
 * is beyond @dtype. */
int oip_scan(enum tensor_dtype dtype, const struct tensor_shape *shape, const char *text,
             size_t bytes, unsigned char *to, struct err *err);
