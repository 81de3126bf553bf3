/* SPDX-License-Identifier: Apache-2.0 */

/* The strategy of a reload, from numbers: one row per case, in MiB. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/devices/strategy.h"

#define MIB  (UINT64_C(1) << 20)
#define NONE UINT64_MAX
#define A    CONFIG_STRATEGY_AUTO
#define O    CONFIG_STRATEGY_OVERLAP
#define S    CONFIG_STRATEGY_STAGED
#define F    CONFIG_STRATEGY_STOP_FIRST

struct row {
	const char *name;
	enum config_strategy wanted;
	bool has_old;
	uint64_t budget, reserve, used, available; /* of the device */
	uint64_t old, headroom;
	uint64_t need, loading, staged; /* of the candidate */
	enum strategy strategy;
	uint64_t free, free_alone;
};

/* clang-format off */
static const struct row rows[] = {
	/*                               budget res used avail  old head need load stag */
	{ "no budget, much memory",      A, 1, NONE,  64, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_OVERLAP,    8936, 9036 },
	{ "both fit exactly",            A, 1,  300,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_OVERLAP,     200,  300 },
	{ "one byte over is too much",   A, 1,  299,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,      199,  299 },
	{ "need counts beside loading",  A, 1,  250,   0, 100, 9000, 100,  0, 160, 100,  10, STRATEGY_STAGED,      150,  250 },
	{ "budget holds 1.3 copies",     A, 1,  130,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,       30,  130 },
	{ "not even staging fits",       A, 1,  105,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STOP_FIRST,    5,  105 },
	{ "staging fits exactly",        A, 1,  110,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,       10,  110 },
	{ "the budget is overdrawn",     A, 1,   80,   0, 100, 9000, 100,  0,  60, 100,  10, STRATEGY_STOP_FIRST,    0,   80 },
	{ "too large for the budget",    A, 1,   90,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_REFUSED,       0,   90 },
	{ "head-room is the old one's",  A, 1,  300,   0, 100, 9000, 100, 50, 100, 200,  10, STRATEGY_STAGED,      150,  300 },
	{ "the reserve stays",           A, 1,  300,  20, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,      180,  280 },
	{ "the machine has less",        A, 1, 9000,   0, 100,  150, 100,  0, 100, 200,  10, STRATEGY_STAGED,      150,  250 },
	{ "the machine has nothing",     A, 1, NONE,  64, 100,   10, 100,  0, 100, 200,  10, STRATEGY_REFUSED,       0,   46 },
	{ "neighbours use it",           A, 1,  300,   0, 250, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,       50,  150 },
	{ "neighbours use nearly all",   A, 1,  300,   0, 295, 9000, 100,  0, 100, 200,  10, STRATEGY_STOP_FIRST,    5,  105 },
	{ "neighbours leave too little", A, 1,  300,   0, 301, 9000, 100,  0, 100, 200,  10, STRATEGY_REFUSED,       0,   99 },
	{ "first start fits",            A, 0,  300,   0,   0, 9000,   0,  0, 100, 200,   0, STRATEGY_OVERLAP,     300,  300 },
	{ "first start, lean",           A, 0,  150,   0,   0, 9000,   0,  0, 100, 200,   0, STRATEGY_STOP_FIRST,  150,  150 },
	{ "first start, no reserve",     A, 0,  300, 250,   0,  300,   0,  0, 100, 200,   0, STRATEGY_OVERLAP,     300,  300 },
	{ "first start, too large",      A, 0,   90,   0,   0, 9000,   0,  0, 100, 200,   0, STRATEGY_REFUSED,      90,   90 },
	{ "nothing is known",            A, 0, NONE,   0,   0, NONE,   0,  0,   0,   0,   0, STRATEGY_OVERLAP,    NONE, NONE },
	{ "overlap asked for, fits",     O, 1,  300,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_OVERLAP,     200,  300 },
	{ "overlap asked for, too much", O, 1,  200,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_REFUSED,     100,  200 },
	{ "overlap asked for, no old",   O, 0,  150,   0,   0, 9000,   0,  0, 100, 200,   0, STRATEGY_STOP_FIRST,  150,  150 },
	{ "no old, still too much",      O, 0,   90,   0,   0, 9000,   0,  0, 100, 200,   0, STRATEGY_REFUSED,      90,   90 },
	{ "staged though both fit",      S, 1, 9000,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STAGED,     8900, 9000 },
	{ "staged, staging too much",    S, 1,  105,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_REFUSED,       5,  105 },
	{ "stop-first though both fit",  F, 1, 9000,   0, 100, 9000, 100,  0, 100, 200,  10, STRATEGY_STOP_FIRST, 8900, 9000 },
	{ "stop-first, still too much",  F, 1,   90,   0,  80, 9000,  80,  0, 100, 200,  10, STRATEGY_REFUSED,      10,   90 },
};
/* clang-format on */

