/* SPDX-License-Identifier: Apache-2.0 */

/* Names of sections, and what a source of TorchScript says of forward. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/ctl/inspect/inspect.h"
#include "supervisor/ctl/inspect/script.h"

static void test_names(void **state)
{
	static const char *const rows[][2] = {
		{ "/a/digits.pt", "digits" },
		{ "digits", "digits" },
		{ "a/b.c/resnet-50", "resnet-50" },
		{ "all MiniLM (1).onnx", "all_MiniLM_1_" },
		{ ".hidden", "hidden" },
		{ "/a/--.pt", "model" },
		{ "m\303\244.pt", "m_" },
		{ "/", "model" },
		{ "x.tar.gz", "x_tar" },
	};
	char name[16];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ctl_inspect_name(rows[i][0], name, sizeof(name));
		assert_string_equal(name, rows[i][1]);
	}
	ctl_inspect_name("/a/0123456789abcdefgh.pt", name, sizeof(name));
	assert_string_equal(name, "0123456789abcde");
}

#define CLASS(name_, more_) "class " name_ "(Module):\n  __parameters__ = []\n" more_
#define FORWARD(list_)                                                                   \
	"  def forward(self: __torch__.M" list_ ") -> Tensor:\n    return x\n"

static const struct {
	const char *source;
	const char *want; /* NULL: nothing is told */
} rows[] = {
	{ CLASS("M", FORWARD(",\n    x: Tensor")), "x: Tensor" },
	{ CLASS("M", FORWARD(",\n    x: Tensor,\n    n: Optional[Tensor]=None")),
	  "x: Tensor, n: Optional[Tensor]=None" },
	{ CLASS("M", FORWARD(", x: Tuple[Tensor, Tensor], y: float=tanh(1)")),
	  "x: Tuple[Tensor, Tensor], y: float=tanh(1)" },
	{ CLASS("A", FORWARD(", a: Tensor")) CLASS("M", FORWARD(", b: Tensor")),
	  "b: Tensor" },
	{ CLASS("M", FORWARD("")), NULL },
	{ CLASS("M", "") CLASS("A", FORWARD(", a: Tensor")), NULL },
	{ CLASS("MM", FORWARD(", a: Tensor")), NULL },
	{ CLASS("M", "  def forward(self: __torch__.M, x: Tensor"), NULL },
	{ "", NULL },
};

static void test_forward(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *found = script_find_forward(rows[i].source, "M");

		if (rows[i].want ? !found || strcmp(found, rows[i].want) != 0
		                 : found != NULL)
			fail_msg("%s: %s", rows[i].source, found);
		free(found);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
