/* SPDX-License-Identifier: Apache-2.0 */

/* Memory of a computation: what counts, what is refused, and what is said of it. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loader/engines/torch_account.h"

#define N_THREADS 4
#define N_ADDS    20000

static void assert_says(uint64_t peak_bytes, uint64_t wanted_bytes)
{
	assert_int_equal(torch_account_peak_bytes(), peak_bytes);
	assert_int_equal(torch_account_wanted_bytes(), wanted_bytes);
}

static void test_peak(void **state)
{
	(void)state;
	assert_true(torch_account_add(1000));
	torch_account_begin(0);
	/* Memory that was held before does not count, and giving it back is no peak. */
	assert_says(0, 0);
	assert_true(torch_account_add(300));
	assert_true(torch_account_add(-200));
	assert_true(torch_account_add(150));
	assert_says(300, 0);
	torch_account_note(200);
	assert_says(450, 0);
	torch_account_end();
	torch_account_note(-450);
	torch_account_begin(0);
	assert_true(torch_account_add(-1000));
	assert_says(0, 0);
	torch_account_end();
}

static void test_limit(void **state)
{
	static const struct {
		uint64_t limit;
		int64_t first;
		int64_t second;
		bool fits;
		uint64_t wanted;
	} rows[] = {
		{ 100, 60, 40, true, 0 },
		{ 100, 60, 41, false, 101 },
		{ 100, 100, 1, false, 101 },
		{ 100, 60, -60, true, 0 },
		{ 0, 60, INT64_C(1) << 40, true, 0 },
		{ UINT64_MAX, 60, INT64_C(1) << 40, true, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		torch_account_begin(rows[i].limit);
		assert_true(torch_account_add(rows[i].first));
		assert_int_equal(torch_account_add(rows[i].second), rows[i].fits);
		assert_int_equal(torch_account_wanted_bytes(), rows[i].wanted);
		/* A refused allocation is not held, so that a smaller one fits. */
		if (!rows[i].fits)
			assert_int_equal(torch_account_peak_bytes(), rows[i].first);
		torch_account_end();
		torch_account_note(-rows[i].first - (rows[i].fits ? rows[i].second : 0));
		/* Without a computation there is no limit. */
		assert_true(torch_account_add(1 << 20));
		torch_account_note(-(1 << 20));
	}
	torch_account_begin(0);
	assert_says(0, 0);
}

/* What could not be refused may stand above the limit; giving back is never refused. */
static void test_above_the_limit(void **state)
{
	(void)state;
	torch_account_begin(100);
	torch_account_note(200);
	assert_true(torch_account_add(-50));
	assert_false(torch_account_add(1));
	assert_says(200, 151);
	torch_account_end();
	torch_account_note(-150);
}

/* The allocator itself had no memory. */
static void test_refuse(void **state)
{
	(void)state;
	torch_account_begin(0);
	assert_true(torch_account_add(10));
	torch_account_refuse(500);
	assert_says(10, 510);
	torch_account_note(-10);
	torch_account_end();
}

static void *add_often(void *unused)
{
	(void)unused;
	for (int i = 0; i < N_ADDS; i++) {
		(void)torch_account_add(3);
		torch_account_note(-2);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[N_THREADS];

	(void)state;
	torch_account_begin(0);
	for (size_t i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_often, NULL), 0);
	for (size_t i = 0; i < N_THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	assert_in_range(torch_account_peak_bytes(), N_THREADS * N_ADDS,
	                N_THREADS * (N_ADDS + 2));
	torch_account_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peak),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_above_the_limit),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
