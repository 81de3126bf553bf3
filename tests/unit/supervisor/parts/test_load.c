/* SPDX-License-Identifier: Apache-2.0 */

/* The words for how far a load has come. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/parts/load.h"

static void test_phases(void **state)
{
	static const struct {
		enum generation_state state;
		uint64_t passed;
		uint64_t total;
		const char *want;
	} rows[] = {
		{ GENERATION_SPAWNED, 0, 9, "spawn" },
		{ GENERATION_STAGING, 0, 9, "stage" },
		{ GENERATION_STAGING, 1, 9, "read" },
		{ GENERATION_STAGING, 8, 9, "read" },
		{ GENERATION_STAGING, 9, 9, "stage" },
		{ GENERATION_STAGING, UINT64_MAX, 9, "stage" },
		/* No file. */
		{ GENERATION_STAGING, 0, 0, "stage" },
		{ GENERATION_STAGING, 5, 0, "stage" },
		{ GENERATION_STAGED, 9, 9, "wait" },
		{ GENERATION_COMMITTING, 9, 9, "commit" },
		{ GENERATION_COMMITTING, 4, 9, "place" },
		{ GENERATION_WARMING, 9, 9, "warm-up" },
		{ GENERATION_READY, 9, 9, "swap" },
		{ GENERATION_ACTIVE, 9, 9, "swap" },
		{ GENERATION_FAILED, 4, 9, "ending" },
		{ GENERATION_DEAD, 4, 9, "ending" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(load_phase(rows[i].state, rows[i].passed,
		                               rows[i].total),
		                    rows[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_phases) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
