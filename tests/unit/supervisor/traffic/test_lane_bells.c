/* SPDX-License-Identifier: Apache-2.0 */

/* When a lane is looked at, and when it rings for the loader: an idle one costs nothing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/supervisor/traffic/lane_bench.h"

/* True: the eventfd was rung; silences it. */
static bool has_rung(int bell)
{
	uint64_t count;

	return read(bell, &count, sizeof(count)) == sizeof(count);
}

/* True: the lane is called in this round. */
static bool is_looked_at(struct lane_bench *bench)
{
	unsigned int n_looks = bench->n_looks;

	pump_wake(&bench->pump);
	return bench->n_looks > n_looks;
}

static void test_idle_lane_costs_nothing(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request;

	assert_true(pump_block(&bench->pump));
	assert_false(is_looked_at(bench));
	request = lane_bench_lease(bench);
	for (int i = 0; i < 3; i++) {
		assert_true(pump_block(&bench->pump));
		assert_true(is_looked_at(bench));
	}
	lane_bench_answer(bench, request);
	assert_true(pump_block(&bench->pump));
	assert_false(is_looked_at(bench));
	/* The part's place is news for the loader, once. */
	lane_bench_let_go(request);
	assert_false(TAILQ_EMPTY(&bench->pump.clients));
	assert_true(pump_block(&bench->pump));
	assert_true(TAILQ_EMPTY(&bench->pump.clients));
}

/* The loader's bell rings when the loader sleeps, and once for all that is new. */
static void test_loader_bell(void **state)
{
	struct lane_bench *bench = *state;
	struct request *requests[2];

	requests[0] = lane_bench_lease(bench);
	(void)pump_block(&bench->pump);
	assert_false(has_rung(bench->loader_bell));
	assert_false(ring_sleep(&bench->submit));
	(void)ring_pop(&bench->submit, &(struct proto_submit){ .lease = 0 });
	assert_true(ring_sleep(&bench->submit));
	(void)pump_block(&bench->pump);
	assert_false(has_rung(bench->loader_bell));
	requests[1] = lane_bench_lease(bench);
	lane_cancel(bench->lane, requests[0]);
	(void)pump_block(&bench->pump);
	assert_true(has_rung(bench->loader_bell));
	(void)pump_block(&bench->pump);
	assert_false(has_rung(bench->loader_bell));
	lane_bench_let_go(requests[0]);
	lane_bench_let_go(requests[1]);
}

/* Before the loop blocks the loader is told to ring; an answer that came before that keeps the
 * loop from blocking. */
static void test_supervisor_bell(void **state)
{
	struct lane_bench *bench = *state;
	const uint64_t one = 1;
	struct request *request = lane_bench_lease(bench);
	struct proto_answer answer = lane_bench_answer_of(request);

	assert_true(pump_block(&bench->pump));
	lane_bench_publish(bench, &answer);
	assert_true(ring_wants_bell(&bench->answer));
	assert_false(pump_block(&bench->pump));
	assert_true(is_looked_at(bench));
	assert_int_equal(request_collect(bench->lane, NULL), 0);
	lane_bench_let_go(request);
	assert_true(pump_block(&bench->pump));
	assert_true(TAILQ_EMPTY(&bench->pump.clients));
	/* A bell has even an idle lane looked at. */
	assert_int_equal(write(bench->supervisor_bell, &one, sizeof(one)), sizeof(one));
	(void)ev_run(bench->pump.loop, EVRUN_NOWAIT);
	assert_true(is_looked_at(bench));
	assert_false(has_rung(bench->supervisor_bell));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LANE_BENCH_TEST(test_idle_lane_costs_nothing),
		LANE_BENCH_TEST(test_loader_bell),
		LANE_BENCH_TEST(test_supervisor_bell),
	};

	return cmocka_run_group_tests_name("lane bells", tests, NULL, NULL);
}
