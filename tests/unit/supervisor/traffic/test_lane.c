/* SPDX-License-Identifier: Apache-2.0 */

/* Leases: how a request goes to the loader, and how it comes back, or parts of its answer do. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "tests/unit/supervisor/traffic/lane_bench.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static void test_a_lease(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_lease(bench);
	struct proto_submit submit;

	assert_int_equal(request->state, REQUEST_LEASED);
	assert_ptr_equal(request->lane, bench->lane);
	assert_int_equal(ring_pop(&bench->submit, &submit), 0);
	assert_int_equal(submit.lease, request->lease);
	assert_int_equal(submit.generation, LANE_BENCH_GENERATION);
	assert_int_equal(submit.kind, PROTO_SUBMIT_REQUEST);
	assert_int_equal(submit.accepted_ns, request->accepted_ns);
	assert_int_equal(submit.body_bytes, 3);
	assert_memory_equal((char *)bench->queue.memory.base + submit.body_offset, "abc",
	                    3);
	lane_bench_answer(bench, request);
	assert_int_equal(request->state, REQUEST_ANSWERED);
	assert_int_equal(request->status, 200);
	assert_null(request->lane);
	lane_bench_let_go(request);
}

/* There are so many leases, and a number is never used again. */
static void test_bound(void **state)
{
	struct lane_bench *bench = *state;
	struct request *other = lane_bench_request(bench);
	struct request *requests[LANE_BENCH_LEASES];
	uint64_t past;

	for (size_t i = 0; i < LANE_BENCH_LEASES; i++) {
		requests[i] = lane_bench_lease(bench);
		assert_int_equal(lane_leased(bench->lane), i + 1);
	}
	assert_int_equal(lane_submit(bench->lane, other), LANE_E_FULL);
	assert_int_equal(other->state, REQUEST_RECEIVING);
	past = requests[2]->lease;
	lane_bench_answer(bench, requests[2]);
	assert_int_equal(lane_leased(bench->lane), LANE_BENCH_LEASES - 1);
	assert_int_equal(lane_submit(bench->lane, other), 0);
	assert_true(other->lease > requests[LANE_BENCH_LEASES - 1]->lease);
	assert_true(other->lease != past);
	lane_bench_let_go(other);
	for (size_t i = 0; i < LANE_BENCH_LEASES; i++)
		lane_bench_let_go(requests[i]);
}

/* Whose client has left */

static void test_cancel(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_lease(bench);
	struct proto_answer answer = lane_bench_answer_of(request);
	struct proto_submit submit;

	assert_int_equal(ring_pop(&bench->submit, &submit), 0);
	lane_bench_let_go(request);
	/* The loader still reads the body: the lease stays. */
	assert_int_equal(lane_leased(bench->lane), 1);
	assert_int_equal(ring_pop(&bench->submit, &submit), 0);
	assert_int_equal(submit.kind, PROTO_SUBMIT_CANCEL);
	assert_int_equal(submit.lease, answer.lease);
	answer.status = 499;
	lane_bench_publish(bench, &answer);
	assert_int_equal(request_collect(bench->lane, NULL), 0);
	assert_int_equal(lane_leased(bench->lane), 0);
	assert_int_equal(bench->queue.counts.failures[REQUEST_FAILURE_LEFT], 1);
	assert_int_equal(bench->queue.arena.used_bytes, 0);
}

/* The deadline of a leased request: its client is told, and what the loader says later is
 * dropped. */
static void test_deadline(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_request(bench);
	struct proto_submit submit;
	struct request_part *part;

	request_complete(request, CLOCK_NS_PER_SEC);
	assert_int_equal(lane_submit(bench->lane, request), 0);
	request_start_deadline(request);
	ev_invoke(bench->pump.loop, &request->deadline, EV_TIMER);
	assert_int_equal(request->status, 504);
	assert_int_equal(request->state, REQUEST_LEASED);
	part = request_take_part(request);
	assert_non_null(strstr(part->text, "(request_timeout)"));
	request_part_free(part);
	assert_int_equal(ring_pop(&bench->submit, &submit), 0);
	assert_int_equal(ring_pop(&bench->submit, &submit), 0);
	assert_int_equal(submit.kind, PROTO_SUBMIT_CANCEL);
	lane_bench_answer(bench, request);
	assert_int_equal(request->state, REQUEST_FAILED);
	assert_null(request_take_part(request));
	assert_int_equal(bench->queue.counts.failures[REQUEST_FAILURE_DEADLINE], 1);
	lane_bench_let_go(request);
	assert_int_equal(ring_pop(&bench->submit, &submit), RING_E_EMPTY);
}

/* Parts that were sent */

