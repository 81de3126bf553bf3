/* SPDX-License-Identifier: Apache-2.0 */

/* What a loader may say on its lane, and what any other word costs it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/supervisor/traffic/lane_bench.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* What a loader says: each row is one member of an answer, or of its second part */

#define MEMBER(name)                                                                     \
	offsetof(struct proto_answer, name), sizeof(((struct proto_answer *)0)->name)

static const struct word {
	bool is_later;
	size_t offset;
	size_t bytes;
	uint64_t value;
	const char *why; /* of the violation; NULL: the answer is good */
} words[] = {
	{ false, MEMBER(generation), LANE_BENCH_GENERATION + 1, "generation 8" },
	{ false, MEMBER(lease), 0, "does not hold" },
	{ false, MEMBER(lease), UINT64_MAX, "does not hold" },
	{ false, MEMBER(status), 199, "status 199" },
	{ false, MEMBER(status), 599, NULL },
	{ false, MEMBER(status), 600, "status 600" },
	{ false, MEMBER(flags), 0, "out of order" },
	{ false, MEMBER(flags), PROTO_ANSWER_LAST, "out of order" },
	{ false, MEMBER(flags), LANE_BENCH_ONE_PART | 16, "out of order" },
	{ false, MEMBER(flags), PROTO_ANSWER_FIRST | PROTO_ANSWER_EXECUTION,
	  "out of order" },
	{ false, MEMBER(flags),
	  LANE_BENCH_ONE_PART | PROTO_ANSWER_FAULT | PROTO_ANSWER_EXECUTION, NULL },
	{ false, MEMBER(rows), 1, "1 rows names a batch of 0" },
	{ false, MEMBER(batch_rows), 3, NULL },
	{ false, MEMBER(head_bytes), PROTO_HEAD_MAX + 1, "outside" },
	{ false, MEMBER(head_offset), LANE_BENCH_ANSWERS_BYTES, NULL },
	{ false, MEMBER(head_offset), LANE_BENCH_ANSWERS_BYTES + 1, "outside" },
	{ false, MEMBER(body_offset), LANE_BENCH_ANSWERS_BYTES - 10, NULL },
	{ false, MEMBER(body_offset), LANE_BENCH_ANSWERS_BYTES - 9, "outside" },
	{ false, MEMBER(body_offset), UINT64_MAX - 5, "outside" },
	{ false, MEMBER(body_bytes), LANE_BENCH_ANSWERS_BYTES, NULL },
	{ false, MEMBER(body_bytes), LANE_BENCH_ANSWERS_BYTES + 1, "outside" },
	{ false, MEMBER(body_bytes), UINT64_MAX, "outside" },
	{ true, MEMBER(status), 0, NULL },
	{ true, MEMBER(status), 200, "status 200" },
	{ true, MEMBER(head_bytes), 1, "status 0" },
	{ true, MEMBER(flags), 0, NULL },
	{ true, MEMBER(flags), PROTO_ANSWER_FIRST, "out of order" },
	{ true, MEMBER(flags), PROTO_ANSWER_LAST | PROTO_ANSWER_FAULT, "out of order" },
	{ true, MEMBER(flags), PROTO_ANSWER_LAST | PROTO_ANSWER_EXECUTION, NULL },
	{ true, MEMBER(flags), PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN, NULL },
	{ true, MEMBER(flags), PROTO_ANSWER_BROKEN, "out of order" },
	{ false, MEMBER(flags), LANE_BENCH_ONE_PART | PROTO_ANSWER_BROKEN,
	  "out of order" },
};

static void say(struct lane_bench *bench, const struct request *request,
                const struct word *word)
{
	struct proto_answer answer = lane_bench_answer_of(request);

	if (word->is_later) {
		answer.flags = PROTO_ANSWER_FIRST;
		lane_bench_publish(bench, &answer);
		answer.flags = PROTO_ANSWER_LAST;
		answer.status = 0;
	}
	memcpy((char *)&answer + word->offset, &word->value, word->bytes);
	lane_bench_publish(bench, &answer);
}

/* The first wrong word ends the lane. What came before is delivered, and the rest of the
 * leases come back. */
