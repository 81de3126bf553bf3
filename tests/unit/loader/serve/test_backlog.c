/* SPDX-License-Identifier: Apache-2.0 */

/* Requests wait in their order, also when some are taken out of the middle. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loader/serve/backlog.h"

#define LEASES 8

static void run(struct backlog *backlog, const char *steps, const char *want)
{
	char got[64] = "";

	for (const char *step = steps; *step; step++) {
		struct proto_submit submit = { .lease = (uint64_t)*step };

		if (*step == '<') {
			const char *lease = backlog_take(backlog, &submit)
			                            ? (char[]){ (char)submit.lease, 0 }
			                            : "-";

			(void)strncat(got, lease, sizeof(got) - strlen(got) - 1);
		} else if (*step == '!') {
			step++;
			(void)strncat(got,
			              backlog_drop(backlog, (uint64_t)*step) ? "y" : "n",
			              sizeof(got) - strlen(got) - 1);
		} else {
			backlog_add(backlog, &submit);
		}
	}
	assert_string_equal(got, want);
}

/* A letter adds, "<" takes the oldest, "!x" drops x. */
static void test_order(void **state)
{
	static const struct {
		const char *steps;
		const char *want;
	} rows[] = {
		{ "<", "-" },
		{ "abc<<<<", "abc-" },
		{ "abc!b<<<", "yac-" },
		{ "abc!a<<<", "ybc-" },
		{ "abc!c<<<", "yab-" },
		{ "abc!x<<<<", "nabc-" },
		{ "a!a!a<", "yn-" },
		{ "!a", "n" },
		/* all places, and around the end of the ring */
		{ "abcdefgh<<<<<<<<<", "abcdefgh-" },
		{ "abcdef<<<<ghijkl!g!l<<<<<<<", "abcdyyefhijk-" },
		{ "abcdefgh<<<ijk!d!k!i<<<<<<", "abcyyyefghj-" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backlog backlog;

		assert_int_equal(backlog_init(&backlog, LEASES), 0);
		/* Each row again, from each place of the ring. */
		for (size_t k = 0; k < 2 * LEASES; k++) {
			run(&backlog, rows[i].steps, rows[i].want);
			run(&backlog, "z", "");
			while (backlog.n > 0)
				assert_true(backlog_take(&backlog,
				                         &(struct proto_submit){ 0 }));
		}
		backlog_fini(&backlog);
	}
}

/* What is taken is what was added, whole. */
static void test_content(void **state)
{
	const struct proto_submit submit = {
		.lease = 7, .body_offset = 4096, .body_bytes = 77, .deadline_ns = 5
	};
	struct proto_submit taken;
	struct backlog backlog;

	(void)state;
	assert_int_equal(backlog_init(&backlog, LEASES), 0);
	backlog_add(&backlog, &submit);
	assert_true(backlog_take(&backlog, &taken));
	assert_memory_equal(&taken, &submit, sizeof(submit));
	backlog_fini(&backlog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
