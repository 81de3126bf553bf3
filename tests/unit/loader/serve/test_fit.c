/* SPDX-License-Identifier: Apache-2.0 */

/* Shapes that did not fit: which others are taken not to fit, and for how long. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/serve/fit.h"

#define NOW CLOCK_NS_PER_SEC

static const struct engine_use use = { 0, 300 << 20, 100 << 20 };

/* Makes two inputs: [rows, width] and [rows]. */
static void make(struct engine_tensor inputs[2], int64_t rows, int64_t width)
{
	memset(inputs, 0, 2 * sizeof(inputs[0]));
	inputs[0].shape = (struct tensor_shape){ 2, { rows, width } };
	inputs[1].shape = (struct tensor_shape){ 1, { rows } };
}

static bool refuses(const struct fit *fit, int64_t rows, int64_t width, uint64_t joined,
                    uint64_t now_ns)
{
	struct engine_tensor inputs[2];

	make(inputs, rows, width);
	return fit_refuses(fit, inputs, joined, now_ns) != NULL;
}

static void learn(struct fit *fit, int64_t rows, int64_t width, uint64_t now_ns)
{
	struct engine_tensor inputs[2];

	make(inputs, rows, width);
	fit_learn(fit, inputs, &use, now_ns);
}

static void test_larger_ones_do_not_fit_either(void **state)
{
	static const struct {
		int64_t rows;
		int64_t width;
		uint64_t joined;
		bool is_refused;
	} cases[] = {
		{ 8, 100, 0, true },  { 9, 100, 0, true },    { 8, 101, 0, true },
		{ 7, 100, 0, false }, { 8, 99, 0, false },    { 1000, 99, 0, false },
		{ 3, 100, 7, false }, { 3, 100, 8, true },    { 3, 99, 800, false },
		{ 1, 1, 0, false },   { 800, 1000, 0, true },
	};
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	assert_false(refuses(&fit, 8, 100, 0, NOW));
	learn(&fit, 8, 100, NOW);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(refuses(&fit, cases[i].rows, cases[i].width,
		                         cases[i].joined, NOW),
		                 cases[i].is_refused);
}

static void test_ranks_differ(void **state)
{
	struct engine_tensor inputs[2];
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	learn(&fit, 8, 100, NOW);
	make(inputs, 8, 100);
	inputs[0].shape.rank = 3;
	inputs[0].shape.dims[2] = 100;
	assert_null(fit_refuses(&fit, inputs, 0, NOW));
}

static void test_it_is_tried_again(void **state)
{
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	learn(&fit, 8, 100, NOW);
	assert_true(refuses(&fit, 8, 100, 0, NOW + FIT_KEEP_NS - 1));
	assert_false(refuses(&fit, 8, 100, 0, NOW + FIT_KEEP_NS));
}

/* A smaller failure replaces larger ones, and leaves room for others. */
static void test_places_are_used_well(void **state)
{
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	for (int64_t rows = 1000; rows > 8; rows--)
		learn(&fit, rows, 100, NOW);
	for (int64_t i = 1; i < FIT_KNOWN_MAX; i++)
		learn(&fit, 1000 + i, 100 - i, NOW + (uint64_t)i);
	assert_true(refuses(&fit, 9, 100, 0, NOW + 200));
	for (int64_t i = 1; i < FIT_KNOWN_MAX; i++)
		assert_true(refuses(&fit, 1000 + i, 100 - i, 0, NOW + 200));
	/* A full table loses its oldest row. */
	learn(&fit, 1, 500, NOW + 100);
	assert_false(refuses(&fit, 9, 100, 0, NOW + 200));
	assert_true(refuses(&fit, 1, 500, 0, NOW + 200));
}

static void note(struct fit *fit, int64_t rows, int64_t width, uint64_t now_ns)
{
	struct engine_tensor inputs[2];

	make(inputs, rows, width);
	fit_note(fit, inputs, now_ns);
}

