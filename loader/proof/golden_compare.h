/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Compares one output with the expected one. Pure.
 *
 * Integers, BOOL and BYTES must be equal. Floating point numbers may differ by
 * abs + rel * |expected|; NaN equals NaN alone, an infinity only itself, and 0 equals -0.
 */

#include <stdbool.h>

#include "loader/engine.h"
#include "shared/err.h"
#include "shared/tensor.h"

struct golden_tolerance {
	double abs;
	double rel; /* a factor of the expected number's size */
};

/* True for floating point numbers, which may have a tolerance. */
bool golden_is_real(enum tensor_dtype dtype);
/* The default tolerance of a datatype: as much as another order of the same additions may
 * change. Zeros when only equal values count. */
struct golden_tolerance golden_tolerance_of(enum tensor_dtype dtype);

/* Compares two tensors of one datatype with whole elements. True, or false with a sentence: the
 * first element that differs, its value and the expected one, but never the content of BYTES. */
bool golden_alike(const struct engine_tensor *expected, const struct engine_tensor *got,
                  const struct golden_tolerance *tolerance, struct err *err);
