/* SPDX-License-Identifier: Apache-2.0 */

/* Options that an engine declares, and unknown ones. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/engine_options.h"
#include "shared/nearest.h"

ENGINE_OPTIONS(some, "secret, delay_us,x");
ENGINE_OPTIONS(none, "");

static void test_check(void **state)
{
	static const struct {
		const char *options;
		const char *name;
		const char *says; /* NULL: the option is known */
	} rows[] = {
		{ some, "secret", NULL },
		{ some, "delay_us", NULL },
		{ some, "x", NULL },
		{ some, "secrets_env", NULL },
		{ none, "secrets_env", NULL },
		{ some, "delay_ms", "no option 'delay_ms': did you mean delay_us?" },
		{ some, "secre", "did you mean secret?" },
		{ some, "secretx", "did you mean secret?" },
		{ some, "Secret", "did you mean secret?" },
		{ some, "secret, delay_us", "no option 'secret, delay_us'" },
		{ some, "colour",
		  "no option 'colour'; it has secret, delay_us,x, "
		  "secrets_env" },
		{ some, "", "no option ''; it has" },
		{ none, "colour", "engine e has no option 'colour'; it has secrets_env" },
		{ none, "secret_env", "did you mean secrets_env? It has secrets_env" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_NULL;
		int r = engine_options_check("e", rows[i].options, rows[i].name, &err);

		assert_int_equal(r, rows[i].says ? ENGINE_OPTIONS_E_UNKNOWN : 0);
		if (rows[i].says && !strstr(err.text, rows[i].says))
			fail_msg("'%s': %s", rows[i].name, err.text);
	}
}

/* A declaration is found anywhere in a file, if it ends within the file. */
static void test_find(void **state)
{
	unsigned char file[4096];
	const size_t bytes = sizeof(some);

	(void)state;
	memset(file, 0xa5, sizeof(file));
	assert_null(engine_options_find(file, sizeof(file)));
	assert_null(engine_options_find(file, 0));
	for (size_t at = 0; at + bytes <= sizeof(file); at += 511) {
		memset(file, 0xa5, sizeof(file));
		memcpy(file + at, some, bytes);
		assert_ptr_equal(engine_options_find(file, sizeof(file)), file + at);
		/* A declaration that is cut has no end. */
		for (size_t left = 0; left < bytes; left++)
			assert_null(engine_options_find(file, at + left));
	}
}

/* Bytes that are no text, or too long a text, are no declaration. */
static void test_find_nonsense(void **state)
{
	char file[sizeof(ENGINE_OPTIONS_MARK) + 2 * ENGINE_OPTIONS_BYTES_MAX];

	(void)state;
	(void)snprintf(file, sizeof(file), "%sa\nb", ENGINE_OPTIONS_MARK);
	assert_null(engine_options_find(file, sizeof(file)));
	memset(file, 'a', sizeof(file));
	memcpy(file, ENGINE_OPTIONS_MARK, sizeof(ENGINE_OPTIONS_MARK) - 1);
	file[sizeof(file) - 1] = '\0';
	assert_null(engine_options_find(file, sizeof(file)));
	file[ENGINE_OPTIONS_BYTES_MAX] = '\0';
	assert_null(engine_options_find(file, sizeof(file)));
	file[ENGINE_OPTIONS_BYTES_MAX - 1] = '\0';
	assert_ptr_equal(engine_options_find(file, sizeof(file)), file);
}

static void test_distance(void **state)
{
	static const struct {
		const char *a;
		const char *b;
		size_t distance;
	} rows[] = {
		{ "", "", 0 },        { "a", "", 1 },      { "", "abc", 3 },
		{ "abc", "abc", 0 },  { "abc", "abd", 1 }, { "abc", "bc", 1 },
		{ "abc", "xbcd", 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(nearest_distance(rows[i].a, rows[i].b),
		                 rows[i].distance);
		assert_int_equal(nearest_distance(rows[i].b, rows[i].a),
		                 rows[i].distance);
	}
	assert_true(nearest_distance("a", "a name that is longer than any name may be") ==
	            SIZE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_find_nonsense),
		cmocka_unit_test(test_distance),
	};

	return cmocka_run_group_tests_name("engine_options", tests, NULL, NULL);
}
