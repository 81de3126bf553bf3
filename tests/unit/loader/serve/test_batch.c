/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/serve/batch.h"

static const struct tensor_spec fp32_rows[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, -1 } } },
};

static const struct tensor_spec bytes_rows[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_BYTES, .shape = { 1, { -1 } } },
};

static const struct tensor_spec fixed[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { 1, 4 } } },
};

static struct engine_tensor make_fp32(int64_t rows, int64_t width, const float *data)
{
	return (struct engine_tensor){
		.dtype = TENSOR_DTYPE_FP32,
		.shape = { 2, { rows, width } },
		.data = data,
		.bytes = (size_t)(rows * width) * sizeof(float),
	};
}

static void make_batch(struct batch *batch, const struct tensor_spec *specs,
                       uint32_t max_rows)
{
	assert_int_equal(batch_init(batch, specs, 1, specs, 1, max_rows, 8), 0);
}

/* Answers with the inputs, as engine identity does. */
static void echo(struct batch *batch)
{
	struct err err = ERR_NULL;

	memcpy(batch->outputs, batch->inputs, batch->n_inputs * sizeof(*batch->inputs));
	assert_int_equal(batch_check(batch, &err), 0);
}

static void test_gather_and_split(void **state)
{
	static const float data[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const struct engine_tensor members[] = {
		make_fp32(1, 2, data),
		make_fp32(0, 2, data),
		make_fp32(3, 2, data + 2),
	};
	struct engine_tensor output;
	struct batch batch;
	struct err err = ERR_NULL;

	(void)state;
	make_batch(&batch, fp32_rows, 16);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(batch_add(&batch, &members[i]));
	assert_int_equal(batch.n_rows, 4);
	assert_int_equal(batch_gather(&batch), 0);
	assert_int_equal(batch.inputs[0].shape.dims[0], 4);
	assert_memory_equal(batch.inputs[0].data, data, sizeof(data));
	assert_int_equal((uintptr_t)batch.inputs[0].data % 64, 0);
	echo(&batch);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(batch_split(&batch, i, &output, &err), 0);
		assert_int_equal(output.shape.dims[0], members[i].shape.dims[0]);
		assert_int_equal(output.bytes, members[i].bytes);
		assert_memory_equal(output.data, members[i].data, output.bytes);
	}
	batch_fini(&batch);
}

static void test_one_is_not_copied(void **state)
{
	static const float data[] = { 1, 2, 3, 4 };
	const struct engine_tensor member = make_fp32(2, 2, data);
	struct batch batch;

	(void)state;
	make_batch(&batch, fp32_rows, 1);
	assert_true(batch_add(&batch, &member));
	assert_true(batch_is_full(&batch));
	assert_int_equal(batch_gather(&batch), 0);
	assert_ptr_equal(batch.inputs[0].data, data);
	batch_fini(&batch);
}

