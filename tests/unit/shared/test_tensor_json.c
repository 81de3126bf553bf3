/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/tensor_json.h"

#define MAX 3

#define SPEC(name_, more_)                                                               \
	"{\"name\":" name_ ",\"datatype\":\"FP32\",\"shape\":[-1]" more_ "}"
#define SHAPE(text_) "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":" text_ "}]"
#define NAME_63      "123456789012345678901234567890123456789012345678901234567890123"

static const struct {
	const char *text;
	const char *why; /* NULL: read */
	size_t n;
} rows[] = {
	{ "[]", NULL, 0 },
	{ "[" SPEC("\"x\"", "") "]", NULL, 1 },
	{ "[" SPEC("\"a b\"", ",\"data\":[1]") "," SPEC("\"\\u00e4\"", "") "]", NULL, 2 },
	{ "[" SPEC("\"" NAME_63 "\"", "") "]", NULL, 1 },
	{ SHAPE("[]"), NULL, 1 },
	{ SHAPE("[1,2,3,4,5,6,7,0]"), NULL, 1 },
	{ "{}", "what must be 0 to 3", 0 },
	{ "7", "what must be 0 to 3", 0 },
	{ "[[]]", "needs a name", 0 },
	{ "[1]", "needs a name", 0 },
	{ "[{}]", "needs a name", 0 },
	{ "[" SPEC("\"\"", "") "]", "needs a name", 0 },
	{ "[" SPEC("7", "") "]", "needs a name", 0 },
	{ "[" SPEC("\"a\\nb\"", "") "]", "needs a name", 0 },
	{ "[" SPEC("\"a\\u007f\"", "") "]", "needs a name", 0 },
	{ "[" SPEC("\"" NAME_63 "4\"", "") "]", "needs a name of 1 to 63 bytes", 0 },
	{ "[" SPEC("\"x\"", "") "," SPEC("\"x\"", "") "]", "'x' is there twice", 0 },
	{ "[" SPEC("\"a\"", "") "," SPEC("\"b\"", "") "," SPEC("\"c\"",
	                                                       "") "," SPEC("\"d\"",
	                                                                    "") "]",
	  "what must be 0 to 3", 0 },
	{ "[{\"name\":\"x\",\"datatype\":\"FP31\",\"shape\":[]}]", "a datatype", 0 },
	{ "[{\"name\":\"x\",\"shape\":[]}]", "a datatype", 0 },
	{ SHAPE("4"), "a shape", 0 },
	{ SHAPE("{}"), "a shape", 0 },
	{ SHAPE("[1,1,1,1,1,1,1,1,1]"), "at most 8 dims", 0 },
	{ SHAPE("[-2]"), "a dim of 'x'", 0 },
	{ SHAPE("[1.5]"), "a dim of 'x'", 0 },
	{ SHAPE("[\"1\"]"), "a dim of 'x'", 0 },
};

/* What is read and written again is the same, but for what is left alone. */
static void check_read(const char *text, const struct tensor_spec *specs, size_t n)
{
	struct tensor_spec again[MAX];
	json_t *json = tensors_to_json(specs, n);
	size_t n_again = 0;

	if (tensors_from_json(json, "what", again, MAX, &n_again, NULL) < 0 ||
	    n_again != n || memcmp(again, specs, n * sizeof(*specs)) != 0)
		fail_msg("%s", text);
	json_decref(json);
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = json_loads(rows[i].text, JSON_DECODE_ANY, NULL);
		struct tensor_spec specs[MAX];
		struct err err = ERR_NULL;
		size_t n = 0;
		int r;

		assert_non_null(json);
		r = tensors_from_json(json, "what", specs, MAX, &n, &err);
		if ((r < 0) != (rows[i].why != NULL) || n != rows[i].n ||
		    (rows[i].why && !strstr(err.text, rows[i].why)))
			fail_msg("%s: %s", rows[i].text, err.text);
		if (r == 0)
			check_read(rows[i].text, specs, n);
		json_decref(json);
	}
}

static void test_nothing(void **state)
{
	struct err err = ERR_NULL;
	size_t n = 7;

	(void)state;
	assert_true(tensors_from_json(NULL, "inputs", NULL, MAX, &n, &err) < 0);
	assert_string_equal(err.text, "inputs must be 0 to 3 tensors");
	assert_int_equal(n, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