/* A request with wrong values must not cost others of its size a minute. */
static void test_what_has_fitted_is_not_too_large(void **state)
{
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	note(&fit, 8, 100, NOW);
	learn(&fit, 8, 100, NOW + 1);
	learn(&fit, 1, 50, NOW + 1);
	assert_false(refuses(&fit, 8, 100, 0, NOW + 2));
	assert_false(refuses(&fit, 9, 100, 0, NOW + 2));
	learn(&fit, 9, 100, NOW + 3);
	assert_true(refuses(&fit, 9, 100, 0, NOW + 4));
	assert_false(refuses(&fit, 8, 100, 0, NOW + 4));
	/* A shape that fitted long ago may not fit any more, whatever smaller ones do. */
	note(&fit, 1, 100, NOW + 5);
	learn(&fit, 8, 100, NOW + FIT_GOOD_NS);
	assert_true(refuses(&fit, 8, 100, 0, NOW + FIT_GOOD_NS));
}

static void test_places_of_what_fitted(void **state)
{
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	/* Each shape is no smaller than the last one: all take one place. */
	for (int64_t rows = 1; rows <= 100; rows++)
		note(&fit, rows, 100, NOW + (uint64_t)rows);
	for (int64_t i = 1; i < FIT_GOOD_MAX; i++)
		note(&fit, 100 + i, 100 - i, NOW + 200 + (uint64_t)i);
	learn(&fit, 100, 100, NOW + 300);
	assert_false(refuses(&fit, 100, 100, 0, NOW + 300));
	/* A shape that is seen again is young again; a full table loses the oldest. */
	note(&fit, 100, 100, NOW + 400);
	note(&fit, 1, 500, NOW + 500);
	learn(&fit, 100, 100, NOW + 600);
	assert_false(refuses(&fit, 100, 100, 0, NOW + 600));
	learn(&fit, 101, 99, NOW + 600);
	assert_true(refuses(&fit, 101, 99, 0, NOW + 600));
}

/* A shape that is seen again and again is as young as the last time. */
static void test_the_same_shape_again(void **state)
{
	struct fit fit;

	(void)state;
	fit_init(&fit, 2);
	assert_true(fit_is_empty(&fit));
	note(&fit, 8, 100, NOW);
	for (uint64_t i = 1; i <= 20; i++)
		note(&fit, 8, 100, NOW + i * FIT_GOOD_NS / 2);
	learn(&fit, 8, 100, NOW + 10 * FIT_GOOD_NS + 1);
	assert_true(fit_is_empty(&fit));
	/* The other inputs count as well, and so does each dim. */
	note(&fit, 9, 99, NOW + 10 * FIT_GOOD_NS + 2);
	learn(&fit, 9, 99, NOW + 10 * FIT_GOOD_NS + 3);
	assert_true(fit_is_empty(&fit));
	learn(&fit, 9, 100, NOW + 10 * FIT_GOOD_NS + 3);
	assert_false(fit_is_empty(&fit));
	assert_true(refuses(&fit, 9, 100, 0, NOW + 10 * FIT_GOOD_NS + 4));
}

static void test_the_sentence_has_numbers(void **state)
{
	const struct engine_use unknown = { 0 };
	const struct engine_use full = { .wanted_bytes = 7 << 20 };
	const struct engine_use small = { .wanted_bytes = 4096, .available_bytes = 608 };
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(fit_explain(&use, &err), ENGINE_E_MEMORY);
	assert_non_null(strstr(err.text, "300.0 MiB"));
	assert_non_null(strstr(err.text, "100.0 MiB"));
	assert_int_equal(fit_explain(&small, &err), ENGINE_E_MEMORY);
	assert_non_null(strstr(err.text, "at least 4096 bytes"));
	assert_non_null(strstr(err.text, "and 608 bytes are available"));
	assert_int_equal(fit_explain(&unknown, &err), ENGINE_E_MEMORY);
	assert_null(strstr(err.text, "MiB"));
	assert_int_equal(fit_explain(&full, &err), ENGINE_E_MEMORY);
	assert_non_null(strstr(err.text, "7.0 MiB"));
	assert_null(strstr(err.text, " 0.0 MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_larger_ones_do_not_fit_either),
		cmocka_unit_test(test_ranks_differ),
		cmocka_unit_test(test_it_is_tried_again),
		cmocka_unit_test(test_places_are_used_well),
		cmocka_unit_test(test_what_has_fitted_is_not_too_large),
		cmocka_unit_test(test_places_of_what_fitted),
		cmocka_unit_test(test_the_same_shape_again),
		cmocka_unit_test(test_the_sentence_has_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
