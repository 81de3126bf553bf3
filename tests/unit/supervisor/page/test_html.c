/* SPDX-License-Identifier: Apache-2.0 */

/* The page, from JSON that nobody has looked at. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/page/html.h"

#define HOSTILE "</table><script>alert(1)</script>&'\\\"<!--MODELS--><!--"

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	while ((text = strstr(text, what)) != NULL) {
		text += strlen(what);
		n++;
	}
	return n;
}

static char *make(const char *status, const char *receipts)
{
	json_t *first = status ? json_loads(status, 0, NULL) : NULL;
	json_t *second = receipts ? json_loads(receipts, JSON_DECODE_ANY, NULL) : NULL;
	char *page;

	assert_true(!status || first);
	assert_true(!receipts || second);
	page = html_page(first, second);
	assert_non_null(page);
	json_decref(first);
	json_decref(second);
	return page;
}

/* Every text that may come from elsewhere; the phase is cut off, behind that state. */
static void test_hostile_texts(void **state)
{
	FREE char *plain = make("{}", "[]");
	FREE char *page =
		make("{\"version\":\"" HOSTILE "\",\"config_refused\":true,\"models\":["
	             "{\"name\":\"" HOSTILE "\",\"state\":\"" HOSTILE
	             "\",\"trouble\":\"" HOSTILE "\",\"load\":{\"phase\":\"" HOSTILE
	             "\",\"percent\":7},\"memory\":{\"gpu\":\"" HOSTILE
	             "\"},\"shares_with\":\"" HOSTILE "\"}]}",
	             "[{\"model\":\"" HOSTILE "\",\"cause\":\"" HOSTILE
	             "\",\"outcome\":\"" HOSTILE "\",\"strategy\":\"" HOSTILE "\"}]");

	(void)state;
	assert_int_equal(count(page, "<script"), 1);
	assert_int_equal(count(page, "</table>"), count(plain, "</table>"));
	assert_int_equal(count(page, "<!--"), 0);
	assert_int_equal(count(page, "&lt;/table&gt;&lt;script&gt;alert(1)&lt;/script&gt;"
	                             "&amp;&#39;&quot;&lt;!--MODELS--&gt;&lt;!--"),
	                 12);
}

/* Members that are missing or of another kind leave gaps. */
static void test_odd_json(void **state)
{
	static const struct {
		const char *status;
		const char *receipts;
	} rows[] = {
		{ "{}", NULL },
		{ "{\"models\":7}", "{}" },
		{ "{\"models\":[null,1,{},{\"name\":3,\"load\":\"x\",\"requests\":[]}]}",
		  "[null,{},[],{\"time_ms\":1e300,\"phases_ms\":{\"spawn\":1e300,"
		  "\"stage\":-1,\"drain\":\"x\"},\"from\":7}]" },
		{ "{\"memory\":{\"budget_bytes\":9223372036854775807,"
		  "\"loaders_bytes\":-1}}",
		  "7" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		FREE char *page = make(rows[i].status, rows[i].receipts);

		assert_int_equal(count(page, "</html>"), 1);
	}
}

static void test_nobody_may_see_it(void **state)
{
	FREE char *page = make(NULL, NULL);
	FREE char *open = make("{}", NULL);

	(void)state;
	assert_int_equal(count(page, "<main id=\"main\" tabindex=\"-1\" hidden>"), 1);
	assert_int_equal(count(page, "role=\"rowheader\" scope"), 0);
	assert_int_equal(count(open, "<main id=\"main\" tabindex=\"-1\" >"), 1);
}

static void test_policy(void **state)
{
	char policy[HTML_POLICY_MAX];

	(void)state;
	html_policy(policy);
	assert_int_equal(count(policy, "'sha256-"), 2);
	assert_ptr_equal(strstr(policy, "default-src 'none'; "), policy);
	assert_int_equal(count(policy, "unsafe"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_texts),
		cmocka_unit_test(test_odd_json),
		cmocka_unit_test(test_nobody_may_see_it),
		cmocka_unit_test(test_policy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
