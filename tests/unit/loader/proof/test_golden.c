/* SPDX-License-Identifier: Apache-2.0 */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/proof/golden_compare.h"

#define DEFAULT -1 /* no tolerance is given */

static struct engine_tensor make(enum tensor_dtype dtype, const void *data, size_t bytes,
                                 struct tensor_shape shape)
{
	return (struct engine_tensor){ dtype, shape, data, bytes };
}

static void test_reals(void **state)
{
	static const struct {
		double want;
		double got;
		double abs;
		double rel;
		bool is_alike;
	} rows[] = {
		{ 1, 1, 0, 0, true },
		{ 1, 1 + 1e-12, 0, 0, false },
		{ 0.0, -0.0, 0, 0, true },
		{ 100, 100.5, 0.5, 0, true },
		{ 100, 99.5, 0.5, 0, true },
		{ 100, 100.75, 0.5, 0, false },
		{ 100, 101, 0, 0.01, true },
		{ -100, -101, 0, 0.01, true },
		{ 100, 102, 0.5, 0.01, false },
		{ 0, 1e-9, DEFAULT, DEFAULT, true },
		{ 1, 1.001, DEFAULT, DEFAULT, false },
		{ (double)NAN, (double)NAN, 0, 0, true },
		{ (double)NAN, 1, 1e9, 1, false },
		{ 1, (double)NAN, 1e9, 1, false },
		{ (double)INFINITY, (double)INFINITY, 0, 0, true },
		{ (double)INFINITY, -(double)INFINITY, 1e9, 1, false },
		{ (double)INFINITY, 1e300, 1e9, 1, false },
		{ 1, (double)INFINITY, 1e9, 1, false },
	};
	const struct tensor_shape one = { 1, { 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct golden_tolerance tolerance =
			golden_tolerance_of(TENSOR_DTYPE_FP64);
		struct engine_tensor want =
			make(TENSOR_DTYPE_FP64, &rows[i].want, sizeof(double), one);
		struct engine_tensor got =
			make(TENSOR_DTYPE_FP64, &rows[i].got, sizeof(double), one);
		struct err err = ERR_NULL;

		if (rows[i].abs >= 0)
			tolerance = (struct golden_tolerance){ rows[i].abs, rows[i].rel };
		if (golden_alike(&want, &got, &tolerance, &err) != rows[i].is_alike)
			fail_msg("row %zu: %s", i, err.text);
		assert_int_equal(err.text[0] == '\0', rows[i].is_alike);
	}
}

/* Bits and their values, so that a wrong reading cannot hide behind a comparison. */
static void test_halves(void **state)
{
	static const struct {
		enum tensor_dtype dtype;
		uint16_t bits;
		const char *text;
	} rows[] = {
		{ TENSOR_DTYPE_FP16, 0x3c00, "is 1," },
		{ TENSOR_DTYPE_FP16, 0xc000, "is -2," },
		{ TENSOR_DTYPE_FP16, 0x3555, "is 0.333251953," },
		{ TENSOR_DTYPE_FP16, 0x7bff, "is 65504," },
		{ TENSOR_DTYPE_FP16, 0x0001, "is 5.96046448e-08," },
		{ TENSOR_DTYPE_FP16, 0x0400, "is 6.10351562e-05," },
		{ TENSOR_DTYPE_FP16, 0x7c00, "is inf," },
		{ TENSOR_DTYPE_FP16, 0xfc00, "is -inf," },
		{ TENSOR_DTYPE_FP16, 0x7e00, "is nan," },
		{ TENSOR_DTYPE_BF16, 0x3f80, "is 1," },
		{ TENSOR_DTYPE_BF16, 0xc040, "is -3," },
		{ TENSOR_DTYPE_BF16, 0x7f80, "is inf," },
	};
	static const uint16_t other = 0x4200; /* 3 as FP16, 32 as BF16 */
	const struct tensor_shape scalar = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct golden_tolerance exact = { 0, 0 };
		struct engine_tensor want = make(rows[i].dtype, &other, 2, scalar);
		struct engine_tensor got = make(rows[i].dtype, &rows[i].bits, 2, scalar);
		struct err err = ERR_NULL;

		assert_false(golden_alike(&want, &got, &exact, &err));
		if (!strstr(err.text, rows[i].text))
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_true(golden_alike(&got, &got, &exact, &err));
	}
}

