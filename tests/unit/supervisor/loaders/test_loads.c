/* SPDX-License-Identifier: Apache-2.0 */

/* Turns of models that are to be built: in which order, how many at once. */

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/loaders/loads.h"

#define ASKERS_MAX 5

struct asker {
	struct loads_turn turn;
	unsigned int n_turns; /* given by the loop */
};

static struct ev_loop *loop;
static struct loads loads;
static struct asker askers[ASKERS_MAX];
static unsigned int order[ASKERS_MAX];
static unsigned int n_order;

static void on_turn(void *context)
{
	struct asker *asker = context;

	assert_true(n_order < ASKERS_MAX);
	asker->n_turns++;
	order[n_order++] = (unsigned int)(asker - askers);
}

static bool ask(unsigned int i, enum loads_class class, uint64_t bytes)
{
	askers[i].turn.class = class;
	askers[i].turn.bytes = bytes;
	askers[i].turn.on_turn = on_turn;
	askers[i].turn.context = &askers[i];
	return loads_ask(&loads, &askers[i].turn);
}

static int setup(void **state)
{
	(void)state;
	loop = ev_loop_new(EVFLAG_NOENV);
	loads_init(&loads, loop);
	loads_set_max(&loads, 1);
	for (unsigned int i = 0; i < ASKERS_MAX; i++)
		askers[i] = (struct asker){ 0 };
	n_order = 0;
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	loads_fini(&loads);
	ev_loop_destroy(loop);
	return 0;
}

/* Runs the loop until nothing is started any more; with nothing to wait for it returns at
 * once. */
static void run(void)
{
	(void)ev_run(loop, 0);
}

struct order_case {
	struct {
		enum loads_class class;
		uint64_t bytes;
	} asked[ASKERS_MAX];
	unsigned int want[ASKERS_MAX];
};

static const struct order_case orders[] = {
	/* the first to ask goes first */
	{ { { LOADS_FIRST, 1 },
	    { LOADS_FIRST, 1 },
	    { LOADS_FIRST, 1 },
	    { LOADS_FIRST, 1 },
	    { LOADS_FIRST, 1 } },
	  { 0, 1, 2, 3, 4 } },
	/* the smallest */
	{ { { LOADS_FIRST, 5 },
	    { LOADS_FIRST, 3 },
	    { LOADS_FIRST, 0 },
	    { LOADS_FIRST, UINT64_MAX },
	    { LOADS_FIRST, 3 } },
	  { 2, 1, 4, 0, 3 } },
	/* the class counts before the size */
	{ { { LOADS_FIRST, 0 },
	    { LOADS_RELOAD, 9 },
	    { LOADS_FIRST, 1 },
	    { LOADS_RELOAD, 8 },
	    { LOADS_RELOAD, 9 } },
	  { 3, 1, 4, 0, 2 } },
};

static void test_order(void **state)
{
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (i > 0)
			assert_int_equal(teardown(state) + setup(state), 0);
		/* No turn is given before all of a round have asked. */
		for (unsigned int j = 0; j < ASKERS_MAX; j++)
			assert_false(ask(j, orders[i].asked[j].class,
			                 orders[i].asked[j].bytes));
		for (unsigned int j = 0; j < ASKERS_MAX; j++) {
			run();
			assert_int_equal(n_order, j + 1);
			assert_int_equal(order[j], orders[i].want[j]);
			assert_false(loads_is_waiting(&askers[order[j]].turn));
			loads_end(&askers[order[j]].turn);
		}
		assert_int_equal(loads.n, 0);
	}
}

static void test_number(void **state)
{
	(void)state;
	loads_set_max(&loads, 2);
	for (unsigned int i = 0; i < ASKERS_MAX; i++)
		(void)ask(i, LOADS_FIRST, i);
	run();
	assert_int_equal(n_order, 2);
	/* Asking again does no harm, with a turn or waiting. */
	assert_true(ask(0, LOADS_FIRST, 0));
	assert_false(ask(2, LOADS_FIRST, 2));
	run();
	assert_int_equal(n_order, 2);
	assert_true(loads_is_waiting(&askers[4].turn));
	loads_set_max(&loads, 4);
	run();
	assert_int_equal(n_order, 4);
	/* With a smaller number no turn is taken away, and none is given. */
	loads_set_max(&loads, 1);
	loads_end(&askers[0].turn);
	run();
	assert_int_equal(n_order, 4);
	for (unsigned int i = 1; i < 4; i++)
		loads_end(&askers[i].turn);
	run();
	assert_int_equal(n_order, 5);
	for (unsigned int i = 0; i < ASKERS_MAX; i++)
		assert_int_equal(askers[i].n_turns, 1);
}

static void test_as_many_as_processors(void **state)
{
	cpu_set_t set;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
	loads_set_max(&loads, 0);
	assert_int_equal(loads.max, CPU_COUNT(&set));
}

static void test_urgent(void **state)
{
	(void)state;
	(void)ask(0, LOADS_FIRST, 0);
	(void)ask(1, LOADS_RELOAD, 0);
	(void)ask(2, LOADS_RELOAD, 1);
	run();
	assert_int_equal(order[0], 1);
	/* An urgent one gets its turn at once, beyond the number, and without a call. */
	assert_true(ask(3, LOADS_URGENT, 9));
	/* A waiting one becomes urgent. */
	assert_true(ask(2, LOADS_URGENT, 1));
	assert_int_equal(loads.n, 3);
	run();
	assert_int_equal(n_order, 1);
	/* The others wait until fewer than the number have a turn. */
	loads_end(&askers[1].turn);
	loads_end(&askers[3].turn);
	run();
	assert_int_equal(n_order, 1);
	loads_end(&askers[2].turn);
	run();
	assert_int_equal(n_order, 2);
	assert_int_equal(order[1], 0);
}

static void test_end(void **state)
{
	(void)state;
	loads_end(&askers[0].turn);
	assert_false(loads_is_waiting(&askers[0].turn));
	(void)ask(0, LOADS_FIRST, 0);
	(void)ask(1, LOADS_FIRST, 1);
	/* The turn is given back, twice. */
	loads_end(&askers[0].turn);
	loads_end(&askers[0].turn);
	run();
	assert_int_equal(n_order, 1);
	assert_int_equal(order[0], 1);
	loads_end(&askers[1].turn);
	loads_end(&askers[1].turn);
	assert_int_equal(loads.n, 0);
	(void)ask(0, LOADS_FIRST, 0);
	run();
	assert_int_equal(askers[0].n_turns, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_many_as_processors, setup,
		                                teardown),
		cmocka_unit_test_setup_teardown(test_urgent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