static void test_what_fits(void **state)
{
	static const float data[64] = { 0 };
	static const struct {
		const char *name;
		const struct tensor_spec *specs;
		uint32_t max_rows;
		int64_t first[2];
		int64_t second[2];
		bool fits;
	} rows[] = {
		{ "alike", fp32_rows, 8, { 1, 4 }, { 2, 4 }, true },
		{ "exactly full", fp32_rows, 3, { 1, 4 }, { 2, 4 }, true },
		{ "too many rows", fp32_rows, 2, { 1, 4 }, { 2, 4 }, false },
		{ "first is larger than a batch",
		  fp32_rows,
		  2,
		  { 9, 4 },
		  { 1, 4 },
		  false },
		{ "another width", fp32_rows, 8, { 1, 4 }, { 1, 5 }, false },
		{ "empty ones", fp32_rows, 8, { 0, 4 }, { 0, 4 }, true },
		{ "huge and empty", fp32_rows, 8, { INT64_MAX, 0 }, { 1, 0 }, false },
		{ "no batches wanted", fp32_rows, 1, { 1, 4 }, { 1, 4 }, false },
		{ "no variable dim", fixed, 8, { 1, 4 }, { 1, 4 }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_tensor a = make_fp32(rows[i].first[0], 0, data);
		struct engine_tensor b = make_fp32(rows[i].second[0], 0, data);
		struct batch batch;

		a.shape.dims[1] = rows[i].first[1];
		b.shape.dims[1] = rows[i].second[1];
		make_batch(&batch, rows[i].specs, rows[i].max_rows);
		assert_true(batch_add(&batch, &a));
		if (batch_add(&batch, &b) != rows[i].fits)
			fail_msg("%s", rows[i].name);
		batch_fini(&batch);
	}
}

static void test_inputs_disagree(void **state)
{
	static const float data[8] = { 0 };
	static const struct tensor_spec two[] = {
		{ .name = "a", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
		{ .name = "b", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	};
	const struct engine_tensor odd[] = { make_fp32(1, 2, data),
		                             make_fp32(2, 2, data) };
	const struct engine_tensor even[] = { make_fp32(1, 2, data),
		                              make_fp32(1, 2, data) };
	struct batch batch;

	(void)state;
	assert_int_equal(batch_init(&batch, two, 2, two, 2, 8, 8), 0);
	assert_true(batch_add(&batch, odd));
	assert_true(batch_is_full(&batch));
	assert_false(batch_add(&batch, even));
	batch_clear(&batch);
	assert_true(batch_add(&batch, even));
	assert_false(batch_add(&batch, odd));
	assert_true(batch_add(&batch, even));
	batch_fini(&batch);
}

/* An element: its length, then its text. */
#define ELEMENT_A     "\1\0\0\0a"
#define ELEMENT_BCD   "\3\0\0\0bcd"
#define ELEMENT_EMPTY "\0\0\0\0"

static void test_bytes(void **state)
{
	static const char first[] = ELEMENT_A ELEMENT_BCD;
	static const char second[] = ELEMENT_EMPTY;
	const struct engine_tensor members[] = {
		{ TENSOR_DTYPE_BYTES, { 1, { 2 } }, first, sizeof(first) - 1 },
		{ TENSOR_DTYPE_BYTES, { 1, { 1 } }, second, sizeof(second) - 1 },
	};
	struct engine_tensor output;
	struct batch batch;
	struct err err = ERR_NULL;

	(void)state;
	make_batch(&batch, bytes_rows, 8);
	assert_true(batch_add(&batch, &members[0]));
	assert_true(batch_add(&batch, &members[1]));
	assert_int_equal(batch_gather(&batch), 0);
	echo(&batch);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(batch_split(&batch, i, &output, &err), 0);
		assert_int_equal(output.bytes, members[i].bytes);
		assert_memory_equal(output.data, members[i].data, output.bytes);
	}
	/* The engine answers with fewer elements than it says. */
	memset(batch.cursors, 0, sizeof(*batch.cursors));
	batch.outputs[0].bytes = sizeof(first) - 2;
	assert_int_equal(batch_split(&batch, 0, &output, &err), ENGINE_E_MODEL);
	batch_fini(&batch);
}

static void test_check(void **state)
{
	static const float data[8] = { 0 };
	const struct engine_tensor member = make_fp32(1, 4, data);
	static const struct {
		const char *name;
		struct engine_tensor output;
	} rows[] = {
		{ "type", { TENSOR_DTYPE_INT32, { 2, { 2, 4 } }, data, 32 } },
		{ "no type", { TENSOR_DTYPE_COUNT, { 2, { 2, 4 } }, data, 32 } },
		{ "rank", { TENSOR_DTYPE_FP32, { 1, { 8 } }, data, 32 } },
		{ "huge rank", { TENSOR_DTYPE_FP32, { 99, { 2, 4 } }, data, 32 } },
		{ "bytes", { TENSOR_DTYPE_FP32, { 2, { 2, 4 } }, data, 28 } },
		{ "rows", { TENSOR_DTYPE_FP32, { 2, { 1, 8 } }, data, 32 } },
		{ "negative", { TENSOR_DTYPE_FP32, { 2, { -2, -4 } }, data, 32 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_NULL;
		struct batch batch;

		make_batch(&batch, fp32_rows, 8);
		assert_true(batch_add(&batch, &member));
		assert_true(batch_add(&batch, &member));
		assert_int_equal(batch_gather(&batch), 0);
		batch.outputs[0] = rows[i].output;
		if (batch_check(&batch, &err) != ENGINE_E_MODEL || err.text[0] == '\0')
			fail_msg("%s", rows[i].name);
		batch_fini(&batch);
	}
}

static void test_uneven(void **state)
{
	static const float data[8];
	static const struct tensor_spec specs[] = {
		{ .name = "a", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
		{ .name = "k", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { 3, 2 } } },
		{ .name = "b", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	};
	const struct engine_tensor even[] = { make_fp32(2, 2, data),
		                              make_fp32(3, 2, data),
		                              make_fp32(2, 2, data) };
	const struct engine_tensor uneven[] = { make_fp32(2, 2, data),
		                                make_fp32(3, 2, data),
		                                make_fp32(4, 2, data) };
	struct err err = ERR_NULL;
	struct batch batch;

	(void)state;
	assert_int_equal(batch_init(&batch, specs, 3, specs, 1, 8, 8), 0);
	assert_true(batch_add(&batch, even));
	assert_int_equal(batch_gather(&batch), 0);
	assert_false(batch_is_uneven(&batch, &err));
	batch_clear(&batch);
	assert_true(batch_add(&batch, uneven));
	assert_int_equal(batch_gather(&batch), 0);
	assert_true(batch_is_uneven(&batch, &err));
	assert_non_null(strstr(err.text, "'a' has 2 rows and 'b' has 4"));
	batch_fini(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gather_and_split),
		cmocka_unit_test(test_one_is_not_copied),
		cmocka_unit_test(test_what_fits),
		cmocka_unit_test(test_inputs_disagree),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_uneven),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
