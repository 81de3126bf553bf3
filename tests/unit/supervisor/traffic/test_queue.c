/* SPDX-License-Identifier: Apache-2.0 */

/* Held requests: in what order they leave, when, how many may be, and the counts meanwhile. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/config/config.h"
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

static struct request *request_with(struct fixture *fixture, uint64_t head_ms,
                                    const char *body)
{
	const struct request_start start = {
		.method = { "POST", 4 },
		.target = { "/", 1 },
		.body_bytes = strlen(body),
		.json_bytes = UINT64_MAX,
		.timeout_ns = head_ms ? head_ms * CLOCK_NS_PER_MS : CLOCK_NEVER,
		.on_part = on_part,
	};
	struct request_refusal refusal;
	struct request *request;

	assert_int_equal(request_new(&request, &fixture->queue, &start, &refusal), 0);
	assert_int_equal(request_append(request, body, strlen(body), &refusal), 0);
	return request;
}

/* Makes one more request; each has another age. */
static struct request *request_of(struct fixture *fixture, uint64_t priority)
{
	struct request *request = request_with(fixture, 0, "abc");

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
		assert_ptr_equal(queue_next(queue, 1), requests[order[i]]);
		leave(requests[order[i]]);
	}
	assert_null(queue_next(queue, 1));
	assert_true(queue_is_empty(queue));
}

/* Suspects go first and alone, the oldest in front: a loader with leases gets none, and no
 * other request either while one waits. */
static void test_suspects(void **state)
{
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;
	struct request *suspects[] = { request_of(fixture, 9), request_of(fixture, 5) };
	struct request *other = request_of(fixture, 1);

	for (size_t i = 0; i < 2; i++)
		queue_set_suspect(suspects[i], true);
	queue_hold(queue, other);
	assert_ptr_equal(queue_next(queue, 1), other);
	queue_hold(queue, suspects[1]);
	queue_hold(queue, suspects[0]);
	for (size_t i = 0; i < 2; i++) {
		assert_ptr_equal(queue_next(queue, 0), suspects[i]);
		assert_null(queue_next(queue, 1));
		leave(suspects[i]);
	}
	assert_ptr_equal(queue_next(queue, 0), other);
	assert_ptr_equal(queue_next(queue, 1), other);
	/* They left without a verdict: the body is suspicious until such a request is
	 * answered. */
	assert_true(queue_is_suspicious(queue, other));
	queue_note_suspect(queue, other, true);
	assert_false(queue_is_suspicious(queue, other));
	leave(other);
}

/* The shortest timeout makes the deadline: of the head, of the body, of the configuration. */
static void test_timeouts(void **state)
{
	static const struct {
		uint64_t head_ms; /* 0: none */
		const char *body;
		uint64_t configured_ms;
		uint64_t want_ms;
		const char *name;
		uint8_t level;
	} rows[] = {
		{ 0, "{}", 30, 30, "request_timeout", QUEUE_LEVEL_DEFAULT },
		{ 20, "{}", 30, 20, REQUEST_TIMEOUT_HEADER, QUEUE_LEVEL_DEFAULT },
		{ 40, "{}", 30, 30, "request_timeout", QUEUE_LEVEL_DEFAULT },
		{ 20, "{\"parameters\":{\"timeout\":10000}}", 30, 10, "parameter timeout",
		  QUEUE_LEVEL_DEFAULT },
		{ 20, "{\"parameters\":{\"timeout\":25000}}", 30, 20,
		  REQUEST_TIMEOUT_HEADER, QUEUE_LEVEL_DEFAULT },
		{ 0, "{\"parameters\":{\"timeout\":0,\"priority\":2}}", 30, 30,
		  "request_timeout", 1 },
	};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct request *request =
			request_with(fixture, rows[i].head_ms, rows[i].body);

		request_complete(request, rows[i].configured_ms * CLOCK_NS_PER_MS);
		assert_int_equal(request->deadline_ns - request->accepted_ns,
		                 rows[i].want_ms * CLOCK_NS_PER_MS);
		assert_string_equal(request->timeout_name, rows[i].name);
		assert_int_equal(request->level, rows[i].level);
		assert_int_equal(fixture->queue.announced_bytes, 0);
		leave(request);
	}
}

/* The deadline of a held request: it leaves the queue, and its client is told why. */
static void test_deadline(void **state)
{
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;
	struct request *request = request_with(fixture, 20, "{}");
	struct request_part *part;

	request_complete(request, CLOCK_NS_PER_SEC);
	queue_hold(queue, request);
	request_start_deadline(request);
	assert_true(ev_is_active(&request->deadline));
	ev_invoke(queue->loop, &request->deadline, EV_TIMER);
	assert_true(queue_is_empty(queue) && !queue_next(queue, 0));
	assert_false(ev_is_active(&request->deadline));
	assert_int_equal(request->state, REQUEST_FAILED);
	assert_int_equal(queue->counts.failures[REQUEST_FAILURE_DEADLINE], 1);
	assert_int_equal(request->status, 504);
	part = request_take_part(request);
	assert_non_null(strstr(part->text, "(" REQUEST_TIMEOUT_HEADER ")"));
	request_part_free(part);
	leave(request);
}

/* Heads and bodies count against max_held_bytes; what is held alone counts. */
static void test_bounds(void **state)
{
	struct fixture *fixture = *state;
	struct request *held = request_of(fixture, 0);
	struct request *request = request_of(fixture, 0);
	uint64_t bytes = request_bytes(request);
	const struct {
		uint32_t max_held;
		uint64_t max_held_bytes;
		const char *why; /* NULL: there is room */
	} rows[] = {
		{ 2, UINT64_MAX, NULL },
		{ 1, UINT64_MAX, "1 requests waiting, as many as max_held allows" },
		{ 0, UINT64_MAX, "max_held allows" },
		{ 2, 2 * bytes, NULL },
		{ 2, 2 * bytes - 1, "max_held_bytes allows no more" },
	};

	queue_hold(&fixture->queue, held);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct config_model section = {
			.max_held = rows[i].max_held,
			.max_held_bytes = rows[i].max_held_bytes,
		};
		struct request_refusal refusal = { .status = 0 };
		int r = request_check_room(request, &section, 7, &refusal);

		assert_int_equal(r, rows[i].why != NULL);
		assert_int_equal(refusal.status, rows[i].why ? 503 : 0);
		assert_int_equal(refusal.retry_after_s, rows[i].why ? 7 : 0);
		if (rows[i].why)
			assert_non_null(strstr(refusal.err.text, rows[i].why));
	}
	leave(held);
	leave(request);
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

/* Freed requests are the next ones, empty again; a burst does not stay. */
static void test_spares(void **state)
{
	static struct request *requests[300];
	struct fixture *fixture = *state;
	struct queue *queue = &fixture->queue;

	for (size_t i = 0; i < 300; i++) {
		requests[i] = queue_new_request(queue);
		assert_non_null(requests[i]);
		requests[i]->lease = 7;
	}
	for (size_t i = 0; i < 300; i++)
		queue_free_request(queue, requests[i]);
	assert_int_equal(queue->n_spares, 256);
	for (size_t i = 256; i > 0; i--) {
		struct request *request = queue_new_request(queue);

		assert_ptr_equal(request, requests[i - 1]);
		assert_int_equal(request->lease, 0);
		assert_ptr_equal(request->queue, queue);
	}
	assert_int_equal(queue->n_spares, 0);
	for (size_t i = 0; i < 256; i++)
		queue_free_request(queue, requests[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_suspects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timeouts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spares, setup, teardown),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
