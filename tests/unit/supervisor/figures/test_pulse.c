/* SPDX-License-Identifier: Apache-2.0 */

/* A generation's health, and when it is worse than that of the one before. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/figures/pulse.h"

#define S  CLOCK_NS_PER_SEC
#define MS CLOCK_NS_PER_MS

static void note(struct pulse *pulse, uint64_t n, enum pulse_kind kind, uint64_t ns,
                 uint64_t now_ns)
{
	for (uint64_t i = 0; i < n; i++)
		pulse_note(pulse, pulse->generation, kind, ns, now_ns);
}

static void test_times_are_within_a_quarter(void **state)
{
	static const uint64_t times_ns[] = {
		1,
		1023,
		1024,
		1025,
		5000,
		2 * MS - 1,
		2 * MS,
		3 * MS,
		17 * MS,
		1000 * MS,
		3600 * S,
		100000 * S,
		1 << 20,
		1 << 30,
		99999999,
		MS,
		UINT64_C(255) << 20,
		7 * S,
	};
	struct pulse pulse;

	(void)state;
	for (size_t i = 0; i < sizeof(times_ns) / sizeof(times_ns[0]); i++) {
		struct pulse_summary sum;
		uint64_t ns = times_ns[i] < 1024 ? 1024 : times_ns[i];

		pulse_reset(&pulse, 1);
		note(&pulse, 10, PULSE_GOOD, times_ns[i], S);
		sum = pulse_sum(&pulse, S);
		assert_int_equal(sum.answers, 10);
		assert_true(sum.slow_ns >= (ns < 4096 * S ? ns : 4096 * S));
		assert_true(sum.slow_ns <= ns + ns / 4 + 1);
	}
}

static void test_nine_in_ten(void **state)
{
	struct pulse pulse;
	struct pulse_summary sum;

	(void)state;
	pulse_reset(&pulse, 1);
	note(&pulse, 90, PULSE_GOOD, 3 * MS, S);
	note(&pulse, 10, PULSE_GOOD, 900 * MS, S);
	note(&pulse, 50, PULSE_FAULT, 0, S); /* errors have no time */
	sum = pulse_sum(&pulse, S);
	assert_int_equal(sum.answers, 150);
	assert_int_equal(sum.errors, 50);
	assert_in_range(sum.slow_ns, 3 * MS, 4 * MS);
	note(&pulse, 10, PULSE_GOOD, 900 * MS, S);
	assert_in_range(pulse_sum(&pulse, S).slow_ns, 900 * MS, 1125 * MS);
}

/* A client that sends nothing but refuse neither makes the times look short nor fills the
 * number of answers that a verdict takes. */
static void test_what_the_request_is_to_blame_for(void **state)
{
	struct pulse pulse;
	struct pulse_summary sum;

	(void)state;
	pulse_reset(&pulse, 1);
	note(&pulse, 10, PULSE_GOOD, 900 * MS, S);
	note(&pulse, 1000, PULSE_NOTHING, 0, S);
	sum = pulse_sum(&pulse, S);
	assert_int_equal(sum.answers, 10);
	assert_int_equal(sum.errors, 0);
	assert_in_range(sum.slow_ns, 900 * MS, 1125 * MS);
}

static void test_others_are_not_noted_and_old_ones_forgotten(void **state)
{
	struct pulse pulse;

	(void)state;
	pulse_reset(&pulse, 7);
	pulse_note(&pulse, 6, PULSE_FAULT, 0, S);
	assert_int_equal(pulse_sum(&pulse, S).answers, 0);
	for (uint64_t second = 1; second <= 1000; second++)
		note(&pulse, 1, PULSE_GOOD, MS, second * S);
	assert_in_range(pulse_sum(&pulse, 1000 * S).answers, 110, 120);
	assert_int_equal(pulse_sum(&pulse, 2000 * S).answers, 0);
	note(&pulse, 3, PULSE_GOOD, MS, 2000 * S);
	assert_int_equal(pulse_sum(&pulse, 2000 * S).answers, 3);
}

static void test_what_is_recent(void **state)
{
	struct pulse pulse;

	(void)state;
	pulse_reset(&pulse, 1);
	note(&pulse, 7, PULSE_FAULT, MS, 10 * S);
	note(&pulse, 2, PULSE_GOOD, MS, 25 * S);
	note(&pulse, 1, PULSE_FAULT, MS, 26 * S);
	assert_int_equal(pulse_recent(&pulse, 30 * S, 40 * S).answers, 10);
	assert_int_equal(pulse_recent(&pulse, 30 * S, 40 * S).errors, 8);
	assert_int_equal(pulse_recent(&pulse, 30 * S, 41 * S).answers, 3);
	assert_int_equal(pulse_recent(&pulse, 30 * S, 41 * S).errors, 1);
	assert_int_equal(pulse_recent(&pulse, 30 * S, 90 * S).answers, 0);
}

static void test_what_is_worse(void **state)
{
	static const struct {
		struct pulse_summary before;
		struct pulse_summary now;
		bool is_worse;
	} table[] = {
		/* errors */
		{ { 100, 0, MS }, { 49, 49, 0 }, false }, /* too few to tell */
		{ { 100, 0, MS }, { 50, 50, 0 }, true },
		{ { 100, 0, MS }, { 100, 5, MS }, false },
		{ { 100, 0, MS }, { 100, 6, MS }, true },
		{ { 100, 50, MS }, { 100, 55, MS }, false },
		{ { 100, 50, MS }, { 100, 56, MS }, true },
		{ { 0, 0, 0 }, { 100, 6, MS }, true },
		/* times */
		{ { 100, 0, 10 * MS }, { 100, 0, 30 * MS }, false },
		{ { 100, 0, 10 * MS }, { 100, 0, 31 * MS }, true },
		{ { 49, 0, 10 * MS }, { 100, 0, 31 * MS }, false },
		{ { 100, 0, MS / 10 }, { 100, 0, 2 * MS - 1 }, false }, /* noise */
		{ { 100, 0, MS / 10 }, { 100, 0, 2 * MS }, true },
		{ { 100, 0, 30 * MS }, { 100, 0, 10 * MS }, false },
		{ { 100, 0, 10 * MS }, { 100, 0, 40 * MS + 1 }, true },
	};
	const struct pulse_policy policy = { .errors_percent = 5,
		                             .latency_percent = 300 };
	const struct pulse_policy none = { 0 };
	/* Machine to blame: 29 ms more, which one in ten may have waited. */
	const struct pulse_policy busy = { .errors_percent = 5,
		                           .latency_percent = 300,
		                           .waited_ns = 3 * MS };

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct err why = ERR_NULL;

		assert_int_equal(pulse_is_worse(&table[i].before, &table[i].now, &policy,
		                                &why),
		                 table[i].is_worse);
		assert_int_equal(why.text[0] != '\0', table[i].is_worse);
		assert_false(pulse_is_worse(&table[i].before, &table[i].now, &none,
		                            &why));
		assert_int_equal(pulse_is_worse(&table[i].before, &table[i].now, &busy,
		                                &why),
		                 table[i].is_worse &&
		                         (table[i].now.errors > 0 ||
		                          table[i].now.slow_ns >=
		                                  table[i].before.slow_ns + 30 * MS));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times_are_within_a_quarter),
		cmocka_unit_test(test_nine_in_ten),
		cmocka_unit_test(test_what_the_request_is_to_blame_for),
		cmocka_unit_test(test_others_are_not_noted_and_old_ones_forgotten),
		cmocka_unit_test(test_what_is_recent),
		cmocka_unit_test(test_what_is_worse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
