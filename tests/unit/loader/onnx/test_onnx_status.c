/* SPDX-License-Identifier: Apache-2.0 */

/* Texts of ONNX Runtime's failures: a lack of memory, and whose fault they are. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader/onnx/status.h"

static const struct tensor_spec open_spec = { "x", TENSOR_DTYPE_FP32, { 2, { -1, -1 } } };
static const struct tensor_spec closed_spec = { "x",
	                                        TENSOR_DTYPE_FP32,
	                                        { 2, { -1, 4 } } };

static const struct {
	const char *name;
	enum ort_code code;
	const char *text;
	const char *device;
	const struct tensor_spec *input;
	int want;
} judged[] = {
	{ "rank", ORT_INVALID_ARGUMENT,
	  "Invalid rank for input: x Got: 1 Expected: 2 Please fix either the "
	  "inputs/outputs "
	  "or the model.",
	  "cpu", &closed_spec, ENGINE_E_INPUT },
	{ "dims", ORT_INVALID_ARGUMENT,
	  "Got invalid dimensions for input: x for the following", "cpu", &closed_spec,
	  ENGINE_E_INPUT },
	{ "the same words of a kernel", ORT_RUNTIME_EXCEPTION,
	  "Got invalid dimensions for input: x", "cpu", &closed_spec, ENGINE_E_MODEL },
	{ "index", ORT_INVALID_ARGUMENT,
	  "indices element out of data bounds, idx=3 must be within the inclusive range "
	  "[-3,2]",
	  "cpu", &closed_spec, ENGINE_E_INPUT },
	{ "shapes where one is open", ORT_INVALID_ARGUMENT, "matmul dimension mismatch",
	  "cpu", &open_spec, ENGINE_E_INPUT },
	{ "shapes where all are declared", ORT_INVALID_ARGUMENT,
	  "matmul dimension mismatch", "cpu", &closed_spec, ENGINE_E_MODEL },
	{ "anything", ORT_FAIL, "Non-zero status code returned", "cpu", &open_spec,
	  ENGINE_E_MODEL },
	{ "device", ORT_FAIL, "CUDA failure 700: an illegal memory access", "cuda:0",
	  &open_spec, ENGINE_E_BROKEN },
	{ "no device", ORT_FAIL, "CUDA failure 700", "cpu", &open_spec, ENGINE_E_MODEL },
};

static void test_judge(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(judged) / sizeof(judged[0]); i++) {
		const struct engine_config config = {
			.device = judged[i].device,
			.inputs = judged[i].input,
			.n_inputs = 1,
		};
		int got = status_judge(judged[i].code, judged[i].text, &config);

		if (got != judged[i].want)
			fail_msg("%s: %d, not %d", judged[i].name, got, judged[i].want);
	}
}

static void test_memory(void **state)
{
	(void)state;
	assert_true(status_lacks_memory("std::bad_alloc"));
	assert_true(
		status_lacks_memory("Failed to allocate memory for requested buffer"));
	assert_true(status_lacks_memory("CUDA error: out of memory"));
	assert_true(status_lacks_memory("CUBLAS_STATUS_ALLOC_FAILED"));
	assert_false(status_lacks_memory("memory pattern"));
	assert_false(status_lacks_memory(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
