/* SPDX-License-Identifier: Apache-2.0 */

/* The forms of moultctl's answers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/ctl/print_value.h"

static void test_forms(void **state)
{
	static const struct {
		const char *object;
		const char *form;
		const char *want;
	} rows[] = {
		{ "{}", "", "" },
		{ "{}", "as it is: 1, 2\n", "as it is: 1, 2\n" },
		{ "{\"a\":\"b\"}", "{a}, {a}", "b, b" },
		{ "{\"a\":{\"b\":{\"c\":7}}}", "{a.b.c} of {a.b.d}", "7 of -" },
		{ "{\"a\":true,\"b\":null,\"c\":1.5}", "{a} {b} {c}", "yes - 1.500" },
		/* Units, of the member or of what is around it. */
		{ "{\"used_bytes\":2097152}", "{used_bytes}", "2.0 MiB" },
		{ "{\"up_s\":3,\"n_ms\":3}", "{up_s} {n_ms}", "3.00 s 3.0 ms" },
		{ "{\"phases_ms\":{\"total\":12}}", "{phases_ms.total}", "12 ms" },
		{ "{\"a_ms\":{\"b_bytes\":12}}", "{a_ms.b_bytes}", "12 B" },
		/* What is left out. */
		{ "{\"a\":0}", "x[, {a}]y", "x, 0y" },
		{ "{\"a\":\"\"}", "x[, {a}]y", "xy" },
		{ "{\"a\":null}", "x[, {a}]y[{b}]", "xy" },
		{ "{\"a\":1}", "[{a} of {b}]", "" },
		{ "{\"a\":1,\"b\":2}", "[{a} of {b}]", "1 of 2" },
		/* And what stands in its place. */
		{ "{\"a\":1}", "[{a}|none] -> [{b}|none]!", "1 -> none!" },
		{ "{\"a\":1}", "[{b}|instead {a}].", "instead 1." },
		/* No escape sequence reaches the terminal. */
		{ "{\"a\":\"\\u001b[2J\"}", "{a}", "?[2J" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *object = json_loads(rows[i].object, 0, NULL);
		FREE char *text = NULL;
		size_t bytes;
		FILE *out = open_memstream(&text, &bytes);

		assert_non_null(object);
		print_form(out, object, rows[i].form);
		assert_int_equal(fclose(out), 0);
		assert_string_equal(text, rows[i].want);
		json_decref(object);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_forms) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
