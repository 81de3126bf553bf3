/* SPDX-License-Identifier: Apache-2.0 */

/* What engine aoti reads out of texts: a wrapper's checks, a torch's version, the form of a call,
 * and why a computation failed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/aoti/abi.h"
#include "loader/aoti/call.h"
#include "loader/aoti/catch.h"
#include "loader/aoti/shim.h"
#include "loader/aoti/source.h"

#define HANDLE   "    ConstantHandle arg2_1 = ConstantHandle(input_handles[0]);\n"
#define DTYPE(d) "    int32_t arg2_1_expected_dtype = aoti_torch_dtype_" d "();\n"

static const struct {
	const char *name;
	const char *text;
	bool is_known;
	int32_t dtype;
	struct tensor_shape shape;
	int64_t least;
	int64_t most;
} sources[] = {
	{ "nothing", "", false, 0, { 0 }, 0, 0 },
	{ "scalar", HANDLE DTYPE("int64"), true, AOTI_DTYPE_INT64, { 0 }, 0, 0 },
	{ "fixed",
	  HANDLE DTYPE("float32") "    if (4 != arg2_1_size[0]) {\n",
	  true,
	  AOTI_DTYPE_FLOAT32,
	  { 1, { 4 } },
	  1,
	  0 },
	{ "open, with bounds",
	  HANDLE DTYPE("bool") "    if (arg2_1_size[0] < 3) {\n"
	                       "    if (arg2_1_size[0] > 64) {\n"
	                       "    if (1 != arg2_1_stride[1]) {\n",
	  true,
	  AOTI_DTYPE_BOOL,
	  { 2, { -1, -1 } },
	  3,
	  64 },
	{ "a least size of two is one of one",
	  HANDLE DTYPE("bfloat16") "    if (arg2_1_size[0] < 2) {\n",
	  true,
	  AOTI_DTYPE_BFLOAT16,
	  { 1, { -1 } },
	  1,
	  0 },
	{ "another variable's",
	  HANDLE DTYPE("float32") "    if (4 != arg2_10_size[0]) {\n"
	                          "    int32_t arg3_1_expected_dtype = "
	                          "aoti_torch_dtype_int8();\n",
	  true,
	  AOTI_DTYPE_FLOAT32,
	  { 0 },
	  0,
	  0 },
	{ "no datatype of ours", HANDLE DTYPE("complex64"), false, 0, { 0 }, 0, 0 },
	{ "too many dims",
	  HANDLE DTYPE("float32") "    if (1 != arg2_1_stride[8]) {\n",
	  false,
	  AOTI_DTYPE_FLOAT32,
	  { 0 },
	  0,
	  0 },
	{ "no such input",
	  "    ConstantHandle arg2_1 = ConstantHandle(input_handles[99]);\n" DTYPE(
		  "float32"),
	  false,
	  0,
	  { 0 },
	  0,
	  0 },
	{ "without a line's end",
	  HANDLE "    int32_t arg2_1_expected_dtype = aoti_torch",
	  false,
	  0,
	  { 0 },
	  0,
	  0 },
};

static void test_sources(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		struct source_input inputs[2];

		print_message("%s\n", sources[i].name);
		memset(inputs, 0, sizeof(inputs));
		source_read(inputs, 2, sources[i].text, strlen(sources[i].text));
		assert_int_equal(inputs[0].is_known, sources[i].is_known);
		assert_int_equal(inputs[0].dtype, sources[i].dtype);
		assert_int_equal(inputs[0].shape.rank, sources[i].shape.rank);
		assert_memory_equal(inputs[0].shape.dims, sources[i].shape.dims,
		                    sizeof(inputs[0].shape.dims));
		assert_int_equal(inputs[0].least[0], sources[i].least);
		assert_int_equal(inputs[0].most[0], sources[i].most);
		assert_false(inputs[1].is_known);
	}
}

static void test_versions(void **state)
{
	static const struct {
		const char *text;
		const char *want; /* NULL: none */
	} rows[] = {
		{ "__version__ = '2.11.0+cu130'\n", "2.11.0+cu130" },
		{ "a = 1\n__version__ = \"2.6.0\"\ngit = ''", "2.6.0" },
		{ "__version__ = ", NULL },
		{ "__version__ = ''", NULL },
		{ "version = '2.6.0'", NULL },
		{ "", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char version[SHIM_VERSION_MAX] = "";

		assert_int_equal(shim_find_version(rows[i].text, version),
		                 !!rows[i].want);
		if (rows[i].want)
			assert_string_equal(version, rows[i].want);
	}
}

static void test_causes(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} rows[] = {
		{ "Error: one\ntwo\n", "one" },
		{ "a line of the log\nException in aoti_torch: out of range\nError: x\n",
		  "out of range" },
		{ "nothing of the kind\n", "" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char cause[64];

		catch_find_cause(rows[i].text, cause, sizeof(cause));
		assert_string_equal(cause, rows[i].want);
	}
}

#define LEAF "{\"type\": null, \"context\": null, \"children_spec\": []}"
#define DICT(keys, leaves)                                                               \
	"[1, {\"type\": \"builtins.dict\", \"context\": \"" keys                         \
	"\", \"children_spec\": [" leaves "]}]"

static void test_names(void **state)
{
	static const struct {
		const char *spec;
		size_t n;
		const char *first;
		bool is_named;
	} rows[] = {
		{ DICT("[\\\"a\\\", \\\"b\\\"]", LEAF ", " LEAF), 2, "a", true },
		{ DICT("[\\\"a\\\", \\\"a\\\"]", LEAF ", " LEAF), 2, "OUTPUT__0", false },
		{ DICT("[\\\"a\\\"]", LEAF ", " LEAF), 2, "OUTPUT__0", false },
		{ DICT("[\\\"a\\\\u0007\\\"]", LEAF), 1, "OUTPUT__0", false },
		{ DICT("[\\\"a\\\"]", LEAF), 2, "OUTPUT__0", false },
		{ "[1, " LEAF "]", 1, "OUTPUT__0", false },
		{ "[", 1, "OUTPUT__0", false },
		{ "", 1, "OUTPUT__0", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct call call = { .n_outputs = rows[i].n };

		call_read_outputs(&call, rows[i].spec);
		assert_string_equal(call.output_names[0], rows[i].first);
		assert_int_equal(call.has_named_outputs, rows[i].is_named);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
