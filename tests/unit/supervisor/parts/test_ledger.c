/* SPDX-License-Identifier: Apache-2.0 */

/* Which inputs are good, and what a rollback goes back to. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

#include "supervisor/config/config.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/parts/ledger.h"

enum { A, B, C, COUNT };

struct world {
	struct config *config;
	struct inputs *inputs[COUNT];
	struct ledger ledger;
};

static struct inputs *read_inputs(struct config *config, const char *model)
{
	struct inputs_found found;
	struct inputs *inputs = NULL;
	struct err err = ERR_NULL;

	if (inputs_new(&inputs, config, config_find(config, model),
	               &(struct inputs_choice){ 0 }, &found, &err) != 0)
		fail_msg("%s", err.text);
	return inputs;
}

static struct world begin(void)
{
	static const char *const names[] = { "a", "b", "c" };
	struct world world = { 0 };
	struct err err = ERR_NULL;
	char text[1024] = "";
	size_t used = 0;

	(void)scratch_enter();
	for (size_t i = 0; i < COUNT; i++) {
		scratch_write(names[i], "weights");
		used += (size_t)
			snprintf(text + used, sizeof(text) - used,
		                 "[model %s]\nengine = identity\npath = %s\n"
		                 "input = x FP32 [-1,4]\noutput = x FP32 [-1,4]\n",
		                 names[i], names[i]);
	}
	scratch_write("moult.conf", text);
	if (config_load(&world.config, scratch_path("moult.conf"), &err) != 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < COUNT; i++)
		world.inputs[i] = read_inputs(world.config, names[i]);
	return world;
}

/* Whatever happened, the ledger gives back as many references as it took. */
static void end(struct world *world)
{
	ledger_fini(&world->ledger);
	for (size_t i = 0; i < COUNT; i++) {
		assert_int_equal(world->inputs[i]->refs, 1);
		inputs_unref(world->inputs[i]);
	}
	config_unref(world->config);
	scratch_leave();
}

static struct inputs *way_back(const struct world *world, const struct inputs *bad)
{
	struct inputs *target = NULL;
	struct err err = ERR_NULL;
	int r = ledger_way_back(&world->ledger, "m", bad, &target, &err);

	assert_int_equal(r, target ? 0 : -ENOENT);
	return target;
}

static void check_no_way_back(const struct world *world, const struct inputs *bad,
                              const char *why)
{
	struct inputs *target = NULL;
	struct err err = ERR_NULL;

	assert_int_equal(ledger_way_back(&world->ledger, "m", bad, &target, &err),
	                 -ENOENT);
	if (!strstr(err.text, "'m'") || !strstr(err.text, why))
		fail_msg("'%s' does not say '%s'", err.text, why);
}

static void test_one_after_the_other(void **state)
{
	struct world world = begin();
	struct ledger *ledger = &world.ledger;
	struct inputs **in = world.inputs;
	struct err why;

	(void)state;
	check_no_way_back(&world, NULL, "no other inputs");
	assert_true(ledger_accept(ledger, in[A], false));
	check_no_way_back(&world, in[A], "no other inputs");
	assert_false(ledger_has_previous(ledger, &why));
	assert_string_equal(why.text, "");
	/* What is built anew from the same is no other. */
	assert_false(ledger_accept(ledger, in[A], false));
	assert_true(ledger_accept(ledger, in[B], false));
	assert_true(ledger_has_previous(ledger, &why));
	/* The inputs that serve are to go, or some that never served. */
	assert_ptr_equal(way_back(&world, in[B]), in[A]);
	assert_ptr_equal(way_back(&world, in[C]), in[B]);
	assert_ptr_equal(way_back(&world, NULL), in[B]);
	assert_true(ledger_accept(ledger, in[C], false));
	assert_ptr_equal(way_back(&world, in[C]), in[B]);
	end(&world);
}

/* There is no way back to what was rolled back from. */
static void test_after_a_rollback(void **state)
{
	struct world world = begin();

	(void)state;
	assert_true(ledger_accept(&world.ledger, world.inputs[A], false));
	assert_true(ledger_accept(&world.ledger, world.inputs[B], false));
	ledger_ask_back(&world.ledger, way_back(&world, world.inputs[B]));
	assert_ptr_equal(world.ledger.rollback_to, world.inputs[A]);
	ledger_ask_back(&world.ledger, NULL);
	assert_true(ledger_accept(&world.ledger, world.inputs[A], true));
	check_no_way_back(&world, world.inputs[A], "no other inputs");
	end(&world);
}

/* Newer inputs come in while a rollback is pending: the way back stays the same. */
static void test_newer_ones(void **state)
{
	struct world world = begin();

	(void)state;
	assert_true(ledger_accept(&world.ledger, world.inputs[A], false));
	assert_true(ledger_accept(&world.ledger, world.inputs[B], false));
	ledger_ask_back(&world.ledger, world.inputs[A]);
	assert_true(ledger_accept_newer(&world.ledger, world.inputs[C]));
	assert_null(world.ledger.rollback_to);
	assert_ptr_equal(way_back(&world, world.inputs[C]), world.inputs[A]);
	end(&world);
}

/* A file that is written over takes its way back with it, whenever that is. */
static void test_written_over(void **state)
{
	struct world world = begin();
	struct inputs *same;
	struct err why;

	(void)state;
	assert_true(ledger_accept(&world.ledger, world.inputs[A], false));
	assert_true(ledger_accept(&world.ledger, world.inputs[B], false));
	scratch_write("a", "other weights");
	check_no_way_back(&world, world.inputs[B], scratch_path("a"));
	assert_false(ledger_has_previous(&world.ledger, &why));
	assert_non_null(strstr(why.text, scratch_path("a")));

	/* Of the same file, and read when it was another. */
	same = read_inputs(world.config, "b");
	(void)snprintf(same->weights_sha256, sizeof(same->weights_sha256), "other");
	assert_true(ledger_accept(&world.ledger, same, false));
	check_no_way_back(&world, same, scratch_path("b"));
	/* The next one has a way back again. */
	assert_true(ledger_accept(&world.ledger, world.inputs[C], false));
	assert_ptr_equal(way_back(&world, world.inputs[C]), same);
	inputs_unref(same);
	end(&world);
}

static void test_refusals(void **state)
{
	struct world world = begin();

	(void)state;
	ledger_refuse(&world.ledger, world.inputs[A]);
	assert_true(inputs_equal(world.ledger.refused, world.inputs[A]));
	/* Nothing of it is kept that could be built from. */
	assert_int_equal(world.ledger.refused->weights_fd, -1);
	ledger_refuse(&world.ledger, world.inputs[B]);
	assert_true(inputs_equal(world.ledger.refused, world.inputs[B]));
	ledger_pardon(&world.ledger);
	assert_null(world.ledger.refused);
	ledger_note_writer(&world.ledger, world.inputs[C]);
	ledger_remember(&world.ledger, inputs_ref(world.inputs[C]));
	assert_ptr_equal(world.ledger.good, world.inputs[C]);
	ledger_remember(&world.ledger, NULL);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_after_the_other),
		cmocka_unit_test(test_after_a_rollback),
		cmocka_unit_test(test_newer_ones),
		cmocka_unit_test(test_written_over),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