static uint64_t scale(uint64_t mib)
{
	return mib == NONE ? NONE : mib * MIB;
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		const struct strategy_facts facts = {
			.wanted = row->wanted,
			.has_old = row->has_old,
			.room = { .budget_bytes = scale(row->budget),
			          .reserve_bytes = scale(row->reserve),
			          .used_bytes = scale(row->used),
			          .available_bytes = scale(row->available) },
			.old_bytes = scale(row->old),
			.headroom_bytes = scale(row->headroom),
			.need_bytes = scale(row->need),
			.loading_bytes = scale(row->loading),
			.staged_bytes = scale(row->staged),
		};
		struct strategy_decision decision = strategy_decide(&facts);

		if (decision.strategy != row->strategy ||
		    decision.free_bytes != scale(row->free) ||
		    decision.free_alone_bytes != scale(row->free_alone))
			fail_msg("%s: %s, free %.2f MiB, alone %.2f MiB: %s", row->name,
			         strategy_name(decision.strategy),
			         (double)decision.free_bytes / (double)MIB,
			         (double)decision.free_alone_bytes / (double)MIB,
			         decision.why.text);
		assert_true(decision.why.text[0] != '\0');
	}
}

/* No model serves here, but one does in another moultd: the reserve is for that one. */
static void test_reserve_of_others(void **state)
{
	struct strategy_facts facts = {
		.room = { .budget_bytes = 300 * MIB,
		          .reserve_bytes = 64 * MIB,
		          .used_bytes = 100 * MIB,
		          .available_bytes = 9000 * MIB },
		.need_bytes = 150 * MIB,
	};

	(void)state;
	assert_int_equal(strategy_decide(&facts).strategy, STRATEGY_OVERLAP);
	facts.room.has_neighbour = true;
	assert_int_equal(strategy_decide(&facts).strategy, STRATEGY_REFUSED);
	facts.need_bytes = 136 * MIB;
	assert_int_equal(strategy_decide(&facts).strategy, STRATEGY_OVERLAP);
}

/* More memory never makes it worse, and one strategy is allowed at each size. */
static void test_more_is_better(void **state)
{
	enum strategy last = STRATEGY_REFUSED;

	(void)state;
	for (uint64_t budget = 0; budget < 512; budget++) {
		const struct strategy_facts facts = {
			.wanted = CONFIG_STRATEGY_AUTO,
			.has_old = true,
			.room = { budget * MIB, 3 * MIB, 100 * MIB, NONE },
			.old_bytes = 100 * MIB,
			.headroom_bytes = 7 * MIB,
			.need_bytes = 110 * MIB,
			.loading_bytes = 200 * MIB,
			.staged_bytes = 12 * MIB,
		};
		struct strategy_decision decision = strategy_decide(&facts);

		assert_true(decision.strategy <= last);
		last = decision.strategy;
	}
	assert_int_equal(last, STRATEGY_OVERLAP);
}

static void test_json(void **state)
{
	const struct strategy_facts facts = { .room = { NONE, 0, 5, 77 },
		                              .need_bytes = 9,
		                              .loading_bytes = 18 };
	struct strategy_decision decision = strategy_decide(&facts);
	json_t *json = strategy_to_json(&decision);

	(void)state;
	assert_true(json_is_null(json_object_get(json, "budget_bytes")));
	assert_int_equal(json_integer_value(json_object_get(json, "used_bytes")), 5);
	assert_int_equal(json_integer_value(json_object_get(json, "available_bytes")),
	                 77);
	assert_string_equal(json_string_value(json_object_get(json, "strategy")),
	                    "overlap");
	json_decref(json);
}

/* Beside weights that stay, only the process's own need counts. */
static void test_handoff(void **state)
{
	static const struct {
		enum config_strategy wanted;
		bool has_old;
		uint64_t budget;
		enum strategy strategy;
	} cases[] = {
		{ A, true, 130, STRATEGY_HANDOFF },
		{ A, true, 129, STRATEGY_STAGED },
		{ A, false, 130, STRATEGY_HANDOFF },
		{ A, false, 119, STRATEGY_REFUSED },
		{ O, true, 130, STRATEGY_HANDOFF },
		{ O, true, 129, STRATEGY_REFUSED },
		{ S, true, 130, STRATEGY_STAGED },
		{ F, true, 130, STRATEGY_STOP_FIRST },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t old = cases[i].has_old ? 10 : 0;
		const struct strategy_facts facts = {
			.wanted = cases[i].wanted,
			.has_old = cases[i].has_old,
			.room = { cases[i].budget * MIB, 0, (100 + old) * MIB, NONE },
			.is_resident = true,
			.old_bytes = old * MIB,
			.need_bytes = 20 * MIB,
			.loading_bytes = 20 * MIB,
			.staged_bytes = 5 * MIB,
		};
		struct strategy_decision decision = strategy_decide(&facts);

		if (decision.strategy != cases[i].strategy)
			fail_msg("row %zu: %s", i, strategy_name(decision.strategy));
	}
}