static void test_words(void **state)
{
	for (size_t i = 0; i < COUNT(words); i++) {
		struct err err = ERR_NULL;
		struct lane_bench *bench;
		struct request *before;
		struct request *request;

		assert_int_equal(lane_bench_enter(state), 0);
		bench = *state;
		before = lane_bench_lease(bench);
		request = lane_bench_lease(bench);
		lane_bench_publish(bench, &(struct proto_answer){
						  .lease = before->lease,
						  .generation = LANE_BENCH_GENERATION,
						  .status = 200,
						  .flags = LANE_BENCH_ONE_PART,
					  });
		say(bench, request, &words[i]);
		assert_int_equal(request_collect(bench->lane, &err),
		                 words[i].why ? LANE_E_VIOLATION : 0);
		assert_int_equal(before->state, REQUEST_ANSWERED);
		if (words[i].why) {
			assert_non_null(strstr(err.text, words[i].why));
			assert_int_equal(request->state, REQUEST_LEASED);
			assert_int_equal(request_collect(bench->lane, &err),
			                 LANE_E_VIOLATION);
		}
		lane_bench_let_go(before);
		lane_bench_let_go(request);
		assert_int_equal(lane_bench_leave(state), 0);
	}
}

/* A lease that has ended, or whose slot has another number. */
static void test_past_leases(void **state)
{
	for (int is_again = 0; is_again <= 1; is_again++) {
		struct lane_bench *bench;
		struct request *request;
		struct request *next;
		struct proto_answer answer;

		assert_int_equal(lane_bench_enter(state), 0);
		bench = *state;
		request = lane_bench_lease(bench);
		answer = lane_bench_answer_of(request);
		lane_bench_answer(bench, request);
		next = is_again ? lane_bench_lease(bench) : lane_bench_request(bench);
		lane_bench_publish(bench, &answer);
		assert_int_equal(request_collect(bench->lane, NULL), LANE_E_VIOLATION);
		assert_int_equal(next->state,
		                 is_again ? REQUEST_LEASED : REQUEST_RECEIVING);
		lane_bench_let_go(request);
		lane_bench_let_go(next);
		assert_int_equal(lane_bench_leave(state), 0);
	}
}

static void test_too_many_parts(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_lease(bench);
	struct proto_answer answer = lane_bench_answer_of(request);
	struct err err = ERR_NULL;

	answer.flags = PROTO_ANSWER_FIRST;
	for (uint32_t i = 0; i < proto_parts_max(LANE_BENCH_LEASES); i++) {
		lane_bench_publish(bench, &answer);
		assert_int_equal(request_collect(bench->lane, &err), 0);
		answer.flags = 0;
		answer.status = 0;
	}
	lane_bench_publish(bench, &answer);
	assert_int_equal(request_collect(bench->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "more parts"));
	lane_bench_let_go(request);
}

static void test_impossible_index(void **state)
{
	struct lane_bench *bench = *state;
	struct err err = ERR_NULL;

	atomic_store(&bench->answer.shared->produced,
	             proto_parts_max(LANE_BENCH_LEASES) + 1);
	assert_int_equal(request_collect(bench->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "index cannot be"));
}

/* A loader that takes nothing, and says that it does. */
static void test_full_ring(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request;
	struct err err = ERR_NULL;

	for (uint32_t i = 0; i < LANE_BENCH_LEASES * 2; i++) {
		request = lane_bench_lease(bench);
		lane_bench_answer(bench, request);
		lane_bench_let_go(request);
	}
	request = lane_bench_request(bench);
	assert_int_equal(lane_submit(bench->lane, request), LANE_E_VIOLATION);
	assert_int_equal(request->state, REQUEST_RECEIVING);
	assert_int_equal(lane_leased(bench->lane), 0);
	lane_bench_let_go(request);
	assert_int_equal(request_collect(bench->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "full or corrupt"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_past_leases),
		LANE_BENCH_TEST(test_too_many_parts),
		LANE_BENCH_TEST(test_impossible_index),
		LANE_BENCH_TEST(test_full_ring),
	};

	return cmocka_run_group_tests_name("lane violations", tests, NULL, NULL);
}
