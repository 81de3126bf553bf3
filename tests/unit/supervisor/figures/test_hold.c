/* SPDX-License-Identifier: Apache-2.0 */

/* The expected time of a pause, from the times of the last ones. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/figures/hold.h"

#define S CLOCK_NS_PER_SEC

/* Makes a pause of @took_ns from @at_ns on. */
static void pause_for(struct hold *hold, enum hold_cause cause, uint64_t at_ns,
                      uint64_t took_ns)
{
	hold_begin(hold, cause, at_ns);
	hold_end(hold, at_ns + took_ns);
}

static void test_no_pause_no_wait(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	hold_end(&hold, S);
	hold_attempt(&hold, 5 * S);
	assert_int_equal(hold_left_ns(&hold, S), 0);
	pause_for(&hold, HOLD_CAUSE_CRASH, 10 * S, 2 * S);
	assert_int_equal(hold_left_ns(&hold, 20 * S), 0);
	assert_int_equal(hold.n_pauses, 1);
	assert_int_equal(hold.last_ns, 2 * S);
}

/* Without history the rest is half of the time that the pause has taken already. */
static void test_without_history(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	hold_begin(&hold, HOLD_CAUSE_START, S);
	assert_int_equal(hold_left_ns(&hold, S), 0);
	assert_int_equal(hold_left_ns(&hold, 5 * S), 2 * S);
	assert_int_equal(hold_percent(&hold, 5 * S), -1);
}

static void test_left_shrinks_and_then_grows(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	pause_for(&hold, HOLD_CAUSE_CRASH, S, 4 * S);
	hold_begin(&hold, HOLD_CAUSE_CRASH, 100 * S);
	assert_int_equal(hold_left_ns(&hold, 100 * S), 4 * S);
	assert_int_equal(hold_left_ns(&hold, 103 * S), S);
	assert_int_equal(hold_left_ns(&hold, 104 * S), 2 * S);
	assert_int_equal(hold_left_ns(&hold, 110 * S), 5 * S);
}

static void test_percent(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	pause_for(&hold, HOLD_CAUSE_CRASH, S, 4 * S);
	assert_int_equal(hold_percent(&hold, 90 * S), -1);
	hold_begin(&hold, HOLD_CAUSE_CRASH, 100 * S);
	assert_int_equal(hold_percent(&hold, 100 * S), 0);
	assert_int_equal(hold_percent(&hold, 101 * S), 25);
	assert_int_equal(hold_percent(&hold, 1000 * S), 99);
	hold_attempt(&hold, 103 * S);
	assert_int_equal(hold_percent(&hold, 102 * S), 0);
	assert_int_equal(hold_percent(&hold, 105 * S), 50);
}

/* A longer pause counts at once, a shorter one by a quarter. */
static void test_near_the_worst_of_late(void **state)
{
	static const struct {
		uint64_t took_s;
		uint64_t expected_ns;
	} rows[] = {
		{ 4, 4 * S }, { 12, 12 * S }, { 4, 10 * S }, { 2, 8 * S }, { 9, 9 * S },
	};
	struct hold hold = { 0 };
	uint64_t now_ns = S;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		pause_for(&hold, HOLD_CAUSE_RELOAD, now_ns, rows[i].took_s * S);
		now_ns += 100 * S;
		assert_int_equal(hold.usual_ns[HOLD_CAUSE_RELOAD], rows[i].expected_ns);
	}
}

static void test_causes_are_apart(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	pause_for(&hold, HOLD_CAUSE_START, S, 9 * S);
	pause_for(&hold, HOLD_CAUSE_RELOAD, 100 * S, 3 * S);
	hold_begin(&hold, HOLD_CAUSE_RELOAD, 200 * S);
	/* the first cause of a pause stays */
	hold_begin(&hold, HOLD_CAUSE_CRASH, 201 * S);
	assert_int_equal(hold_left_ns(&hold, 201 * S), 2 * S);
	hold_end(&hold, 203 * S);
	/* a cause without history takes the worst of the others */
	hold_begin(&hold, HOLD_CAUSE_CRASH, 300 * S);
	assert_int_equal(hold_left_ns(&hold, 300 * S), 9 * S);
	hold_end(&hold, 301 * S);
	hold_begin(&hold, HOLD_CAUSE_CRASH, 400 * S);
	assert_int_equal(hold_left_ns(&hold, 400 * S), S);
}

/* A back-off is known: it is added to the rest, and not learnt. */
static void test_attempts(void **state)
{
	struct hold hold = { 0 };

	(void)state;
	pause_for(&hold, HOLD_CAUSE_CRASH, S, 2 * S);
	hold_begin(&hold, HOLD_CAUSE_CRASH, 100 * S);
	hold_attempt(&hold, 130 * S);
	assert_int_equal(hold_left_ns(&hold, 110 * S), 22 * S);
	assert_int_equal(hold_left_ns(&hold, 131 * S), S);
	/* the attempt began before the pause */
	hold_attempt(&hold, 50 * S);
	assert_int_equal(hold_left_ns(&hold, 100 * S), 2 * S);
	hold_attempt(&hold, 130 * S);
	hold_end(&hold, 132 * S);
	assert_int_equal(hold.usual_ns[HOLD_CAUSE_CRASH], 2 * S);
	assert_int_equal(hold.last_ns, 32 * S);
}

static void test_json(void **state)
{
	struct hold hold = { 0 };
	json_t *json;

	(void)state;
	pause_for(&hold, HOLD_CAUSE_RELOAD, S, 2 * S);
	hold_begin(&hold, HOLD_CAUSE_RELOAD, 10 * S);
	json = hold_to_json(&hold, 11 * S);
	assert_non_null(json);
	assert_true(json_is_true(json_object_get(json, "is_paused")));
	assert_string_equal(json_string_value(json_object_get(json, "cause")), "reload");
	assert_float_equal(json_real_value(json_object_get(json, "expected_ms")), 1000.,
	                   0.1);
	assert_int_equal(json_object_size(json_object_get(json, "usual_ms")), 1);
	json_decref(json);
	hold_end(&hold, 12 * S);
	json = hold_to_json(&hold, 13 * S);
	assert_true(json_is_null(json_object_get(json, "cause")));
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_pause_no_wait),
		cmocka_unit_test(test_without_history),
		cmocka_unit_test(test_left_shrinks_and_then_grows),
		cmocka_unit_test(test_percent),
		cmocka_unit_test(test_near_the_worst_of_late),
		cmocka_unit_test(test_causes_are_apart),
		cmocka_unit_test(test_attempts),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests_name("hold", tests, NULL, NULL);
}
