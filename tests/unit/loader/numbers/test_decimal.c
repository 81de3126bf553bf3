/* SPDX-License-Identifier: Apache-2.0 */

/* Numbers from their text: the grammar, and every bit of the value. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/numbers/decimal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEXTS        400000

static const struct {
	const char *text;
	size_t bytes; /* of the number; 0: there is no number */
} texts[] = {
	{ "0", 1 },     { "-0", 2 },
	{ "1.5", 3 },   { "1.5e3", 5 },
	{ "1E+2", 4 },  { "1e-2", 4 },
	{ "12,", 2 },   { "12 ", 2 },
	{ "12]", 2 },   { "1.0.0", 3 },
	{ "", 0 },      { "-", 0 },
	{ "+1", 0 },    { ".5", 0 },
	{ "5.", 0 },    { "1.e3", 0 },
	{ "01", 0 },    { "-01", 0 },
	{ "1e", 0 },    { "1e+", 0 },
	{ "NaN", 0 },   { "inf", 0 },
	{ "-Inf", 0 },  { "0x10", 1 },
	{ "1_0", 1 },   { "0e99999999999999999999", 22 },
	{ "true", 0 },  { "\"1\"", 0 },
	{ "1e5e5", 3 },
};

static void test_grammar(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		const size_t length = strlen(texts[i].text);
		char *text =
			malloc(length + 1); /* without the NUL: a reader beyond is seen */
		struct decimal number;
		bool is_number;

		assert_non_null(text);
		memcpy(text, texts[i].text, length);
		is_number = decimal_read(text, text + length, &number);
		if (is_number != (texts[i].bytes > 0) ||
		    (is_number && (size_t)(number.end - text) != texts[i].bytes))
			fail_msg("'%s'", texts[i].text);
		free(text);
	}
}

/* A fixed sequence, so that a check that fails, fails again. */
static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Makes numbers as programs write them, with too many digits, and between two floats. */
static void make_text(uint64_t *seed, char *text, size_t size)
{
	const uint64_t bits = next(seed);
	const uint32_t low = (uint32_t)(bits >> 32);
	float single;
	double real;

	memcpy(&real, &bits, sizeof(real));
	memcpy(&single, &low, sizeof(single));
	if (!isfinite(real) || !isfinite(single))
		real = single = 1;
	switch (next(seed) % 8) {
	case 0:
		(void)snprintf(text, size, "%.9g", (double)single);
		break;
	case 1:
		(void)snprintf(text, size, "%.17g", real);
		break;
	case 2:
		(void)snprintf(text, size, "%.17g", (double)single);
		break;
	case 3:
		(void)snprintf(text, size, "%.*g", (int)(bits % 40) + 1, (double)single);
		break;
	case 4: /* the middle of two floats, and beside it */
		real = ((double)single + (double)nextafterf(single, INFINITY)) / 2;
		(void)snprintf(text, size, "%.*g", (int)(bits % 30) + 15, real);
		break;
	case 5:
		(void)snprintf(text, size, "%llu.%llu", (unsigned long long)(bits >> 40),
		               (unsigned long long)(bits & 0xffffff));
		break;
	case 6:
		(void)snprintf(text, size, "%llu%llu", (unsigned long long)bits + 1,
		               (unsigned long long)next(seed));
		break;
	default:
		(void)snprintf(text, size, "-0.000%llue%d", (unsigned long long)bits,
		               (int)(next(seed) % 90) - 60);
		break;
	}
}

static void test_against_libc(void **state)
{
	uint64_t seed = 0x6d6f756c74;
	char text[128];

	(void)state;
	for (int i = 0; i < TEXTS; i++) {
		struct decimal number;
		double want_double;
		float want_float;
		double got_double = 0;
		float got_float = 0;
		int r;

		make_text(&seed, text, sizeof(text));
		if (!isfinite(strtod(text, NULL)))
			continue;
		if (!decimal_read(text, text + strlen(text), &number))
			fail_msg("%s is no number", text);
		want_double = strtod(text, NULL);
		want_float = strtof(text, NULL);
		assert_int_equal(decimal_to_double(&number, &got_double), 0);
		if (memcmp(&want_double, &got_double, sizeof(want_double)) != 0)
			fail_msg("%s: %a instead of %a", text, got_double, want_double);
		r = decimal_to_float(&number, &got_float);
		if (isinf(want_float) ? r != DECIMAL_E_RANGE
		                      : memcmp(&want_float, &got_float, 4) != 0)
			fail_msg("%s: %a instead of %a", text, (double)got_float,
			         (double)want_float);
	}
}

static const struct {
	const char *text;
	int r;
	uint64_t magnitude;
} wholes[] = {
	{ "0", 0, 0 },
	{ "-1", 0, 1 },
	{ "9999999999999999999", 0, UINT64_C(9999999999999999999) },
	{ "10000000000000000000", 0, UINT64_C(10000000000000000000) },
	{ "18446744073709551615", 0, UINT64_MAX },
	{ "-18446744073709551615", 0, UINT64_MAX },
	{ "18446744073709551616", DECIMAL_E_RANGE, 0 },
	{ "100000000000000000000000", DECIMAL_E_RANGE, 0 },
};

static void test_wholes(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(wholes); i++) {
		const char *text = wholes[i].text;
		struct decimal number;
		uint64_t magnitude = 0;

		assert_true(decimal_read(text, text + strlen(text), &number));
		assert_true(number.is_whole);
		assert_int_equal(number.is_negative, *text == '-');
		assert_int_equal(decimal_to_magnitude(&number, &magnitude), wholes[i].r);
		if (wholes[i].r == 0 && magnitude != wholes[i].magnitude)
			fail_msg("%s", text);
	}
}

/* Digits behind the 19th still decide; very long texts are refused as LONG. */
static void test_long(void **state)
{
	char text[DECIMAL_TEXT_MAX + 16];
	struct decimal number;
	double value = 0;

	(void)state;
	memset(text, '1', sizeof(text));
	assert_true(decimal_read(text, text + 300, &number));
	assert_int_equal(decimal_to_double(&number, &value), 0);
	assert_true(value > 1.1e299 && value < 1.2e299);
	assert_true(decimal_read(text, text + 400, &number));
	assert_int_equal(decimal_to_double(&number, &value), DECIMAL_E_RANGE);
	assert_true(decimal_read(text, text + sizeof(text), &number));
	assert_int_equal(decimal_to_double(&number, &value), DECIMAL_E_LONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_against_libc),
		cmocka_unit_test(test_wholes),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
