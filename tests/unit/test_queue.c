/* SPDX-License-Identifier: Apache-2.0 */

/* The order in which held requests leave, and the counts meanwhile. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "supervisor/loop/pump.h"
#include "supervisor/traffic/queue.h"

#define ARENA_BYTES ((size_t)1 << 20)

struct fixture {
	struct pump pump;
	struct queue queue;
	uint64_t now_ns;
};

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	pump_init(&fixture->pump, ev_loop_new(EVFLAG_AUTO));
	assert_int_equal(queue_init(&fixture->queue, &fixture->pump, "m", ARENA_BYTES,
	                            4096),
	                 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	queue_fini(&fixture->queue);
	ev_loop_destroy(fixture->pump.loop);
	free(fixture);
	return 0;
}

static void on_part(struct request *request, void *context)
{
	(void)request;
	(void)context;
}

/* Makes one more request; each has another age. */
static struct request *request_of(struct fixture *fixture, uint64_t priority)
{
	const struct request_start start = {
		.method = { "POST", 4 },
		.target = { "/", 1 },
		.body_bytes = 3,
		.json_bytes = UINT64_MAX,
		.timeout_ns = UINT64_MAX,
		.on_part = on_part,
	};
	struct request_refusal refusal;
	struct request *request;

	assert_int_equal(request_new(&request, &fixture->queue, &start, &refusal), 0);
	assert_int_equal(request_append(request, "abc", 3, &refusal), 0);
	request->level = queue_level(priority);
	request->accepted_ns = ++fixture->now_ns;
	return request;
}

static void leave(struct request *request)
{
	request_release(request);
}

static void test_levels(void **state)
{
	static const struct {
		uint64_t priority;
		uint8_t level;
	} rows[] = {
		{ 0, QUEUE_LEVEL_DEFAULT }, { 1, 0 }, { 2, 1 },
		{ 5, QUEUE_LEVEL_DEFAULT }, { 9, 8 }, { 10, 8 },
		{ UINT64_MAX, 8 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(queue_level(rows[i].priority), rows[i].level);
}

/* The order is by priority, then first in first out; a request that comes back goes to the
 * place of its age. */
static void test_order(void **state)
{
	static const uint64_t priorities[] = { 0, 9, 1, 0, 1, 5, 700 };
	static const size_t order[] = { 2, 4, 0, 3, 5, 1, 6 };
	struct request *requests[sizeof(order) / sizeof(order[0])];
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		requests[i] = request_of(fixture, priorities[i]);
	queue_hold(queue, requests[3]);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (i != 3)
			queue_hold(queue, requests[i]);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		assert_false(queue_is_empty(queue));
		assert_ptr_equal(queue_first(queue), requests[order[i]]);
		leave(requests[order[i]]);
	}
	assert_null(queue_first(queue));
	assert_true(queue_is_empty(queue));
}

static void test_suspects_are_apart(void **state)
{
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;
	struct request *suspect = request_of(fixture, 9);
	struct request *other = request_of(fixture, 1);

	suspect->is_suspect = true;
	queue_hold(queue, other);
	queue_hold(queue, suspect);
	assert_ptr_equal(queue_first(queue), other);
	assert_ptr_equal(queue_first_suspect(queue), suspect);
	leave(suspect);
	assert_null(queue_first_suspect(queue));
	/* The request left without a verdict: its body is suspicious until such a request is
	 * answered. */
	assert_true(queue_is_suspicious(queue, other));
	queue_note_suspect(queue, other, true);
	assert_false(queue_is_suspicious(queue, other));
	leave(other);
}

static void test_counts(void **state)
{
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;
	struct request *requests[5];
	uint64_t bytes = 0;

	for (size_t i = 0; i < 5; i++) {
		requests[i] = request_of(fixture, i);
		bytes += request_bytes(requests[i]);
		queue_hold(queue, requests[i]);
		assert_int_equal(queue->counts.held, i + 1);
		assert_int_equal(queue->counts.held_bytes, bytes);
	}
	for (size_t i = 0; i < 5; i++)
		leave(requests[i]);
	assert_int_equal(queue->counts.held_bytes, 0);
	assert_int_equal(queue->counts.accepted, 5);
	assert_int_equal(queue->counts.failed, 5);
	assert_int_equal(queue->counts.failures[REQUEST_FAILURE_LEFT], 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_suspects_are_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
