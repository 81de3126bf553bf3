/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One output held against what was expected of it. Pure.
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
	double rel; /* of the expected number's size */
};

/* Has numbers that tolerances are about. */
bool golden_is_real(enum tensor_dtype dtype);
/* What another order of the same additions may change; zeros when equal is all that
 * counts. */
struct golden_tolerance golden_tolerance_of(enum tensor_dtype dtype);

/* Both have one datatype and whole elements. True, or false with a sentence that names the
 * first element that differs, what it is and what it should be; never the content of
 * BYTES. */
bool golden_alike(const struct engine_tensor *expected, const struct engine_tensor *got,
                  const struct golden_tolerance *tolerance, struct err *err);
