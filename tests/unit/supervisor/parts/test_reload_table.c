/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "supervisor/parts/reload_table.h"

/* The rules that the table of a reload must keep, checked in every cell. */

static bool is_of_candidate(enum reload_event event)
{
	return event == RELOAD_EV_STAGED || event == RELOAD_EV_READY ||
	       event == RELOAD_EV_ACTIVE || event == RELOAD_EV_CANDIDATE_DEAD;
}

static bool needs_candidate(enum reload_action action)
{
	return action == RELOAD_DO_WEIGH || action == RELOAD_DO_PROVE ||
	       action == RELOAD_DO_SWAP || action == RELOAD_DO_JUDGE ||
	       action == RELOAD_DO_COMMIT || action == RELOAD_DO_GIVE_UP ||
	       action == RELOAD_DO_OVERTAKE || action == RELOAD_DO_GIVE_UP_LEAN ||
	       action == RELOAD_DO_HURRY;
}

/* The step that an action leads to, if it leads anywhere; else the same step. */
static enum reload_step step_after(enum reload_step step, enum reload_action action)
{
	switch (action) {
	case RELOAD_DO_REFUSE:
	case RELOAD_DO_NOTHING:
	case RELOAD_DO_HURRY:
	case RELOAD_ACTION_COUNT:
		return step;
	case RELOAD_DO_WEIGH:
	case RELOAD_DO_COMMIT:
		return RELOAD_COMMITTING;
	case RELOAD_DO_PROVE:
		return RELOAD_PROVING;
	case RELOAD_DO_SWAP:
		return RELOAD_RETIRING;
	case RELOAD_DO_SPAWN:
		return RELOAD_STAGING;
	case RELOAD_DO_GIVE_UP:
	case RELOAD_DO_OVERTAKE:
	case RELOAD_DO_GIVE_UP_LEAN:
		return RELOAD_GIVING_UP;
	case RELOAD_DO_JUDGE:
	case RELOAD_DO_FINISH:
	case RELOAD_DO_LOSE:
	case RELOAD_DO_FAIL:
		return RELOAD_IDLE;
	}
	return step;
}

static void check_cell(enum reload_step step, enum reload_event event)
{
	enum reload_action action = reload_action(step, event);
	enum reload_step after = step_after(step, action);
	bool has_candidate = reload_has_candidate(step);

	assert_true(action < RELOAD_ACTION_COUNT);
	if (after != step)
		assert_true(reload_may_follow(step, after));
	if (!has_candidate) {
		assert_false(needs_candidate(action));
		if (is_of_candidate(event))
			assert_int_equal(action, RELOAD_DO_REFUSE);
	}
	/* A candidate's end is never passed over. */
	if (has_candidate && event == RELOAD_EV_CANDIDATE_DEAD)
		assert_int_equal(action, RELOAD_DO_JUDGE);
	/* A decision is made within one handler: nothing happens meanwhile. */
	if (step == RELOAD_DECIDING)
		assert_int_equal(action, RELOAD_DO_REFUSE);
	/* A person may ask for anything at any time. */
	else if (event == RELOAD_EV_STOP || event == RELOAD_EV_OVERTAKEN)
		assert_int_not_equal(action, RELOAD_DO_REFUSE);
	/* Whatever waits for the old one's memory goes on when that is gone, and never
	 * before. */
	if (action == RELOAD_DO_COMMIT || action == RELOAD_DO_SPAWN)
		assert_int_equal(event, RELOAD_EV_OLD_GONE);
	if (step == RELOAD_WAITING_OLD || step == RELOAD_STOPPING_OLD) {
		assert_int_equal(reload_action(step, RELOAD_EV_SERVING_DEAD),
		                 RELOAD_DO_REFUSE); /* nobody serves */
		assert_int_not_equal(reload_action(step, RELOAD_EV_OLD_GONE),
		                     RELOAD_DO_NOTHING);
	}
	/* Once the new generation serves, nothing but its death fails the reload. */
	if (step == RELOAD_RETIRING && event != RELOAD_EV_SERVING_DEAD) {
		assert_int_not_equal(action, RELOAD_DO_LOSE);
		assert_int_not_equal(action, RELOAD_DO_FAIL);
	}
}

static void test_every_cell(void **state)
{
	(void)state;
	for (unsigned int step = 0; step < RELOAD_STEP_COUNT; step++)
		for (unsigned int event = 0; event < RELOAD_EVENT_COUNT; event++)
			check_cell((enum reload_step)step, (enum reload_event)event);
}

static void test_every_step_ends(void **state)
{
	(void)state;
	for (unsigned int step = 0; step < RELOAD_STEP_COUNT; step++) {
		bool has_end = false;

		for (unsigned int next = 0; next < RELOAD_STEP_COUNT; next++) {
			bool may = reload_may_follow((enum reload_step)step,
			                             (enum reload_step)next);

			has_end = has_end || (may && next == RELOAD_IDLE);
			/* No step but the first is come to twice in one reload. */
			if (may && step != RELOAD_IDLE && next != RELOAD_IDLE)
				assert_true(next > step);
			assert_false(may && next == step);
		}
		assert_true(has_end || step == RELOAD_IDLE);
	}
}

/* A candidate serves only after it has claimed its memory, and beside the old generation
 * only where the decision said so. */
static void test_the_only_way_to_serve(void **state)
{
	(void)state;
	for (unsigned int step = 0; step < RELOAD_STEP_COUNT; step++) {
		bool is_ready = step == RELOAD_COMMITTING || step == RELOAD_PROVING;
		bool may_commit = step == RELOAD_STAGING || step == RELOAD_WAITING_OLD;

		assert_int_equal(reload_may_follow((enum reload_step)step,
		                                   RELOAD_RETIRING),
		                 is_ready);
		assert_int_equal(reload_may_follow((enum reload_step)step,
		                                   RELOAD_COMMITTING),
		                 may_commit);
		assert_int_equal(reload_may_follow((enum reload_step)step,
		                                   RELOAD_STAGING),
		                 step == RELOAD_DECIDING || step == RELOAD_STOPPING_OLD);
		assert_int_equal(reload_may_follow((enum reload_step)step,
		                                   RELOAD_DECIDING),
		                 step == RELOAD_IDLE);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(reload_step_name(RELOAD_WAITING_OLD), "waiting_old");
	assert_string_equal(reload_event_name(RELOAD_EV_OLD_GONE), "old_gone");
	assert_string_equal(reload_action_name(RELOAD_DO_GIVE_UP_LEAN), "give_up_lean");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_every_step_ends),
		cmocka_unit_test(test_the_only_way_to_serve),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
