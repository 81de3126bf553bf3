/* SPDX-License-Identifier: Apache-2.0 */

/* What is read of protobuf's text format, and what is said of a text that is none. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/repository/pbtxt.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define PRINTED_MAX 512

/* Writes a tree on one line: words as they are, texts in quotes, messages in braces. */
static void print(FILE *stream, const struct pbtxt_node *message)
{
	for (const struct pbtxt_node *node = message->child; node; node = node->next) {
		(void)fprintf(stream, "%s:", node->name);
		if (node->kind == PBTXT_MESSAGE) {
			(void)fputc('{', stream);
			print(stream, node);
			(void)fputc('}', stream);
		} else {
			(void)fprintf(stream, node->kind == PBTXT_TEXT ? "'%s'" : "%s",
			              node->text);
		}
		if (node->next)
			(void)fputc(' ', stream);
	}
}

static const struct {
	const char *text;
	const char *tree;
} good[] = {
	{ "", "" },
	{ " \t\r\n# only a comment", "" },
	{ "name: \"digits\"", "name:'digits'" },
	{ "name:'it is \"so\"'", "name:'it is \"so\"'" },
	{ "a: 1, b: 2; c: 3 d: 4", "a:1 b:2 c:3 d:4" },
	{ "a:-1 b: - 2 c:1.5e+3 d:0x1F e:true f:TYPE_FP32",
	  "a:-1 b:-2 c:1.5e+3 d:0x1F e:true f:TYPE_FP32" },
	{ "dims: [ -1, 3, 224 ]", "dims:-1 dims:3 dims:224" },
	{ "dims: []", "" },
	{ "dims [ 1 ]", "dims:1" },
	{ "m { a: 1 }", "m:{a:1}" },
	{ "m: < a: 1 >", "m:{a:1}" },
	{ "m {} n { o {} }", "m:{} n:{o:{}}" },
	{ "input [ { name: 'x' }, { name: 'y' } ]", "input:{name:'x'} input:{name:'y'}" },
	{ "a: 'one' # and\n \"two\"", "a:'onetwo'" },
	{ "a: ''", "a:''" },
	{ "a: '\\x41\\102\\t\\\\\\''", "a:'AB\t\\''" },
	{ "a: 1 # c\n# d\nb: 2", "a:1 b:2" },
	{ "a: 'caf\xc3\xa9'", "a:'caf\xc3\xa9'" },
	{ "_a1: _b2", "_a1:_b2" },
};

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		char printed[PRINTED_MAX] = "";
		FILE *stream = fmemopen(printed, sizeof(printed), "w");
		struct pbtxt *pbtxt = NULL;
		struct err err = ERR_NULL;

		assert_non_null(stream);
		if (pbtxt_read(&pbtxt, good[i].text, strlen(good[i].text), &err) < 0)
			fail_msg("%s: %s", good[i].text, err.text);
		print(stream, pbtxt_root(pbtxt));
		(void)fclose(stream);
		assert_string_equal(printed, good[i].tree);
		pbtxt_free(pbtxt);
	}
}