/* Shared weights without use for the next generation come free without an old one, too. */
static void test_resident_goes(void **state)
{
	const struct strategy_facts facts = {
		.wanted = A,
		.room = { 130 * MIB, 0, 100 * MIB, NONE },
		.old_bytes = 100 * MIB,
		.resident_bytes = 100 * MIB,
		.need_bytes = 120 * MIB,
		.loading_bytes = 120 * MIB,
		.copy_bytes = 100 * MIB,
	};

	(void)state;
	assert_int_equal(strategy_decide(&facts).strategy, STRATEGY_STOP_FIRST);
}

/* The bytes that may be placed before the old generation goes, of weights of 100 with 10
 * beside them. */
static void test_prefill(void **state)
{
	/* clang-format off */
	static const struct {
		const char *name;
		bool may, has_old;
		uint64_t budget, reserve, available, headroom, peaks, need, prefill;
	} cases[] = {
		/*                       budget res avail head peak need prefill */
		{ "as the card has",     1, 1,  300,   0,   70,   0,   0,  110,  60 },
		{ "as the budget has",   1, 1,  160,   0,  900,   0,   0,  110,  40 },
		{ "the reserve stays",   1, 1,  300,   9,   70,   0,   0,  110,  51 },
		{ "the old one grows",   1, 1,  300,   0,   70,   8,   0,  110,  52 },
		{ "others grow, too",    1, 1,  300,   0,   70,   8,   7,  110,  45 },
		{ "more beside them",    1, 1,  300,   0,   70,   0,   0,  120,  50 },
		{ "a chunk",             1, 1,  300,   0,   42,   0,   0,  110,  32 },
		{ "less than that",      1, 1,  300,   0,   41,   0,   0,  110,   0 },
		{ "nothing is left",     1, 1,  300,   0,    5,   0,   0,  110,   0 },
		{ "all, and rounded",    1, 1, NONE,   0,  900,   0,   0,  110, 128 },
		{ "nobody knows",        1, 1,  300,   0, NONE,   0,   0,  110,   0 },
		{ "it may not",          0, 1,  300,   0,   70,   0,   0,  110,   0 },
		{ "nobody serves",       1, 0,  300,   0,   70,   0,   0,  110,   0 },
	};

	/* clang-format on */
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct strategy_facts facts = {
			.wanted = S,
			.has_old = cases[i].has_old,
			.room = { .budget_bytes = scale(cases[i].budget),
			          .reserve_bytes = scale(cases[i].reserve),
			          .used_bytes = 110 * MIB,
			          .available_bytes = scale(cases[i].available) },
			.old_bytes = 110 * MIB,
			.headroom_bytes = scale(cases[i].headroom),
			.need_bytes = scale(cases[i].need),
			.loading_bytes = scale(cases[i].need),
			.weights_bytes = 100 * MIB,
			.may_prefill = cases[i].may,
			.peaks_bytes = scale(cases[i].peaks),
		};
		struct strategy_decision gpu = strategy_decide(&facts);
		struct strategy_decision host = { .strategy = STRATEGY_STAGED };

		if (gpu.prefill_bytes != scale(cases[i].prefill))
			fail_msg("%s: %.2f MiB", cases[i].name,
			         (double)gpu.prefill_bytes / (double)MIB);
		/* Prefill is for staged reloads only, whatever the card alone would allow. */
		strategy_join(&host, &gpu);
		assert_int_equal(gpu.prefill_bytes, host.strategy == STRATEGY_STAGED
		                                            ? scale(cases[i].prefill)
		                                            : 0);
		host.strategy = STRATEGY_STOP_FIRST;
		strategy_join(&host, &gpu);
		assert_int_equal(gpu.prefill_bytes, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handoff),
		cmocka_unit_test(test_resident_goes),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_reserve_of_others),
		cmocka_unit_test(test_more_is_better),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_prefill),
	};

	return cmocka_run_group_tests_name("strategy", tests, NULL, NULL);
}
