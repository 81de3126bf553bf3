/* SPDX-License-Identifier: Apache-2.0 */

/* Sentences are UTF-8, whatever they quote and wherever they are cut. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/err.h"

static void test_clean(void **state)
{
	static const struct {
		const char *text;
		const char *clean;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "caf\xe9", "caf?" },
		{ "\xff\xfe", "??" },
		{ "cut \xe2\x82", "cut ??" },
		{ "long \xc0\xaf \xe0\x80\xaf", "long ?? ???" },
		{ "surrogate \xed\xa0\x80", "surrogate ???" },
		{ "beyond \xf4\x90\x80\x80 \xf5", "beyond ???? ?" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[64];

		(void)strcpy(text, rows[i].text);
		err_clean(text);
		assert_string_equal(text, rows[i].clean);
	}
}

static void test_cut_inside_of_a_character(void **state)
{
	char text[2 * ERR_TEXT_MAX + 1];
	struct err err = ERR_NULL;

	(void)state;
	for (size_t i = 0; i < ERR_TEXT_MAX; i++)
		memcpy(text + 2 * i, "\xc3\xa9", 2);
	text[2 * ERR_TEXT_MAX] = '\0';
	assert_int_equal(err_set(&err, -1, "%s", text), -1);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	assert_string_equal(err.text + ERR_TEXT_MAX - 4, "\xc3\xa9?");
	assert_int_equal(err_prefix(&err, -1, "x"), -1);
	assert_true(strncmp(err.text, "x: \xc3\xa9", 5) == 0);
	assert_true((unsigned char)err.text[strlen(err.text) - 1] < 0x80 ||
	            (unsigned char)err.text[strlen(err.text) - 1] == 0xa9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_cut_inside_of_a_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
