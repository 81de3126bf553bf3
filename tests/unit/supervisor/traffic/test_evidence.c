/* SPDX-License-Identifier: Apache-2.0 */

/* The requests that are kept as evidence of failures. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/traffic/evidence.h"
#include "supervisor/traffic/queue.h"

static unsigned char arena[EVIDENCE_BYTES_MAX + 128];

static struct queue queue = { .memory = { .base = arena } };

/* Makes a request: a head of two bytes at 0, the body at 64, which begins with @mark. */
static struct request make(unsigned char mark, size_t body_bytes)
{
	memcpy(arena, "hd", 2);
	memset(arena + 64, mark, 16);
	return (struct request){ .queue = &queue,
		                 .head_bytes = 2,
		                 .body_offset = 64,
		                 .body_bytes = body_bytes };
}

static void test_nobody_asks(void **state)
{
	struct request request = make('x', 16);

	(void)state;
	evidence_note(NULL, EVIDENCE_FAILED, &request);
	evidence_free(NULL);
}

static void test_kinds_and_sizes(void **state)
{
	struct evidence *evidence = evidence_new();
	struct request failed = make('f', 16);
	struct request large;
	struct request ended;

	(void)state;
	evidence_note(evidence, EVIDENCE_FAILED, &failed);
	large = make('l', EVIDENCE_BYTES_MAX - 1); /* with the head of two bytes */
	evidence_note(evidence, EVIDENCE_FAILED, &large);
	ended = make('e', 8);
	evidence_note(evidence, EVIDENCE_ENDED, &ended);
	assert_memory_equal(evidence->sets[EVIDENCE_FAILED].cases[0].data, "hdffff", 6);
	assert_null(evidence->sets[EVIDENCE_FAILED].cases[1].data);
	assert_memory_equal(evidence->sets[EVIDENCE_ENDED].cases[0].data, "hdeeeeeeee",
	                    10);
	assert_int_equal(evidence->sets[EVIDENCE_ENDED].cases[0].body_bytes, 8);
	evidence_free(evidence);
}

/* The only good client among many failing ones is kept as often as its share: four places for
 * 100, in 2000 rounds, are 80 times, with a deviation of 9. */
static void test_each_has_the_same_chance(void **state)
{
	unsigned int n_kept[2] = { 0, 0 }; /* of the first request, and of the last */

	(void)state;
	for (unsigned int round = 0; round < 2000; round++) {
		struct evidence *evidence = evidence_new();

		for (unsigned int i = 0; i < 100; i++) {
			struct request request = make(i == 0    ? 'a'
			                              : i == 99 ? 'z'
			                                        : '.',
			                              16);

			evidence_note(evidence, EVIDENCE_FAILED, &request);
		}
		for (size_t i = 0; i < EVIDENCE_CASES; i++) {
			unsigned char mark =
				evidence->sets[EVIDENCE_FAILED].cases[i].data[2];

			n_kept[0] += mark == 'a';
			n_kept[1] += mark == 'z';
		}
		evidence_free(evidence);
	}
	assert_in_range(n_kept[0], 20, 140);
	assert_in_range(n_kept[1], 20, 140);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_asks),
		cmocka_unit_test(test_kinds_and_sizes),
		cmocka_unit_test(test_each_has_the_same_chance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
