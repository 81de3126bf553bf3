/* SPDX-License-Identifier: Apache-2.0 */

/* How long a generation may be in a state: asked of its timer, and what follows when the timer is
 * rung. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/supervisor/loaders/generation_bench.h"

/* Between the beginning of a state and that of its timer. */
#define SLACK_S 0.9
/* Beside the times that the bench configures: see patience.c. */
#define SPAWN_S 60
#define TERM_S  2
#define KILL_S  10

/* Time that each state has, and what follows then. */
static void test_deadlines(void **state)
{
	static const struct {
		enum generation_state state;
		unsigned int s; /* 0: as long as it likes */
		enum generation_state then;
	} rows[] = {
		{ GENERATION_SPAWNED, SPAWN_S, GENERATION_FAILED },
		{ GENERATION_STAGING, 11, GENERATION_FAILED },
		{ GENERATION_STAGED, 11 + 14 + 15 + TERM_S + KILL_S + 16 + 5,
		  GENERATION_FAILED },
		{ GENERATION_COMMITTING, 12, GENERATION_FAILED },
		{ GENERATION_WARMING, 13, GENERATION_FAILED },
		{ GENERATION_READY, 0, GENERATION_NONE },
		{ GENERATION_ACTIVE, 0, GENERATION_NONE },
		{ GENERATION_DRAINING, 14, GENERATION_STOPPING },
		{ GENERATION_STOPPING, 15, GENERATION_TERMINATING },
		{ GENERATION_TERMINATING, TERM_S, GENERATION_KILLING },
		{ GENERATION_KILLING, KILL_S, GENERATION_UNKILLABLE },
		{ GENERATION_FAILED, TERM_S, GENERATION_KILLING },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct generation_bench bench;
		struct generation *generation;
		ev_timer *deadline;
		char text[64];

		generation_bench_begin(&bench);
		generation = bench.generation;
		deadline = &generation->patience.deadline;
		generation_bench_rise(&bench, rows[i].state);
		assert_int_equal(ev_is_active(deadline) != 0, rows[i].s > 0);
		if (rows[i].s > 0) {
			double left_s = ev_timer_remaining(bench.loop, deadline);

			/* The first state began before the process came up. */
			if (left_s > rows[i].s || (i > 0 && left_s < rows[i].s - SLACK_S))
				fail_msg("%s has %.3f s",
				         generation_state_name(rows[i].state), left_s);
			(void)snprintf(text, sizeof(text), "still %s after %u.0 s",
			               generation_state_name(rows[i].state), rows[i].s);
			ev_invoke(bench.loop, deadline, EV_TIMER);
			assert_int_equal(generation->state, rows[i].then);
			/* What comes first is the reason. */
			if (rows[i].state <= GENERATION_STOPPING)
				assert_memory_equal(generation->failure.text, text,
				                    strlen(text));
			if (rows[i].state == GENERATION_STAGING)
				assert_non_null(strstr(generation->failure.text,
				                       ": raise stage_timeout"));
		}
		generation_bench_end(&bench);
	}
}

/* A new configuration counts at once, and one that changes nothing puts nothing off. */
static void test_patience(void **state)
{
	struct config *same = generation_bench_load("");
	struct config *other = generation_bench_load("version = 2\nstall_timeout = 3s\n");
	struct generation_bench bench;
	struct generation *generation;
	ev_timer *deadline;
	double left_s;

	(void)state;
	generation_bench_begin(&bench);
	generation = bench.generation;
	deadline = &generation->patience.deadline;
	generation_bench_rise(&bench, GENERATION_STAGING);
	left_s = deadline->at;
	generation_set_config(generation, config_find(same, "m"));
	assert_true(deadline->at == left_s);
	generation_hurry(generation, 60 * UINT64_C(1000000000));
	assert_true(deadline->at == left_s);
	generation_hurry(generation, 2 * UINT64_C(1000000000));
	assert_true(deadline->at < left_s - 8);
	/* A configuration does not take the hurry back. */
	generation_set_config(generation, config_find(other, "m"));
	assert_true(deadline->at < left_s - 8);
	assert_int_equal(generation->patience.stall_timeout_ns, 3 * UINT64_C(1000000000));
	generation_bench_end(&bench);
	config_unref(same);
	config_unref(other);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deadlines),
		cmocka_unit_test(test_patience),
	};

	generation_bench_be_loader(argc, argv);
	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