static void test_exact(void **state)
{
	static const int64_t wants[] = { 5, -7, 0, 1 };
	static const int64_t gots[] = { 5, -8, 0, 1 };
	static const struct {
		enum tensor_dtype dtype;
		const char *text;
	} rows[] = {
		{ TENSOR_DTYPE_INT64, "element [1] is -8, expected is -7 exactly" },
		{ TENSOR_DTYPE_UINT64,
		  "is 18446744073709551608, expected is 18446744073709551609 exactly" },
		{ TENSOR_DTYPE_INT32, "is -8, expected is -7 exactly; 1 of 8" },
		{ TENSOR_DTYPE_INT16, "is -8, expected is -7 exactly; 1 of 16" },
		{ TENSOR_DTYPE_INT8,
		  "element [8] is -8, expected is -7 exactly; 1 of 32" },
		{ TENSOR_DTYPE_UINT8, "element [8] is 248, expected is 249" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct golden_tolerance wide = { 100, 100 };
		struct tensor_shape shape = { 1, { 0 } };
		struct engine_tensor want;
		struct engine_tensor got;
		struct err err = ERR_NULL;

		shape.dims[0] =
			(int64_t)(sizeof(wants) / tensor_dtype_bytes(rows[i].dtype));
		want = make(rows[i].dtype, wants, sizeof(wants), shape);
		got = make(rows[i].dtype, gots, sizeof(gots), shape);
		assert_true(golden_alike(&want, &want, &wide, &err));
		assert_false(golden_alike(&want, &got, &wide, &err));
		if (!strstr(err.text, rows[i].text))
			fail_msg("%s: %s", rows[i].text, err.text);
	}
}

static void test_bool(void **state)
{
	static const unsigned char data[] = { 1, 2, 0 };
	const struct tensor_shape one = { 1, { 1 } };
	const struct engine_tensor yes = make(TENSOR_DTYPE_BOOL, &data[0], 1, one);
	const struct engine_tensor also = make(TENSOR_DTYPE_BOOL, &data[1], 1, one);
	const struct engine_tensor no = make(TENSOR_DTYPE_BOOL, &data[2], 1, one);
	struct golden_tolerance exact = { 0, 0 };
	struct err err = ERR_NULL;

	(void)state;
	assert_true(golden_alike(&yes, &also, &exact, &err));
	assert_false(golden_alike(&yes, &no, &exact, &err));
	assert_non_null(strstr(err.text, "is false, expected is true"));
}

#define ELEMENT(length, text) length "\0\0\0" text

static void test_bytes(void **state)
{
	static const char want[] = ELEMENT("\1", "a") ELEMENT("\3", "bcd");
	static const struct {
		const char *data;
		size_t bytes;
		const char *text; /* NULL: alike */
	} rows[] = {
		{ want, sizeof(want) - 1, NULL },
		{ ELEMENT("\1", "a") ELEMENT("\3", "bcX"), sizeof(want) - 1,
		  "element [0,1] has 3 bytes, expected are 3; they differ from byte 2" },
		{ ELEMENT("\0", "") ELEMENT("\3", "bcd"), sizeof(want) - 2,
		  "element [0,0] has 0 bytes, expected are 1; they differ from byte 0" },
		{ ELEMENT("\1", "a") ELEMENT("\4", "bcdX"), sizeof(want),
		  "element [0,1] has 4 bytes, expected are 3; they differ from byte 3" },
	};
	const struct tensor_shape shape = { 2, { 1, 2 } };
	const struct engine_tensor expected =
		make(TENSOR_DTYPE_BYTES, want, sizeof(want) - 1, shape);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_tensor got =
			make(TENSOR_DTYPE_BYTES, rows[i].data, rows[i].bytes, shape);
		struct golden_tolerance exact = { 0, 0 };
		struct err err = ERR_NULL;
		bool is_alike = golden_alike(&expected, &got, &exact, &err);

		assert_int_equal(is_alike, rows[i].text == NULL);
		if (rows[i].text && !strstr(err.text, rows[i].text))
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_null(strchr(err.text,
		                   'X')); /* the sentence has nothing of the content */
	}
}

static void test_shapes(void **state)
{
	static const float data[] = { 1, 2, 3, 4, 5, 6 };
	static const float other[] = { 1, 2, 3, 4, 5, 7 };
	static const struct {
		struct tensor_shape want;
		struct tensor_shape got;
		size_t bytes;
		const char *text;
	} rows[] = {
		{ { 2, { 2, 3 } },
		  { 2, { 2, 3 } },
		  24,
		  "element [1,2] is 7, expected is 6 within 1e-05 + 0.0001 of that; 1 of "
		  "6" },
		{ { 2, { 2, 3 } },
		  { 2, { 3, 2 } },
		  24,
		  "its shape is [3,2], expected is [2,3]" },
		{ { 2, { 1, 6 } },
		  { 1, { 6 } },
		  24,
		  "its shape is [6], expected is [1,6]" },
	};
	struct golden_tolerance tolerance = golden_tolerance_of(TENSOR_DTYPE_FP32);
	struct err err = ERR_NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_tensor want =
			make(TENSOR_DTYPE_FP32, data, rows[i].bytes, rows[i].want);
		struct engine_tensor got =
			make(TENSOR_DTYPE_FP32, other, rows[i].bytes, rows[i].got);

		assert_false(golden_alike(&want, &got, &tolerance, &err));
		if (!strstr(err.text, rows[i].text))
			fail_msg("%s: %s", rows[i].text, err.text);
	}
	/* Two empty tensors are alike. */
	{
		const struct tensor_shape empty = { 2, { 0, 3 } };
		struct engine_tensor none = make(TENSOR_DTYPE_FP32, data, 0, empty);

		assert_true(golden_alike(&none, &none, &tolerance, &err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reals), cmocka_unit_test(test_halves),
		cmocka_unit_test(test_exact), cmocka_unit_test(test_bool),
		cmocka_unit_test(test_bytes), cmocka_unit_test(test_shapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