static void test_release(void **state)
{
	struct lane_bench *bench = *state;
	struct request *busy = lane_bench_lease(bench);
	struct request *request = lane_bench_lease(bench);
	struct proto_answer answer = lane_bench_answer_of(request);
	struct proto_release release;
	struct request_part *part;

	answer.body_bytes = LANE_BENCH_ANSWERS_BYTES / 2 + 1;
	bench->answers[0] = 'x';
	lane_bench_publish(bench, &answer);
	assert_false(lane_waits_for_readers(bench->lane));
	assert_int_equal(request_collect(bench->lane, NULL), 0);
	assert_true(lane_waits_for_readers(bench->lane));
	part = request_take_part(request);
	assert_true(part->is_last && part->body_bytes == answer.body_bytes);
	assert_int_equal(*(const char *)part->body, 'x');
	assert_int_equal(ring_pop(&bench->release, &release), RING_E_EMPTY);
	request_part_free(part);
	assert_int_equal(ring_pop(&bench->release, &release), 0);
	assert_int_equal(release.token, answer.token);
	assert_false(lane_waits_for_readers(bench->lane));
	lane_bench_let_go(request);
	lane_bench_let_go(busy);
}

/* A part that is being sent outlives loader and lane. */
static void test_part_after_close(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_lease(bench);
	struct proto_release release;
	struct request_part *part;

	bench->answers[0] = 'x';
	lane_bench_answer(bench, request);
	part = request_take_part(request);
	lane_bench_close(bench);
	assert_int_equal(*(const char *)part->body, 'x');
	request_part_free(part);
	assert_int_equal(ring_pop(&bench->release, &release), RING_E_EMPTY);
	lane_bench_let_go(request);
}

/* The end */

struct lost {
	struct request *requests[LANE_BENCH_LEASES];
	size_t n;
};

static void on_lease(void *context, struct request *request)
{
	struct lost *lost = context;

	assert_true(request->state == REQUEST_LEASED && !request->lane);
	lost->requests[lost->n++] = request;
	queue_hold(request->queue, request);
}

/* The youngest comes back first, whatever its slot is; the queue has them by age again. */
static void test_close_order(void **state)
{
	struct lane_bench *bench = *state;
	struct request *requests[LANE_BENCH_LEASES + 1];
	struct lost lost = { .n = 0 };

	for (size_t i = 0; i < LANE_BENCH_LEASES; i++)
		requests[i] = lane_bench_lease(bench);
	lane_bench_answer(bench, requests[1]);
	requests[LANE_BENCH_LEASES] = lane_bench_lease(bench);
	lane_close(bench->lane, on_lease, &lost);
	assert_int_equal(lane_leased(bench->lane), 0);
	assert_int_equal(lost.n, LANE_BENCH_LEASES);
	assert_int_equal(bench->queue.counts.replayed, LANE_BENCH_LEASES);
	lane_bench_let_go(requests[1]);
	requests[1] = requests[0];
	for (size_t i = 0; i < LANE_BENCH_LEASES; i++) {
		assert_ptr_equal(lost.requests[i], requests[LANE_BENCH_LEASES - i]);
		assert_ptr_equal(queue_next(&bench->queue, 1), requests[1 + i]);
		lane_bench_let_go(requests[1 + i]);
	}
	lane_close(bench->lane, on_lease, &lost);
	assert_int_equal(lost.n, LANE_BENCH_LEASES);
}

static void test_suspect(void **state)
{
	struct lane_bench *bench = *state;
	struct request *request = lane_bench_request(bench);

	queue_set_suspect(request, true);
	assert_false(lane_has_suspect(bench->lane));
	assert_int_equal(lane_submit(bench->lane, request), 0);
	assert_true(lane_has_suspect(bench->lane));
	lane_bench_answer(bench, request);
	assert_false(lane_has_suspect(bench->lane));
	lane_bench_let_go(request);
}

/* Who may be to blame: the loader says how far it had come. */
static void test_begun(void **state)
{
	struct lane_bench *bench = *state;
	struct request *first = lane_bench_lease(bench);
	struct request *second = lane_bench_lease(bench);
	const struct {
		uint64_t begun;
		bool has_first;
		bool has_second;
	} rows[] = {
		{ 0, false, false },
		{ first->lease - 1, false, false },
		{ first->lease, true, false },
		{ second->lease - 1, true, false },
		{ second->lease, true, true },
		{ second->lease + ((uint64_t)1 << 16), true, true }, /* cannot be */
		{ UINT64_MAX, true, true },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		atomic_store(&bench->rings->begun, rows[i].begun);
		assert_int_equal(lane_has_begun(bench->lane, first->lease),
		                 rows[i].has_first);
		assert_int_equal(lane_has_begun(bench->lane, second->lease),
		                 rows[i].has_second);
	}
	lane_bench_let_go(first);
	lane_bench_let_go(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LANE_BENCH_TEST(test_a_lease),     LANE_BENCH_TEST(test_bound),
		LANE_BENCH_TEST(test_cancel),      LANE_BENCH_TEST(test_deadline),
		LANE_BENCH_TEST(test_release),     LANE_BENCH_TEST(test_part_after_close),
		LANE_BENCH_TEST(test_close_order), LANE_BENCH_TEST(test_suspect),
		LANE_BENCH_TEST(test_begun),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
