/* SPDX-License-Identifier: Apache-2.0 */

/* The times at which another loader is tried: deaths in, delays out. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/process/restart.h"

#define S CLOCK_NS_PER_SEC

static const struct restart_policy policy = { .limit = 5, .window_ns = 60 * S };

static void test_useful_ones_are_replaced_at_once(void **state)
{
	struct restart restart = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(restart_on_death(&restart, &policy, RESTART_USEFUL,
		                                  i * S / 10),
		                 0);
	assert_false(restart.is_failed);
}

static void test_useless_ones_back_off_and_fail(void **state)
{
	static const double delays_s[] = { 0.5, 1, 2, 4 };
	struct restart restart = { 0 };
	uint64_t now_ns = S;

	(void)state;
	for (size_t i = 0; i < sizeof(delays_s) / sizeof(delays_s[0]); i++) {
		uint64_t delay_ns =
			restart_on_death(&restart, &policy, RESTART_USELESS, now_ns);

		assert_int_equal(delay_ns, (uint64_t)(delays_s[i] * 1e9));
		assert_false(restart.is_failed);
		now_ns += delay_ns;
	}
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, now_ns),
	                 60 * S);
	assert_true(restart.is_failed);
	/* The model stays failed after the next try, whatever the window says; ready ends
	 * that. */
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS,
	                                  now_ns + 61 * S),
	                 60 * S);
	assert_true(restart.is_failed);
	restart_on_ready(&restart);
	assert_false(restart.is_failed);
}

/* Slow deaths never fill the window: the delay grows to its limit and stays there. */
static void test_the_window_slides(void **state)
{
	struct restart restart = { 0 };
	uint64_t last_ns = 0;

	(void)state;
	for (uint64_t i = 0; i < 200; i++) {
		last_ns =
			restart_on_death(&restart, &policy, RESTART_USELESS, i * 16 * S);
		assert_false(restart.is_failed);
	}
	assert_int_equal(last_ns, 60 * S);
}

/* A lack of memory for a loader is no death, and is looked into often. */
static void test_refusals_fail_and_look_often(void **state)
{
	static const double delays_s[] = { 0.5, 1, 2, 4, 5, 5, 5 };
	struct restart restart = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(delays_s) / sizeof(delays_s[0]); i++) {
		assert_int_equal(restart_on_death(&restart, &policy, RESTART_REFUSED,
		                                  i * S),
		                 (uint64_t)(delays_s[i] * 1e9));
		assert_int_equal(restart.is_failed, i >= 4);
	}
	assert_int_equal(restart.n_deaths, 0);
	restart_on_ready(&restart);
	assert_false(restart.is_failed);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_REFUSED, 9 * S),
	                 S / 2);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 10 * S),
	                 S / 2);
	assert_int_equal(restart.n_refused, 0);
}

static void test_use_and_time_forgive(void **state)
{
	struct restart restart = { 0 };

	(void)state;
	for (uint64_t i = 0; i < 3; i++)
		(void)restart_on_death(&restart, &policy, RESTART_USELESS, i * S);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USEFUL, 4 * S), 0);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 5 * S),
	                 S / 2);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 6 * S), S);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 600 * S),
	                 S / 2);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 601 * S),
	                 S);
	restart_on_use(&restart);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 602 * S),
	                 S / 2);
}

/* Such deaths count neither against the model nor for it. */
static void test_innocent_ones_do_not_count(void **state)
{
	struct restart restart = { 0 };

	(void)state;
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, S), S / 2);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(restart_on_death(&restart, &policy, RESTART_INNOCENT,
		                                  2 * S),
		                 0);
	assert_false(restart.is_failed);
	assert_int_equal(restart_on_death(&restart, &policy, RESTART_USELESS, 3 * S), S);
}

static void test_limits(void **state)
{
	const struct restart_policy one = { .limit = 1, .window_ns = S };
	const struct restart_policy most = { .limit = RESTART_LIMIT_MAX,
		                             .window_ns = 3600 * S };
	struct restart restart = { 0 };

	(void)state;
	assert_int_equal(restart_on_death(&restart, &one, RESTART_USELESS, S), 60 * S);
	assert_true(restart.is_failed);
	restart = (struct restart){ 0 };
	for (uint64_t i = 1; i <= RESTART_LIMIT_MAX; i++) {
		assert_false(restart.is_failed);
		(void)restart_on_death(&restart, &most, RESTART_USELESS, i * S);
	}
	assert_true(restart.is_failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_useful_ones_are_replaced_at_once),
		cmocka_unit_test(test_useless_ones_back_off_and_fail),
		cmocka_unit_test(test_the_window_slides),
		cmocka_unit_test(test_refusals_fail_and_look_often),
		cmocka_unit_test(test_use_and_time_forgive),
		cmocka_unit_test(test_innocent_ones_do_not_count),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}
