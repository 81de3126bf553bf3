/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/loaders/generation.h"

/* The rules that the table must keep, checked in every cell. --dot prints the graph for the
 * documentation instead. */

static bool is_before_ready(enum generation_state state)
{
	return state >= GENERATION_SPAWNED && state <= GENERATION_WARMING;
}

static bool is_alive(enum generation_state state)
{
	return state != GENERATION_NONE && state != GENERATION_RECLAIMING &&
	       state != GENERATION_DEAD;
}

static void test_every_cell(void **state)
{
	(void)state;
	for (unsigned int s = 0; s < GENERATION_STATE_COUNT; s++) {
		for (unsigned int e = 0; e < GENERATION_EVENT_COUNT; e++) {
			enum generation_state from = (enum generation_state)s;
			enum generation_event event = (enum generation_event)e;
			enum generation_state to = generation_next(from, event);

			assert_true(to < GENERATION_STATE_COUNT);
			assert_non_null(generation_state_name(from));
			assert_non_null(generation_event_name(event));
			if (from == GENERATION_NONE || from == GENERATION_DEAD)
				assert_int_equal(to, GENERATION_NONE);
			/* Only a READY generation may serve, and only by promotion. */
			if (to == GENERATION_ACTIVE) {
				assert_int_equal(from, GENERATION_READY);
				assert_int_equal(event, GENERATION_EV_PROMOTE);
			}
			/* Memory can come back only once the process is reaped. */
			if (to == GENERATION_RECLAIMING && from != GENERATION_RECLAIMING)
				assert_int_equal(event, GENERATION_EV_EXITED);
			if (to == GENERATION_DEAD)
				assert_int_equal(from, GENERATION_RECLAIMING);
		}
	}
}

static void test_every_living_state_can_end(void **state)
{
	(void)state;
	for (unsigned int s = 0; s < GENERATION_STATE_COUNT; s++) {
		enum generation_state from = (enum generation_state)s;

		if (!is_alive(from))
			continue;
		assert_int_equal(generation_next(from, GENERATION_EV_EXITED),
		                 GENERATION_RECLAIMING);
		assert_int_not_equal(generation_next(from, GENERATION_EV_RETIRE),
		                     GENERATION_NONE);
		assert_int_not_equal(generation_next(from, GENERATION_EV_VIOLATION),
		                     GENERATION_NONE);
	}
}

static void test_candidates_fail_alone(void **state)
{
	static const enum generation_event failures[] = {
		GENERATION_EV_REFUSED,
		GENERATION_EV_VIOLATION,
		GENERATION_EV_DEADLINE,
	};

	(void)state;
	for (unsigned int s = 0; s < GENERATION_STATE_COUNT; s++)
		for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
			if (is_before_ready((enum generation_state)s))
				assert_int_equal(generation_next((enum generation_state)s,
				                                 failures[i]),
				                 GENERATION_FAILED);
}

/* The ladder: ask, TERM, KILL, and then a state for a process that cannot die. */
static void test_ladder(void **state)
{
	(void)state;
	assert_int_equal(generation_next(GENERATION_DRAINING, GENERATION_EV_DEADLINE),
	                 GENERATION_STOPPING);
	assert_int_equal(generation_next(GENERATION_STOPPING, GENERATION_EV_DEADLINE),
	                 GENERATION_TERMINATING);
	assert_int_equal(generation_next(GENERATION_TERMINATING, GENERATION_EV_DEADLINE),
	                 GENERATION_KILLING);
	assert_int_equal(generation_next(GENERATION_KILLING, GENERATION_EV_DEADLINE),
	                 GENERATION_UNKILLABLE);
}

static int print_graph(void)
{
	(void)printf("digraph generation {\n\trankdir=LR;\n\tnode [shape=box];\n");
	for (unsigned int s = 0; s < GENERATION_STATE_COUNT; s++) {
		for (unsigned int e = 0; e < GENERATION_EVENT_COUNT; e++) {
			enum generation_state to =
				generation_next((enum generation_state)s,
			                        (enum generation_event)e);

			if (to != GENERATION_NONE && (unsigned int)to != s)
				(void)printf(
					"\t%s -> %s [label=\"%s\"];\n",
					generation_state_name((enum generation_state)s),
					generation_state_name(to),
					generation_event_name((enum generation_event)e));
		}
	}
	(void)printf("}\n");
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_every_living_state_can_end),
		cmocka_unit_test(test_candidates_fail_alone),
		cmocka_unit_test(test_ladder),
	};

	if (argc > 1 && strcmp(argv[1], "--dot") == 0)
		return print_graph();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
