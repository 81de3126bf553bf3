/* SPDX-License-Identifier: Apache-2.0 */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/numbers/finite.h"

#define ELEMENTS 67

static void test_every_type(void **state)
{
	static const struct {
		enum tensor_dtype dtype;
		uint64_t bits;
		bool is_finite;
	} rows[] = {
		{ TENSOR_DTYPE_FP16, 0x7bff, true }, /* 65504 */
		{ TENSOR_DTYPE_FP16, 0x7c00, false },
		{ TENSOR_DTYPE_FP16, 0xfe01, false },
		{ TENSOR_DTYPE_BF16, 0x7f7f, true },
		{ TENSOR_DTYPE_BF16, 0x7c00, true },
		{ TENSOR_DTYPE_BF16, 0xff80, false },
		{ TENSOR_DTYPE_FP32, 0x7f7fffff, true },
		{ TENSOR_DTYPE_FP32, 0x00000001, true },
		{ TENSOR_DTYPE_FP32, 0x7f800000, false },
		{ TENSOR_DTYPE_FP32, 0xffc00000, false },
		{ TENSOR_DTYPE_FP64, 0x7fefffffffffffff, true },
		{ TENSOR_DTYPE_FP64, 0xfff0000000000000, false },
		{ TENSOR_DTYPE_FP64, 0x7ff8000000000000, false },
		{ TENSOR_DTYPE_INT64, UINT64_MAX, true },
		{ TENSOR_DTYPE_UINT16, 0x7c00, true },
		{ TENSOR_DTYPE_BYTES, 0, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t element = tensor_dtype_bytes(rows[i].dtype);

		for (size_t at = 0; at < ELEMENTS; at++) {
			/* The element is anywhere among others, aligned or not. */
			unsigned char data[1 + ELEMENTS * sizeof(uint64_t)] = { 0 };
			const struct engine_tensor tensor = { .dtype = rows[i].dtype,
				                              .data = data + 1,
				                              .bytes = ELEMENTS *
				                                       element };

			memcpy(data + 1 + at * element, &rows[i].bits, element);
			assert_int_equal(finite_look(&tensor), rows[i].is_finite);
		}
	}
}

static void test_no_further_than_said(void **state)
{
	static float data[FINITE_LOOK_MAX + 1];
	const struct engine_tensor tensor = { .dtype = TENSOR_DTYPE_FP32,
		                              .data = data,
		                              .bytes = sizeof(data) };

	(void)state;
	data[FINITE_LOOK_MAX] = INFINITY;
	assert_true(finite_look(&tensor));
	data[FINITE_LOOK_MAX - 1] = INFINITY;
	assert_false(finite_look(&tensor));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_no_further_than_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
