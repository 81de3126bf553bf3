/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Digits that read back, and no fewer would: against strtof() and strtod(), which round correctly,
 * and printf(), which says whether one digit less reads back.
 */

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/numbers/shortest.h"

#define RANDOM 200000

static int count_digits(uint64_t digits)
{
	int n = 0;

	for (; digits; digits /= 10)
		n++;
	return n;
}

static void check_float(float value)
{
	const struct shortest number = shortest_float(value);
	const int n = count_digits(number.digits);
	char text[64];

	(void)snprintf(text, sizeof(text), "%" PRIu64 "e%d", number.digits,
	               number.exponent);
	if (strtof(text, NULL) != fabsf(value))
		fail_msg("%a became %s", (double)value, text);
	assert_true(n <= FLT_DECIMAL_DIG && number.digits % 10 != 0);
	if (n > 1) {
		(void)snprintf(text, sizeof(text), "%.*e", n - 2, fabs((double)value));
		assert_true(strtof(text, NULL) != fabsf(value));
	}
}

static void check_double(double value)
{
	const struct shortest number = shortest_double(value);
	const int n = count_digits(number.digits);
	char text[64];

	(void)snprintf(text, sizeof(text), "%" PRIu64 "e%d", number.digits,
	               number.exponent);
	if (strtod(text, NULL) != fabs(value))
		fail_msg("%a became %s", value, text);
	assert_true(n <= DBL_DECIMAL_DIG && number.digits % 10 != 0);
	if (n > 1) {
		(void)snprintf(text, sizeof(text), "%.*e", n - 2, fabs(value));
		assert_true(strtod(text, NULL) != fabs(value));
	}
}

/* xorshift64* (Vigna 2014): the same numbers in each run. */
static uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * UINT64_C(2685821657736338717);
}

static void test_floats(void **state)
{
	static const float rows[] = {
		1.F,      -1.F,        .1F,      1e-45F,        FLT_MIN,
		FLT_MAX,  -FLT_MAX,    16777216, 9007199.5F,    8.956487e-4F,
		3.4e-38F, FLT_EPSILON, 1e10F,    -1.17549e-38F, 1.F / 3,
	};
	uint64_t seed = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_float(rows[i]);
	/* Powers of two have their lower neighbour half as far. */
	for (int i = -149; i < 128; i++)
		check_float(ldexpf(1.F, i));
	for (int i = 0; i < RANDOM; i++) {
		const uint32_t bits = (uint32_t)(draw(&seed) >> 32);
		float value;

		memcpy(&value, &bits, sizeof(value));
		if (isfinite(value) && value != 0)
			check_float(value);
	}
}

static void test_doubles(void **state)
{
	static const double rows[] = {
		1.,
		-1.,
		.1,
		5e-324,
		DBL_MIN,
		DBL_MAX,
		-DBL_MAX,
		0.3,
		1e23,
		9007199254740993.,
		2.2250738585072011e-308,
		1. / 3,
	};
	uint64_t seed = 2;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_double(rows[i]);
	for (int i = -1074; i < 1024; i++)
		check_double(ldexp(1., i));
	for (int i = 0; i < RANDOM; i++) {
		const uint64_t bits = draw(&seed);
		double value;

		memcpy(&value, &bits, sizeof(value));
		if (isfinite(value) && value != 0)
			check_double(value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_floats),
		cmocka_unit_test(test_doubles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
