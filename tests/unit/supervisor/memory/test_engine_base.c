/* SPDX-License-Identifier: Apache-2.0 */

/* The memory that engines take by themselves: a default, until a loader has measured it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "supervisor/memory/engine_base.h"

static struct engine_bases bases;

static void test_figures(void **state)
{
	(void)state;
	bases = (struct engine_bases){ 0 };
	assert_int_equal(engine_base_bytes(&bases, "torch"), ENGINE_BASE_TORCH_BYTES);
	assert_int_equal(engine_base_bytes(&bases, "identity"), ENGINE_BASE_BYTES);
	assert_int_equal(engine_base_bytes(&bases, ""), ENGINE_BASE_BYTES);
}

static void test_the_last_word_counts(void **state)
{
	(void)state;
	bases = (struct engine_bases){ 0 };
	engine_base_learn(&bases, "torch", 59);
	assert_int_equal(engine_base_bytes(&bases, "torch"), 59);
	assert_int_equal(engine_base_bytes(&bases, "torch2"), ENGINE_BASE_BYTES);
	engine_base_learn(&bases, "torch", 300);
	engine_base_learn(&bases, "identity", 7);
	engine_base_learn(&bases, "torch", 0); /* the loader could not measure */
	assert_int_equal(engine_base_bytes(&bases, "torch"), 300);
	assert_int_equal(engine_base_bytes(&bases, "identity"), 7);
	assert_int_equal(bases.n_learnt, 2);
}

/* More engines than there are places: the oldest is forgotten, no other. */
static void test_full(void **state)
{
	char name[32];

	(void)state;
	bases = (struct engine_bases){ 0 };
	for (unsigned int i = 0; i <= ENGINE_BASES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "e%u", i);
		engine_base_learn(&bases, name, 100 + i);
	}
	assert_int_equal(engine_base_bytes(&bases, "e0"), ENGINE_BASE_BYTES);
	for (unsigned int i = 1; i <= ENGINE_BASES_MAX; i++) {
		(void)snprintf(name, sizeof(name), "e%u", i);
		assert_int_equal(engine_base_bytes(&bases, name), 100 + i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_the_last_word_counts),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
