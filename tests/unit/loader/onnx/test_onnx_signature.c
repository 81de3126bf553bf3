/* SPDX-License-Identifier: Apache-2.0 */

/* What a model declares, and what the configuration says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/onnx/signature.h"

static const struct {
	const char *name;
	const char *input; /* of the model */
	const char *output;
	const char *declared_input;
	const char *declared_output;
	const char *says; /* NULL: they agree */
} rows[] = {
	{ "equal", "x FP32 [-1,4]", "y FP32 [-1,2]", "x FP32 [-1,4]", "y FP32 [-1,2]",
	  NULL },
	{ "narrower", "x FP32 [-1,-1]", "y FP32 [-1]", "x FP32 [-1,4]", "y FP32 [2]",
	  NULL },
	{ "wider output", "x FP32 [4]", "y FP32 [2]", "x FP32 [4]", "y FP32 [-1]", NULL },
	{ "wider input", "x FP32 [4]", "y FP32 [2]", "x FP32 [-1]", "y FP32 [2]",
	  "input 'x' is FP32 [4] in the model and FP32 [-1] in the configuration" },
	{ "rank unknown or none", "x FP32 []", "y FP32 []", "x FP32 [-1,4]", "y FP32 [3]",
	  NULL },
	{ "datatype", "x FP32 [4]", "y FP32 [2]", "x FP64 [4]", "y FP32 [2]",
	  "FP64 [4]" },
	{ "its datatype", "x FP32 [4]", "y FP32 [2]", "x FP32 [4]", "y BYTES [2]",
	  "BYTES [2]" },
	{ "rank", "x FP32 [4]", "y FP32 [2]", "x FP32 [4,1]", "y FP32 [2]", "[4,1]" },
	{ "dim", "x FP32 [4]", "y FP32 [2]", "x FP32 [5]", "y FP32 [2]", "[5]" },
	{ "its dim", "x FP32 [4]", "y FP32 [2]", "x FP32 [4]", "y FP32 [3]", "[3]" },
	{ "name", "x FP32 [4]", "y FP32 [2]", "z FP32 [4]", "y FP32 [2]",
	  "the model's are: x" },
	{ "its name", "x FP32 [4]", "y FP32 [2]", "x FP32 [4]", "z FP32 [2]",
	  "declares output 'z', and the model's are: y" },
};

static void parse(const char *text, struct tensor_spec *spec)
{
	struct err err = ERR_NULL;

	assert_int_equal(tensor_spec_parse(text, spec, &err), 0);
}

static void test_check(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct signature signature = { .n_inputs = 1, .n_outputs = 1 };
		struct tensor_spec input;
		struct tensor_spec output;
		const struct engine_config config = {
			.inputs = &input,
			.n_inputs = 1,
			.outputs = &output,
			.n_outputs = 1,
		};
		struct err err = ERR_NULL;
		int r;

		parse(rows[i].input, &signature.inputs[0]);
		parse(rows[i].output, &signature.outputs[0]);
		parse(rows[i].declared_input, &input);
		parse(rows[i].declared_output, &output);
		r = signature_check(&signature, &config, &err);
		if (rows[i].says ? r != ENGINE_E_MODEL || !strstr(err.text, rows[i].says)
		                 : r != 0)
			fail_msg("%s: %d, %s", rows[i].name, r, err.text);
	}
}

static void test_what_is_not_declared(void **state)
{
	struct signature signature = { .n_inputs = 2 };
	struct tensor_spec input;
	const struct engine_config config = { .inputs = &input, .n_inputs = 1 };
	struct err err = ERR_NULL;

	(void)state;
	parse("x FP32 [4]", &signature.inputs[0]);
	parse("z INT64 [-1,3]", &signature.inputs[1]);
	parse("x FP32 [4]", &input);
	assert_int_equal(signature_check(&signature, &config, &err), ENGINE_E_MODEL);
	assert_non_null(strstr(err.text, "add input = z INT64 [-1,3]"));
}

static void test_datatypes(void **state)
{
	enum tensor_dtype dtype;

	(void)state;
	for (size_t i = 0; i < TENSOR_DTYPE_COUNT; i++) {
		assert_true(signature_dtype(signature_type((enum tensor_dtype)i),
		                            &dtype));
		assert_int_equal(dtype, i);
	}
	assert_false(signature_dtype(ORT_TYPE_UNDEFINED, &dtype));
	assert_false(signature_dtype(ORT_TYPE_COMPLEX64, &dtype));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_what_is_not_declared),
		cmocka_unit_test(test_datatypes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