static const struct {
	const char *text;
	const char *sentence; /* how it begins */
} bad[] = {
	{ "a", "1: a: a colon is missing behind it" },
	{ "a b: 1", "1: a: a colon is missing behind it" },
	{ "a \"text\"", "1: a: a colon is missing behind it" },
	{ "a:", "1: ends where a value is expected" },
	{ "a: -", "1: ends where a value is expected" },
	{ "a: ,", "1: has ',' where a value is expected" },
	{ "a: }", "1: has '}' where a value is expected" },
	{ "a: \x01", "1: has the byte 0x01 where a value is expected" },
	{ ": 1", "1: has ':' where the name of a field is expected" },
	{ "1a: 1", "1: " },
	{ "}", "1: has '}' where the name of a field is expected" },
	{ "a: 1 ] ", "1: has ']' where the name of a field is expected" },
	{ "[x.y]: 1", "1: has '[' where the name of a field is expected" },
	{ "a: 1,, b: 2", "1: has ',' where the name of a field is expected" },
	{ "\n\na {", "3: ends where the end of a message is expected" },
	{ "a { b: 1 >", "1: has '>' where the name of a field is expected" },
	{ "a < b: 1 }", "1: has '}' where the name of a field is expected" },
	{ "a: [ 1", "1: ends where ',' or ']' is expected" },
	{ "a: [ 1 2 ]", "1: has '2' where ',' or ']' is expected" },
	{ "a: [ 1, ]", "1: has ']' where a value is expected" },
	{ "a: [ , ]", "1: has ',' where a value is expected" },
	{ "a: [ [ 1 ] ]", "1: has '[' where a value is expected" },
	{ "a: 'b", "1: ends within a text" },
	{ "a: 'b\"", "1: ends within a text" },
	{ "\na: 'b\n'", "2: has a text that does not end on its line" },
	{ "a: '\\q'", "1: has an escape in a text that is not known here" },
	{ "a: '\\u00e9'", "1: has an escape in a text that is not known here" },
	{ "a: '\\", "1: has an escape in a text that is not known here" },
	{ "a: '\\x'", "1: has an escape in a text that stands for no byte" },
	{ "a: '\\0'", "1: has an escape in a text that stands for no byte" },
	{ "a: '\\400'", "1: has an escape in a text that stands for no byte" },
	{ "a: \xff", "1: has the byte 0xff where a value is expected" },
	{ "a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{", "1: is nested more than 16 times" },
};

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct pbtxt *pbtxt = NULL;
		struct err err = ERR_NULL;
		int r = pbtxt_read(&pbtxt, bad[i].text, strlen(bad[i].text), &err);

		if (r >= 0 ||
		    strncmp(err.text, bad[i].sentence, strlen(bad[i].sentence)) != 0)
			fail_msg("'%s' gives %d '%s', not '%s'", bad[i].text, r, err.text,
			         bad[i].sentence);
		assert_null(pbtxt);
	}
}

/* A byte of value 0 ends nothing. */
static void test_nul(void **state)
{
	static const char text[] = "a: 1\0b: 2";
	struct pbtxt *pbtxt = NULL;
	struct err err = ERR_NULL;

	(void)state;
	assert_true(pbtxt_read(&pbtxt, text, sizeof(text) - 1, &err) < 0);
	assert_non_null(strstr(err.text, "has the byte 0x00"));
}

static void test_bounds(void **state)
{
	static char text[PBTXT_BYTES_MAX + 1];
	struct pbtxt *pbtxt = NULL;
	struct err err = ERR_NULL;

	(void)state;
	memset(text, ' ', sizeof(text));
	assert_int_equal(pbtxt_read(&pbtxt, text, PBTXT_BYTES_MAX, &err), 0);
	pbtxt_free(pbtxt);
	pbtxt = NULL;
	assert_true(pbtxt_read(&pbtxt, text, sizeof(text), &err) < 0);
	assert_non_null(strstr(err.text, "is larger than"));
	for (size_t i = 0; i <= PBTXT_NODES_MAX; i++)
		memcpy(text + i * 4, "a:1 ", 4);
	assert_int_equal(pbtxt_read(&pbtxt, text, (size_t)PBTXT_NODES_MAX * 4, &err), 0);
	pbtxt_free(pbtxt);
	pbtxt = NULL;
	assert_true(pbtxt_read(&pbtxt, text, PBTXT_BYTES_MAX, &err) < 0);
	assert_non_null(strstr(err.text, "has more than 16384 fields"));
}

static void test_find(void **state)
{
	static const char text[] = "a: 1\nb: 2\na: 3";
	struct pbtxt *pbtxt = NULL;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(pbtxt_read(&pbtxt, text, sizeof(text) - 1, &err), 0);
	assert_string_equal(pbtxt_find(pbtxt_root(pbtxt), "a")->text, "3");
	assert_int_equal(pbtxt_find(pbtxt_root(pbtxt), "a")->line, 3);
	assert_null(pbtxt_find(pbtxt_root(pbtxt), "c"));
	pbtxt_free(pbtxt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
		cmocka_unit_test(test_nul),  cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
