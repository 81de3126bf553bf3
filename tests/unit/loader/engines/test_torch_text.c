/* SPDX-License-Identifier: Apache-2.0 */

/* Texts of libtorch's exceptions: the cause, a lack of memory, and whose fault they are. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/engines/torch_text.h"

#define OUTCOME 1
#define MEMORY  2
#define STACK                                                                            \
	"The following operation failed in the TorchScript interpreter.\n"               \
	"Traceback of TorchScript (most recent call last):\n"                            \
	"  File \"m.py\", line 3, in forward\n    return x[7]\n           ~~~ <--- "     \
	"HERE\n"

static void test_cause(void **state)
{
	static const struct {
		const char *what;
		const char *want;
	} rows[] = {
		{ "", "" },
		{ "one line", "one line" },
		{ "the first\nthe second", "the first" },
		{ "Error: is cut behind a stack only",
		  "Error: is cut behind a stack only" },
		{ STACK "RuntimeError: sizes differ\n", "sizes differ" },
		{ STACK "builtins.ValueError: Error: twice \n \n", "Error: twice" },
		{ STACK "no kind", "no kind" },
		{ "TorchScript interpreter", "TorchScript interpreter" },
		{ " \n \n", " " },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char want[ERR_TEXT_MAX] = "so: ";
		struct err err;

		(void)strncat(want, rows[i].want, sizeof(want) - 5);
		assert_int_equal(torch_text_set(&err, OUTCOME, "so: ", rows[i].what),
		                 OUTCOME);
		assert_string_equal(err.text, want);
	}
	assert_int_equal(torch_text_set(NULL, OUTCOME, "", "nobody reads it"), OUTCOME);
}

static void test_long_text(void **state)
{
	char what[4 * ERR_TEXT_MAX];
	struct err err;

	(void)state;
	memset(what, 'x', sizeof(what) - 1);
	what[sizeof(what) - 1] = '\0';
	assert_int_equal(torch_text_fail(&err, OUTCOME, MEMORY, what), OUTCOME);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
}

static void test_memory(void **state)
{
	static const struct {
		const char *what;
		int outcome;
		const char *text;
	} rows[] = {
		{ "CUDA out of memory. Tried to allocate 2 GiB", MEMORY,
		  "libtorch is out of memory: CUDA out of memory. Tried to allocate 2 "
		  "GiB" },
		{ "std::bad_alloc", MEMORY, "libtorch is out of memory: std::bad_alloc" },
		{ STACK "RuntimeError: CUBLAS_STATUS_ALLOC_FAILED", MEMORY,
		  "libtorch is out of memory: CUBLAS_STATUS_ALLOC_FAILED" },
		{ STACK
		  "RuntimeError: [enforce fail at CPUAllocator] can't allocate memory",
		  MEMORY,
		  "libtorch is out of memory: [enforce fail at CPUAllocator] can't "
		  "allocate "
		  "memory" },
		/* The mark may stand above the last line. */
		{ "out of memory\n" STACK "RuntimeError: later", MEMORY,
		  "libtorch is out of memory: later" },
		{ "a memory of something", OUTCOME, "libtorch: a memory of something" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err;

		assert_int_equal(torch_text_fail(&err, OUTCOME, MEMORY, rows[i].what),
		                 rows[i].outcome);
		assert_string_equal(err.text, rows[i].text);
	}
}

static void test_whose_fault(void **state)
{
	static const struct {
		const char *what;
		bool is_open;   /* a dim behind the batch is left open */
		bool is_blamed; /* the request */
	} rows[] = {
		{ STACK "builtins.ValueError: too dark", false, true },
		{ STACK "builtins.IndexError: x", false, true },
		{ STACK "builtins.KeyError: x", false, true },
		{ STACK "builtins.RuntimeError: x", true, false },
		{ STACK "so builtins.ValueError: x", true, false },
		{ STACK "RuntimeError: index 9 is out of bounds for size 4", false,
		  true },
		{ STACK "IndexError: Dimension out of range", false, true },
		{ STACK "RuntimeError: Dimension out of range", false, false },
		{ STACK "RuntimeError: index out of range in self", false, true },
		{ STACK "IndexError: list index out of range", true, false },
		{ STACK "IndexError: tuple index out of range", true, false },
		{ STACK "RuntimeError: Class values must be smaller than num_classes.",
		  false, true },
		{ STACK "RuntimeError: The size of tensor a (3) must match the size of "
		        "tensor b (4)",
		  true, true },
		{ STACK "RuntimeError: The size of tensor a (3) must match the size of "
		        "tensor b (4)",
		  false, false },
		{ STACK "RuntimeError: mat1 and mat2 shapes cannot be multiplied", true,
		  true },
		{ STACK "RuntimeError: Output size is too small", true, true },
		{ STACK "RuntimeError: something else", true, false },
		/* Only the last line counts. */
		{ STACK "builtins.ValueError: above\nRuntimeError: below", true, false },
		{ "index out of range\nwithout a stack", false, true },
		{ "", true, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const int64_t dim = rows[i].is_open ? TENSOR_DIM_ANY : 4;
		/* The first input's shape is known, and a batch is always open. */
		const struct tensor_spec inputs[] = {
			{ .shape = { 2, { TENSOR_DIM_ANY, 4 } } },
			{ .shape = { 3, { TENSOR_DIM_ANY, 4, dim } } },
		};
		const struct engine_config config = { .inputs = inputs, .n_inputs = 2 };

		if (torch_text_blames_request(&config, rows[i].what) != rows[i].is_blamed)
			fail_msg("row %zu: %s", i, rows[i].what);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cause),
		cmocka_unit_test(test_long_text),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_whose_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
