/* SPDX-License-Identifier: Apache-2.0 */

/* A generation whose process is a spare, and what replaces a spare that fails. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/spares/spares.h"
#include "supervisor/memory/engine_base.h"
#include "tests/unit/supervisor/loaders/generation_bench.h"

/* The time that a spare has until HELLO: see patience.c. */
#define SPARE_S 0.5

static void be_silent(struct generation_bench *bench)
{
	ev_timer *deadline = &bench->generation->patience.deadline;

	assert_true(ev_timer_remaining(bench->loop, deadline) <= SPARE_S);
	ev_invoke(bench->loop, deadline, EV_TIMER);
}

static void be_odd(struct generation_bench *bench)
{
	generation_bench_say(bench, PROTO_STAGED, GENERATION_BENCH_NUMBER, "{}");
}

static void die(struct generation_bench *bench)
{
	pid_t pid = bench->generation->pid;

	(void)kill(pid, SIGKILL);
	generation_bench_begin_waiting(bench);
	while (bench->generation->pid == pid)
		generation_bench_go_round(bench, "the end of a spare");
	generation_bench_end_waiting(bench);
}

static bool has_ready(const struct spares *spares)
{
	struct spare_counts counts;
	size_t at = 0;

	return spares_sum(spares, &at, &counts) && counts.ready > 0;
}

/* Another loader replaces a spare that fails before HELLO, and the listener does not
 * hear of it. */
static void test_spares(void **state)
{
	static void (*const faults[])(struct generation_bench *) = { be_silent, be_odd,
		                                                     die };
	const struct engine_bases bases = { 0 };

	(void)state;
	for (size_t i = 0; i <= COUNT_OF(faults); i++) {
		struct generation_bench bench;
		struct generation *generation;
		struct spares *spares;
		pid_t pid;

		generation_bench_prepare(&bench);
		assert_int_equal(spares_new(&spares, bench.loop, &bench.device, &bases),
		                 0);
		spares_set_config(spares, bench.config);
		generation_bench_begin_waiting(&bench);
		while (!has_ready(spares))
			generation_bench_go_round(&bench, "a spare");
		generation_bench_end_waiting(&bench);
		generation_bench_begin_with(&bench, spares);
		generation = bench.generation;
		pid = generation->pid;
		assert_ptr_equal(generation->spares, spares);
		/* A busy machine must not make a fault a silence. */
		if (i < COUNT_OF(faults) && faults[i] != be_silent)
			ev_timer_stop(bench.loop, &generation->patience.deadline);
		if (i < COUNT_OF(faults)) {
			faults[i](&bench);
			assert_true(generation->pid != pid);
			assert_null(generation->spares);
			assert_int_equal(generation->state, GENERATION_SPAWNED);
			assert_int_equal(generation->use.pid, generation->pid);
			assert_int_equal(generation->use.claim_bytes,
			                 GENERATION_BENCH_CLAIM);
			assert_string_equal(generation->failure.text, "");
			assert_int_equal(bench.n_news, 0);
			generation_bench_take_channel(&bench);
			generation_bench_rise(&bench, GENERATION_STAGING);
		} else {
			generation_bench_rise(&bench, GENERATION_STAGING);
			generation_bench_say(&bench, PROTO_READY, GENERATION_BENCH_NUMBER,
			                     "{}");
			assert_int_equal(generation->pid, pid);
			assert_int_equal(generation->state, GENERATION_FAILED);
		}
		generation_free(generation);
		bench.generation = NULL;
		spares_free(spares);
		generation_bench_end(&bench);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spares),
	};

	generation_bench_be_loader(argc, argv);
	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
