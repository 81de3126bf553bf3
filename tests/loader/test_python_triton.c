/* SPDX-License-Identifier: Apache-2.0 */

/* The engine python with a class of Triton's Python backend, unchanged. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/loader/classes.h"

static void check_parameters(const char *class, const char *parameters, const char *said)
{
	json_t *config = classes_config(class, NULL, NULL);
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];
	json_t *payload;

	classes_set_option(config, "parameters", parameters);
	if (*said == '[') {
		classes_start(&drive, config);
		assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[1,2]", text),
		                 200);
		hosted_assert_has(text, said);
		drive_quit(&drive);
		return;
	}
	drive_start(&drive, HOSTED_ARENA_BYTES);
	payload = drive_refused(&drive, config, NULL);
	hosted_assert_has(json_string_value(json_object_get(payload, "reason")), said);
	json_decref(payload);
	drive_end(&drive, PROTO_EXIT_CONFIG);
}

/* Those of a model's configuration in a repository of Triton's. */
static void test_parameters(void **state)
{
	(void)state;
	if (!classes_with_numpy)
		skip();
	drive_python = classes_with_numpy;
	check_parameters("triton:Parameters", "{\"factor\": \"3\"}", "[3.0,6.0]");
	check_parameters("triton:Parameters", "{\"factor\": 3}", "an object of texts");
	check_parameters("triton:Parameters", "{", "option.parameters is no JSON");
	check_parameters("models:Echo", "{}", "is for a class of Triton's");
}

/* Classes of Triton's, which get the tensors as its own module has them. */
static void test_triton(void **state)
{
	static const struct classes_served served[] = {
		{ "triton:TritonPythonModel", NULL, NULL, "FP32", "[2,2]", "[1,2,3,4]",
		  "\"shape\":[2,2],\"data\":[2.0,4.0,6.0,8.0]" },
		{ "triton:TritonPythonModel", NULL, "INT64 [-1,2]", "FP32", "[1,2]",
		  "[1,2]", "\"data\":[2,4]" },
		{ "triton:Dlpack", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "triton:Text", "BYTES [-1,1]", "BYTES [-1,1]", "BYTES", "[1,1]",
		  "[\"a\"]", "\"data\":[\"<a>\"]" },
	};
	static const struct classes_blame blames[] = {
		{ "[1,0]", 400, "x is 1" },
		{ "[2,0]", 500, "x is 2" },
		{ "[3,0]", 500, "execute raised triton_python_backend_utils.Triton" },
		{ "[4,0]", 500, "execute returned a list of 1 instead of" },
		{ "[5,0]", 500, "a model cannot ask another one here" },
		{ "[0,0]", 200, "[0.0,0.0]" },
	};
	static const struct classes_refused refused[] = {
		{ "triton:Unknown",
		  NULL,
		  { "initialize() raised AttributeError", "has no 'NoSuchThing'" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "triton:Other",
		  NULL,
		  { "execute returned no output 'x'; it returned: y" },
		  PROTO_EXIT_MODEL,
		  0 },
	};
	json_t *config = classes_config("triton:TritonPythonModel", NULL, NULL);
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];

	(void)state;
	if (!classes_with_numpy)
		skip();
	drive_python = classes_with_numpy;
	assert_int_equal(setenv("MARK", "/dev/null", 1), 0);
	classes_check_served(served, CLASSES_COUNT(served));
	classes_check_requests("triton:Blames", blames, CLASSES_COUNT(blames));
	classes_check_refused(refused, CLASSES_COUNT(refused));
	classes_set_number(config, "max_batch", 4);
	classes_start(&drive, config);
	assert_int_equal(classes_ask(&drive, "FP32", "[2,2]", "[1,2,3,4]", text), 200);
	hosted_assert_has(text, "[2.0,4.0,6.0,8.0]");
	drive_quit(&drive);
}

/* Without numpy they are told so: their file imports it, mostly. */
static void test_triton_without_numpy(void **state)
{
	static const struct classes_refused refused[] = {
		{ "triton:TritonPythonModel",
		  NULL,
		  { "No module named 'numpy'", "install 'numpy' for" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Executes",
		  NULL,
		  { "works with arrays of numpy: install numpy" },
		  PROTO_EXIT_CONFIG,
		  0 },
	};

	(void)state;
	drive_python = classes_without_numpy;
	classes_check_refused(refused, CLASSES_COUNT(refused));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_triton),
		cmocka_unit_test(test_triton_without_numpy),
		cmocka_unit_test(test_parameters),
	};

	if (!classes_begin(argc, argv))
		return 2;
	return cmocka_run_group_tests(tests, classes_set_up, classes_tear_down);
}
