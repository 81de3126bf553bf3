/* SPDX-License-Identifier: Apache-2.0 */

/* The places of a model's loaders. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <ev.h>

#include "supervisor/loaders/generation.h"
#include "supervisor/parts/fleet.h"

static void on_buried(void *context)
{
	++*(unsigned int *)context;
}

struct world {
	struct ev_loop *loop;
	struct fleet fleet;
	unsigned int n_buried;
	struct generation loaders[24];
};

static void begin(struct world *world)
{
	memset(world, 0, sizeof(*world));
	world->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(world->loop);
	fleet_init(&world->fleet, world->loop, on_buried, &world->n_buried);
}

/* The loaders are the test's own. */
static void end(struct world *world)
{
	struct fleet *fleet = &world->fleet;

	fleet->active = fleet->candidate = fleet->retiring = NULL;
	memset(fleet->replicas, 0, sizeof(fleet->replicas));
	memset(fleet->stuck, 0, sizeof(fleet->stuck));
	fleet_fini(fleet);
	ev_loop_destroy(world->loop);
}

static struct generation *loader(struct world *world, size_t i, uint64_t number,
                                 enum generation_state state)
{
	world->loaders[i].number = number;
	world->loaders[i].state = state;
	return &world->loaders[i];
}

/* Generation 1 comes in, 2 takes its place, and 1 goes. */
static void test_succession(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;
	struct generation *list[FLEET_MAX];
	struct generation *first;
	struct generation *second;

	(void)state;
	begin(&world);
	assert_true(fleet_is_gone(fleet));
	first = loader(&world, 0, 1, GENERATION_READY);
	fleet_add_candidate(fleet, first);
	assert_null(fleet_old(fleet));
	assert_false(fleet_is_gone(fleet));
	first->state = GENERATION_ACTIVE;
	/* Nobody has served, so nobody has waited. */
	assert_true(fleet_promote(fleet) <= 0);
	assert_ptr_equal(fleet->active, first);
	assert_ptr_equal(fleet_old(fleet), first);

	second = loader(&world, 1, 2, GENERATION_READY);
	fleet_add_candidate(fleet, second);
	assert_int_equal(fleet_list(fleet, list), 2);
	assert_true(fleet_promote(fleet) <= 0);
	assert_ptr_equal(fleet->active, second);
	assert_ptr_equal(fleet->retiring, first);
	assert_null(fleet->candidate);
	assert_ptr_equal(fleet_old(fleet), second);
	fleet_drop_retiring(fleet);
	assert_int_equal(fleet_list(fleet, list), 1);
	end(&world);
}

/* The old one goes first: the pause is measured from then on. */
static void test_pause(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;

	(void)state;
	begin(&world);
	fleet_add_candidate(fleet, loader(&world, 0, 1, GENERATION_ACTIVE));
	(void)fleet_promote(fleet);
	fleet_retire(fleet);
	assert_null(fleet->active);
	assert_ptr_equal(fleet_old(fleet), fleet->retiring);
	fleet_drop_retiring(fleet);
	fleet->inactive_since_ns -= 5000000; /* 5 ms ago */
	fleet_add_candidate(fleet, loader(&world, 1, 2, GENERATION_ACTIVE));
	assert_true(fleet_promote(fleet) >= 5);
	end(&world);
}

static void test_was_killed(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;

	(void)state;
	begin(&world);
	fleet_add_candidate(fleet, loader(&world, 0, 1, GENERATION_ACTIVE));
	(void)fleet_promote(fleet);
	fleet_lose_active(fleet, true);
	assert_true(fleet->was_killed);
	assert_true(fleet_is_gone(fleet));
	/* The end of the next one will say more. */
	fleet_add_candidate(fleet, loader(&world, 1, 2, GENERATION_SPAWNED));
	assert_false(fleet->was_killed);
	end(&world);
}

static void test_replicas(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;
	struct generation *rising;
	struct generation *serving;
	struct generation *ending;
	struct generation *older;

	(void)state;
	begin(&world);
	fleet_add_candidate(fleet, loader(&world, 0, 2, GENERATION_ACTIVE));
	(void)fleet_promote(fleet);
	rising = loader(&world, 1, 2, GENERATION_STAGING);
	serving = loader(&world, 2, 2, GENERATION_ACTIVE);
	fleet_add_replica(fleet, rising);
	fleet_add_replica(fleet, serving);
	assert_int_equal(fleet_replicas(fleet, false), 2);
	assert_int_equal(fleet_replicas(fleet, true), 1);
	assert_null(fleet_old_replica(fleet));
	ending = loader(&world, 3, 2, GENERATION_DRAINING);
	older = loader(&world, 4, 1, GENERATION_ACTIVE);
	fleet_add_replica(fleet, ending);
	assert_ptr_equal(fleet_old_replica(fleet), ending);
	fleet_drop_replica(fleet, ending);
	fleet_add_replica(fleet, older);
	assert_ptr_equal(fleet_old_replica(fleet), older);
	assert_int_equal(fleet_replicas(fleet, false), 2);

	/* Neither one that is on its way, nor one of another generation, takes over. */
	assert_ptr_equal(fleet_take_over(fleet), serving);
	assert_ptr_equal(fleet->active, serving);
	assert_int_equal(fleet_replicas(fleet, true), 0);
	assert_null(fleet_take_over(fleet));
	assert_ptr_equal(fleet->active, serving);

	/* While nobody serves every replica is an old one. */
	fleet_lose_active(fleet, false);
	assert_int_equal(fleet_replicas(fleet, false), 0);
	assert_non_null(fleet_old(fleet));
	assert_false(fleet_is_gone(fleet));
	end(&world);
}

static void test_places(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;
	size_t n = 0;

	(void)state;
	begin(&world);
	while (fleet_has_place(fleet))
		fleet_add_replica(fleet, loader(&world, n++, 1, GENERATION_ACTIVE));
	assert_int_equal(n, FLEET_REPLICAS);
	fleet_drop_replica(fleet, &world.loaders[3]);
	assert_true(fleet_has_place(fleet));
	/* A drop of somebody who is not there drops nobody. */
	fleet_drop_replica(fleet, &world.loaders[3]);
	fleet_drop_replica(fleet, &world.loaders[23]);
	fleet_add_replica(fleet, &world.loaders[3]);
	assert_false(fleet_has_place(fleet));
	end(&world);
}

/* Whatever survives SIGKILL is out of the way, but for one too many. */
static void test_put_aside(void **state)
{
	struct world world;
	struct fleet *fleet = &world.fleet;
	struct generation *list[FLEET_MAX];

	(void)state;
	begin(&world);
	for (size_t i = 0; i < FLEET_STUCK; i++)
		assert_true(fleet_put_aside(fleet,
		                            loader(&world, i, i, GENERATION_UNKILLABLE)));
	assert_false(fleet_put_aside(fleet, loader(&world, 9, 9, GENERATION_UNKILLABLE)));
	assert_int_equal(fleet_list(fleet, list), 0);
	assert_true(fleet_is_gone(fleet));
	/* A model that is being stopped is told so in the next round. */
	(void)ev_run(world.loop, EVRUN_ONCE);
	assert_int_equal(world.n_buried, 1);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_succession), cmocka_unit_test(test_pause),
		cmocka_unit_test(test_was_killed), cmocka_unit_test(test_replicas),
		cmocka_unit_test(test_places),     cmocka_unit_test(test_put_aside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
