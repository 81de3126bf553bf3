/* SPDX-License-Identifier: Apache-2.0 */

/* What the next reload counts on, after what the last generation was measured to take. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/inputs/inputs.h"

static const struct load_row {
	const char *name;
	struct inputs_footprint known;
	struct inputs_footprint like; /* of the inputs that served before */
	struct inputs_load load;
	struct inputs_footprint want;
} loads[] = {
	{ .name = "the first loader",
	  .load = { .is_private = true, .anon_bytes = 50, .loading_bytes = 90 },
	  .want = { .is_private = true, .peak_bytes = 50, .loading_bytes = 90 } },
	{ .name = "a lean one leaves what a loading takes beside others",
	  .known = { .is_private = true, .peak_bytes = 50, .loading_bytes = 90 },
	  .load = { .is_private = true,
	            .is_lean = true,
	            .anon_bytes = 40,
	            .loading_bytes = 20 },
	  .want = { .is_private = true,
	            .peak_bytes = 40,
	            .loading_bytes = 90,
	            .staged_bytes = 20 } },
	{ .name = "weights are shared now",
	  .known = { .is_private = true,
	             .peak_bytes = 50,
	             .loading_bytes = 90,
	             .staged_bytes = 20 },
	  .load = { .anon_bytes = 10, .loading_bytes = 30 },
	  .want = { .peak_bytes = 10, .loading_bytes = 30 } },
	{ .name = "unknown inputs begin with what served before",
	  .like = { .peak_bytes = 70, .gpu_peak_bytes = 5, .loading_bytes = 80 },
	  .load = { .is_lean = true, .anon_bytes = 60, .loading_bytes = 30 },
	  .want = { .peak_bytes = 60,
	            .gpu_peak_bytes = 5,
	            .loading_bytes = 80,
	            .staged_bytes = 30 } },
	{ .name = "known ones do not",
	  .known = { .peak_bytes = 1 },
	  .like = { .peak_bytes = 70, .gpu_peak_bytes = 5, .loading_bytes = 80 },
	  .load = { .is_lean = true, .anon_bytes = 60, .loading_bytes = 30 },
	  .want = { .peak_bytes = 60, .staged_bytes = 30 } },
};

static void test_load(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		const struct load_row *row = &loads[i];
		const struct inputs like = { .footprint = row->like };
		struct inputs inputs = { .footprint = row->known };
		struct inputs_load load = row->load;
		const struct inputs_footprint *got = &inputs.footprint;

		load.weights_sha256 = "abc";
		inputs_learn_load(&inputs, &like, &load);
		if (got->is_private != row->want.is_private ||
		    got->peak_bytes != row->want.peak_bytes ||
		    got->gpu_peak_bytes != row->want.gpu_peak_bytes ||
		    got->loading_bytes != row->want.loading_bytes ||
		    got->staged_bytes != row->want.staged_bytes)
			fail_msg("%s", row->name);
		assert_string_equal(inputs.weights_sha256, "abc");
	}
}

static void test_peaks(void **state)
{
	static const struct {
		const char *name;
		uint64_t known;
		bool was_shared;
		uint64_t bytes;
		bool is_shared;
		uint64_t want;
	} rows[] = {
		{ "more", 10, false, 20, false, 20 },
		{ "less", 20, false, 10, false, 20 },
		{ "less, and shared now", 20, false, 10, true, 10 },
		{ "less, and shared no more", 20, true, 10, false, 10 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct inputs inputs = { .footprint = { .peak_bytes = rows[i].known,
			                                .gpu_peak_bytes = rows[i].known,
			                                .is_gpu_shared =
			                                        rows[i].was_shared } };

		inputs_learn_peak(&inputs, rows[i].bytes);
		assert_int_equal(inputs.footprint.peak_bytes,
		                 rows[i].bytes > rows[i].known ? rows[i].bytes
		                                               : rows[i].known);
		inputs_learn_gpu_peak(&inputs, rows[i].bytes, rows[i].is_shared);
		if (inputs.footprint.gpu_peak_bytes != rows[i].want ||
		    inputs.footprint.is_gpu_shared != rows[i].is_shared)
			fail_msg("%s", rows[i].name);
	}
}

static void test_private(void **state)
{
	const struct err why = { .text = "its card cannot" };
	struct inputs inputs = { 0 };

	(void)state;
	inputs_learn_private(&inputs, &why, true);
	assert_string_equal(inputs.why_private.text, why.text);
	assert_true(inputs.is_private_lasting);
	/* Inputs that were told so are told so again. */
	inputs_learn_private(&inputs, &inputs.why_private, true);
	assert_string_equal(inputs.why_private.text, why.text);
	inputs_learn_anew(&inputs);
	assert_false(inputs.is_private_lasting);
	assert_string_equal(inputs.why_private.text, why.text);
	inputs_learn_private(&inputs, NULL, true);
	assert_string_equal(inputs.why_private.text, "");
	assert_false(inputs.is_private_lasting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_peaks),
		cmocka_unit_test(test_private),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
