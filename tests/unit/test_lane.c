/* SPDX-License-Identifier: Apache-2.0 */

/* The data path to a loader: what it may say, what its word costs it, and what comes back. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/loop/pump.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"

#define REQUESTS_BYTES ((size_t)1 << 20)
#define ANSWERS_BYTES  ((size_t)64 * 1024)
#define GENERATION     7u
#define LEASES         4u
#define ONE_PART       (PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST)
#define COUNT(rows)    (sizeof(rows) / sizeof((rows)[0]))

struct fixture {
	struct pump pump;
	struct queue queue;
	struct lane *lane;
	unsigned int n_looks;
	/* The loader's own mappings and views. */
	struct proto_rings *rings;
	unsigned char *answers;
	int loader_bell;
	int supervisor_bell;
	struct ring submit;
	struct ring answer;
	struct ring release;
	uint64_t now_ns;
};

static void on_look(void *context)
{
	((struct fixture *)context)->n_looks++;
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fds[PROTO_LOAD_FD_COUNT];

	assert_non_null(fixture);
	pump_init(&fixture->pump, ev_loop_new(EVFLAG_AUTO));
	assert_int_equal(queue_init(&fixture->queue, &fixture->pump, "m", REQUESTS_BYTES,
	                            4096),
	                 0);
	assert_int_equal(lane_new(&fixture->lane, &fixture->queue, GENERATION, LEASES,
	                          ANSWERS_BYTES),
	                 0);
	lane_start(fixture->lane, on_look, fixture);
	lane_fds(fixture->lane, -1, fds);
	fixture->loader_bell = fds[PROTO_LOAD_FD_LOADER_BELL];
	fixture->supervisor_bell = fds[PROTO_LOAD_FD_SUPERVISOR_BELL];
	fixture->rings = mmap(NULL, proto_rings_bytes(LEASES), PROT_READ | PROT_WRITE,
	                      MAP_SHARED, fds[PROTO_LOAD_FD_RINGS], 0);
	fixture->answers = mmap(NULL, ANSWERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
	                        fds[PROTO_LOAD_FD_ANSWERS], 0);
	assert_true(fixture->rings != MAP_FAILED && fixture->answers != MAP_FAILED);
	proto_rings_attach(fixture->rings, LEASES, &fixture->submit, &fixture->answer,
	                   &fixture->release);
	*state = fixture;
	return 0;
}

static void on_lease_fail(void *context, struct request *request)
{
	(void)context;
	request_fail(request, REQUEST_FAILURE_CRASH);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	const struct request_counts *counts = &fixture->queue.counts;

	if (fixture->lane) {
		lane_close(fixture->lane, on_lease_fail, NULL);
		lane_unref(fixture->lane);
	}
	assert_true(TAILQ_EMPTY(&fixture->pump.clients));
	assert_int_equal(counts->accepted, counts->answered + counts->failed);
	queue_fini(&fixture->queue);
	(void)munmap(fixture->rings, proto_rings_bytes(LEASES));
	(void)munmap(fixture->answers, ANSWERS_BYTES);
	ev_loop_destroy(fixture->pump.loop);
	free(fixture);
	return 0;
}

/* Requests */

static void on_part(struct request *request, void *context)
{
	(void)request;
	(void)context;
}

static struct request *request_of(struct fixture *fixture)
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
	request->accepted_ns = ++fixture->now_ns;
	return request;
}

static struct request *lease(struct fixture *fixture)
{
	struct request *request = request_of(fixture);

	assert_int_equal(lane_submit(fixture->lane, request), 0);
	return request;
}

/* Sends all that has come of the answer, and lets go. */
static void leave(struct request *request)
{
	struct request_part *part;

	while ((part = request_take_part(request)))
		request_part_free(part);
	request_release(request);
}

/* The loader */

static struct proto_answer answer_of(const struct request *request)
{
	return (struct proto_answer){
		.lease = request->lease,
		.generation = GENERATION,
		.token = request->lease,
		.status = 200,
		.flags = ONE_PART,
		.body_bytes = 10,
	};
}

static void publish(struct fixture *fixture, const struct proto_answer *answer)
{
	assert_int_equal(ring_push(&fixture->answer, answer), 0);
}

static void answer_all_of(struct fixture *fixture, const struct request *request)
{
	const struct proto_answer answer = answer_of(request);

	publish(fixture, &answer);
	assert_int_equal(request_collect(fixture->lane, NULL), 0);
}

/* True: the eventfd was rung; silences it. */
static bool has_rung(int bell)
{
	uint64_t count;

	return read(bell, &count, sizeof(count)) == sizeof(count);
}

/* Leases */

static void test_a_lease(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = lease(fixture);
	struct proto_submit submit;

	assert_int_equal(request->state, REQUEST_LEASED);
	assert_ptr_equal(request->lane, fixture->lane);
	assert_int_equal(ring_pop(&fixture->submit, &submit), 0);
	assert_int_equal(submit.lease, request->lease);
	assert_int_equal(submit.generation, GENERATION);
	assert_int_equal(submit.kind, PROTO_SUBMIT_REQUEST);
	assert_int_equal(submit.accepted_ns, request->accepted_ns);
	assert_int_equal(submit.body_bytes, 3);
	assert_memory_equal((char *)fixture->queue.memory.base + submit.body_offset,
	                    "abc", 3);
	answer_all_of(fixture, request);
	assert_int_equal(request->state, REQUEST_ANSWERED);
	assert_int_equal(request->status, 200);
	assert_null(request->lane);
	leave(request);
}

/* There are so many leases, and a number is never used again. */
static void test_bound(void **state)
{
	struct fixture *fixture = *state;
	struct request *other = request_of(fixture);
	struct request *requests[LEASES];
	uint64_t past;

	for (size_t i = 0; i < LEASES; i++) {
		requests[i] = lease(fixture);
		assert_int_equal(lane_leased(fixture->lane), i + 1);
	}
	assert_int_equal(lane_submit(fixture->lane, other), LANE_E_FULL);
	assert_int_equal(other->state, REQUEST_RECEIVING);
	past = requests[2]->lease;
	answer_all_of(fixture, requests[2]);
	assert_int_equal(lane_leased(fixture->lane), LEASES - 1);
	assert_int_equal(lane_submit(fixture->lane, other), 0);
	assert_true(other->lease > requests[LEASES - 1]->lease);
	assert_true(other->lease != past);
	leave(other);
	for (size_t i = 0; i < LEASES; i++)
		leave(requests[i]);
}

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
	{ false, MEMBER(generation), GENERATION + 1, "generation 8" },
	{ false, MEMBER(lease), 0, "does not hold" },
	{ false, MEMBER(lease), UINT64_MAX, "does not hold" },
	{ false, MEMBER(status), 199, "status 199" },
	{ false, MEMBER(status), 599, NULL },
	{ false, MEMBER(status), 600, "status 600" },
	{ false, MEMBER(flags), 0, "out of order" },
	{ false, MEMBER(flags), PROTO_ANSWER_LAST, "out of order" },
	{ false, MEMBER(flags), ONE_PART | 16, "out of order" },
	{ false, MEMBER(flags), PROTO_ANSWER_FIRST | PROTO_ANSWER_EXECUTION,
	  "out of order" },
	{ false, MEMBER(flags), ONE_PART | PROTO_ANSWER_FAULT | PROTO_ANSWER_EXECUTION,
	  NULL },
	{ false, MEMBER(rows), 1, "1 rows names a batch of 0" },
	{ false, MEMBER(batch_rows), 3, NULL },
	{ false, MEMBER(head_bytes), PROTO_HEAD_MAX + 1, "outside" },
	{ false, MEMBER(head_offset), ANSWERS_BYTES, NULL },
	{ false, MEMBER(head_offset), ANSWERS_BYTES + 1, "outside" },
	{ false, MEMBER(body_offset), ANSWERS_BYTES - 10, NULL },
	{ false, MEMBER(body_offset), ANSWERS_BYTES - 9, "outside" },
	{ false, MEMBER(body_offset), UINT64_MAX - 5, "outside" },
	{ false, MEMBER(body_bytes), ANSWERS_BYTES, NULL },
	{ false, MEMBER(body_bytes), ANSWERS_BYTES + 1, "outside" },
	{ false, MEMBER(body_bytes), UINT64_MAX, "outside" },
	{ true, MEMBER(status), 0, NULL },
	{ true, MEMBER(status), 200, "status 200" },
	{ true, MEMBER(head_bytes), 1, "status 0" },
	{ true, MEMBER(flags), 0, NULL },
	{ true, MEMBER(flags), PROTO_ANSWER_FIRST, "out of order" },
	{ true, MEMBER(flags), PROTO_ANSWER_LAST | PROTO_ANSWER_FAULT, "out of order" },
	{ true, MEMBER(flags), PROTO_ANSWER_LAST | PROTO_ANSWER_EXECUTION, NULL },
};

static void say(struct fixture *fixture, const struct request *request,
                const struct word *word)
{
	struct proto_answer answer = answer_of(request);

	if (word->is_later) {
		answer.flags = PROTO_ANSWER_FIRST;
		publish(fixture, &answer);
		answer.flags = PROTO_ANSWER_LAST;
		answer.status = 0;
	}
	memcpy((char *)&answer + word->offset, &word->value, word->bytes);
	publish(fixture, &answer);
}

/* The first wrong word ends the lane. What came before is delivered, and the rest of the
 * leases come back. */
static void test_words(void **state)
{
	for (size_t i = 0; i < COUNT(words); i++) {
		struct err err = ERR_NULL;
		struct fixture *fixture;
		struct request *before;
		struct request *request;

		assert_int_equal(setup(state), 0);
		fixture = *state;
		before = lease(fixture);
		request = lease(fixture);
		publish(fixture, &(struct proto_answer){
					 .lease = before->lease,
					 .generation = GENERATION,
					 .status = 200,
					 .flags = ONE_PART,
				 });
		say(fixture, request, &words[i]);
		assert_int_equal(request_collect(fixture->lane, &err),
		                 words[i].why ? LANE_E_VIOLATION : 0);
		assert_int_equal(before->state, REQUEST_ANSWERED);
		if (words[i].why) {
			assert_non_null(strstr(err.text, words[i].why));
			assert_int_equal(request->state, REQUEST_LEASED);
			assert_int_equal(request_collect(fixture->lane, &err),
			                 LANE_E_VIOLATION);
		}
		leave(before);
		leave(request);
		assert_int_equal(teardown(state), 0);
	}
}

/* A lease that has ended, or whose slot has another number. */
static void test_past_leases(void **state)
{
	for (int is_again = 0; is_again <= 1; is_again++) {
		struct fixture *fixture;
		struct request *request;
		struct request *next;
		struct proto_answer answer;

		assert_int_equal(setup(state), 0);
		fixture = *state;
		request = lease(fixture);
		answer = answer_of(request);
		answer_all_of(fixture, request);
		next = is_again ? lease(fixture) : request_of(fixture);
		publish(fixture, &answer);
		assert_int_equal(request_collect(fixture->lane, NULL), LANE_E_VIOLATION);
		assert_int_equal(next->state,
		                 is_again ? REQUEST_LEASED : REQUEST_RECEIVING);
		leave(request);
		leave(next);
		assert_int_equal(teardown(state), 0);
	}
}

static void test_too_many_parts(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = lease(fixture);
	struct proto_answer answer = answer_of(request);
	struct err err = ERR_NULL;

	answer.flags = PROTO_ANSWER_FIRST;
	for (uint32_t i = 0; i < proto_parts_max(LEASES); i++) {
		publish(fixture, &answer);
		assert_int_equal(request_collect(fixture->lane, &err), 0);
		answer.flags = 0;
		answer.status = 0;
	}
	publish(fixture, &answer);
	assert_int_equal(request_collect(fixture->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "more parts"));
	leave(request);
}

static void test_impossible_index(void **state)
{
	struct fixture *fixture = *state;
	struct err err = ERR_NULL;

	atomic_store(&fixture->answer.shared->produced, proto_parts_max(LEASES) + 1);
	assert_int_equal(request_collect(fixture->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "index cannot be"));
}

/* A loader that takes nothing, and says that it does. */
static void test_full_ring(void **state)
{
	struct fixture *fixture = *state;
	struct request *request;
	struct err err = ERR_NULL;

	for (uint32_t i = 0; i < LEASES * 2; i++) {
		request = lease(fixture);
		answer_all_of(fixture, request);
		leave(request);
	}
	request = request_of(fixture);
	assert_int_equal(lane_submit(fixture->lane, request), LANE_E_VIOLATION);
	assert_int_equal(request->state, REQUEST_RECEIVING);
	assert_int_equal(lane_leased(fixture->lane), 0);
	leave(request);
	assert_int_equal(request_collect(fixture->lane, &err), LANE_E_VIOLATION);
	assert_non_null(strstr(err.text, "full or corrupt"));
}

/* Whose client has left */

static void test_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = lease(fixture);
	struct proto_answer answer = answer_of(request);
	struct proto_submit submit;

	assert_int_equal(ring_pop(&fixture->submit, &submit), 0);
	leave(request);
	/* The loader still reads the body: the lease stays. */
	assert_int_equal(lane_leased(fixture->lane), 1);
	assert_int_equal(ring_pop(&fixture->submit, &submit), 0);
	assert_int_equal(submit.kind, PROTO_SUBMIT_CANCEL);
	assert_int_equal(submit.lease, answer.lease);
	answer.status = 499;
	publish(fixture, &answer);
	assert_int_equal(request_collect(fixture->lane, NULL), 0);
	assert_int_equal(lane_leased(fixture->lane), 0);
	assert_int_equal(fixture->queue.counts.failures[REQUEST_FAILURE_LEFT], 1);
	assert_int_equal(fixture->queue.arena.used_bytes, 0);
}

/* The deadline of a leased request: its client is told, and what the loader says later is
 * dropped. */
static void test_deadline(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = request_of(fixture);
	struct proto_submit submit;
	struct request_part *part;

	request_complete(request, CLOCK_NS_PER_SEC);
	assert_int_equal(lane_submit(fixture->lane, request), 0);
	request_start_deadline(request);
	ev_invoke(fixture->pump.loop, &request->deadline, EV_TIMER);
	assert_int_equal(request->status, 504);
	assert_int_equal(request->state, REQUEST_LEASED);
	part = request_take_part(request);
	assert_non_null(strstr(part->text, "(request_timeout)"));
	request_part_free(part);
	assert_int_equal(ring_pop(&fixture->submit, &submit), 0);
	assert_int_equal(ring_pop(&fixture->submit, &submit), 0);
	assert_int_equal(submit.kind, PROTO_SUBMIT_CANCEL);
	answer_all_of(fixture, request);
	assert_int_equal(request->state, REQUEST_FAILED);
	assert_null(request_take_part(request));
	assert_int_equal(fixture->queue.counts.failures[REQUEST_FAILURE_DEADLINE], 1);
	leave(request);
	assert_int_equal(ring_pop(&fixture->submit, &submit), RING_E_EMPTY);
}

/* Parts that were sent */

static void test_release(void **state)
{
	struct fixture *fixture = *state;
	struct request *busy = lease(fixture);
	struct request *request = lease(fixture);
	struct proto_answer answer = answer_of(request);
	struct proto_release release;
	struct request_part *part;

	answer.body_bytes = ANSWERS_BYTES / 2 + 1;
	fixture->answers[0] = 'x';
	publish(fixture, &answer);
	assert_false(lane_waits_for_readers(fixture->lane));
	assert_int_equal(request_collect(fixture->lane, NULL), 0);
	assert_true(lane_waits_for_readers(fixture->lane));
	part = request_take_part(request);
	assert_true(part->is_last && part->body_bytes == answer.body_bytes);
	assert_int_equal(*(const char *)part->body, 'x');
	assert_int_equal(ring_pop(&fixture->release, &release), RING_E_EMPTY);
	request_part_free(part);
	assert_int_equal(ring_pop(&fixture->release, &release), 0);
	assert_int_equal(release.token, answer.token);
	assert_false(lane_waits_for_readers(fixture->lane));
	leave(request);
	leave(busy);
}

/* A part that is being sent outlives loader and lane. */
static void test_part_after_close(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = lease(fixture);
	struct proto_release release;
	struct request_part *part;

	fixture->answers[0] = 'x';
	answer_all_of(fixture, request);
	part = request_take_part(request);
	lane_close(fixture->lane, on_lease_fail, NULL);
	lane_unref(fixture->lane);
	fixture->lane = NULL;
	assert_int_equal(*(const char *)part->body, 'x');
	request_part_free(part);
	assert_int_equal(ring_pop(&fixture->release, &release), RING_E_EMPTY);
	leave(request);
}

/* The end */

struct lost {
	struct request *requests[LEASES];
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
	struct fixture *fixture = *state;
	struct request *requests[LEASES + 1];
	struct lost lost = { .n = 0 };

	for (size_t i = 0; i < LEASES; i++)
		requests[i] = lease(fixture);
	answer_all_of(fixture, requests[1]);
	requests[LEASES] = lease(fixture);
	lane_close(fixture->lane, on_lease, &lost);
	assert_int_equal(lane_leased(fixture->lane), 0);
	assert_int_equal(lost.n, LEASES);
	assert_int_equal(fixture->queue.counts.replayed, LEASES);
	leave(requests[1]);
	requests[1] = requests[0];
	for (size_t i = 0; i < LEASES; i++) {
		assert_ptr_equal(lost.requests[i], requests[LEASES - i]);
		assert_ptr_equal(queue_next(&fixture->queue, 1), requests[1 + i]);
		leave(requests[1 + i]);
	}
	lane_close(fixture->lane, on_lease, &lost);
	assert_int_equal(lost.n, LEASES);
}

static void test_suspect(void **state)
{
	struct fixture *fixture = *state;
	struct request *request = request_of(fixture);

	queue_set_suspect(request, true);
	assert_false(lane_has_suspect(fixture->lane));
	assert_int_equal(lane_submit(fixture->lane, request), 0);
	assert_true(lane_has_suspect(fixture->lane));
	answer_all_of(fixture, request);
	assert_false(lane_has_suspect(fixture->lane));
	leave(request);
}

/* Who may be to blame: the loader says how far it had come. */
static void test_begun(void **state)
{
	struct fixture *fixture = *state;
	struct request *first = lease(fixture);
	struct request *second = lease(fixture);
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
		atomic_store(&fixture->rings->begun, rows[i].begun);
		assert_int_equal(lane_has_begun(fixture->lane, first->lease),
		                 rows[i].has_first);
		assert_int_equal(lane_has_begun(fixture->lane, second->lease),
		                 rows[i].has_second);
	}
	leave(first);
	leave(second);
}

/* The pump and the bells */

/* True: the lane is called in this round. */
static bool is_looked_at(struct fixture *fixture)
{
	unsigned int n_looks = fixture->n_looks;

	pump_wake(&fixture->pump);
	return fixture->n_looks > n_looks;
}

static void test_idle_lane_costs_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct request *request;

	assert_true(pump_block(&fixture->pump));
	assert_false(is_looked_at(fixture));
	request = lease(fixture);
	for (int i = 0; i < 3; i++) {
		assert_true(pump_block(&fixture->pump));
		assert_true(is_looked_at(fixture));
	}
	answer_all_of(fixture, request);
	assert_true(pump_block(&fixture->pump));
	assert_false(is_looked_at(fixture));
	/* The part's place is news for the loader, once. */
	leave(request);
	assert_false(TAILQ_EMPTY(&fixture->pump.clients));
	assert_true(pump_block(&fixture->pump));
	assert_true(TAILQ_EMPTY(&fixture->pump.clients));
}

/* The loader's bell rings when the loader sleeps, and once for all that is new. */
static void test_loader_bell(void **state)
{
	struct fixture *fixture = *state;
	struct request *requests[2];

	requests[0] = lease(fixture);
	(void)pump_block(&fixture->pump);
	assert_false(has_rung(fixture->loader_bell));
	assert_false(ring_sleep(&fixture->submit));
	(void)ring_pop(&fixture->submit, &(struct proto_submit){ .lease = 0 });
	assert_true(ring_sleep(&fixture->submit));
	(void)pump_block(&fixture->pump);
	assert_false(has_rung(fixture->loader_bell));
	requests[1] = lease(fixture);
	lane_cancel(fixture->lane, requests[0]);
	(void)pump_block(&fixture->pump);
	assert_true(has_rung(fixture->loader_bell));
	(void)pump_block(&fixture->pump);
	assert_false(has_rung(fixture->loader_bell));
	leave(requests[0]);
	leave(requests[1]);
}

/* Before the loop blocks the loader is told to ring; an answer that came before that keeps the
 * loop from blocking. */
static void test_supervisor_bell(void **state)
{
	struct fixture *fixture = *state;
	const uint64_t one = 1;
	struct request *request = lease(fixture);
	struct proto_answer answer = answer_of(request);

	assert_true(pump_block(&fixture->pump));
	publish(fixture, &answer);
	assert_true(ring_wants_bell(&fixture->answer));
	assert_false(pump_block(&fixture->pump));
	assert_true(is_looked_at(fixture));
	assert_int_equal(request_collect(fixture->lane, NULL), 0);
	leave(request);
	assert_true(pump_block(&fixture->pump));
	assert_true(TAILQ_EMPTY(&fixture->pump.clients));
	/* A bell has even an idle lane looked at. */
	assert_int_equal(write(fixture->supervisor_bell, &one, sizeof(one)), sizeof(one));
	(void)ev_run(fixture->pump.loop, EVRUN_NOWAIT);
	assert_true(is_looked_at(fixture));
	assert_false(has_rung(fixture->supervisor_bell));
}

int main(void)
{
#define WITH_LANE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_LANE(test_a_lease),
		WITH_LANE(test_bound),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_past_leases),
		WITH_LANE(test_too_many_parts),
		WITH_LANE(test_impossible_index),
		WITH_LANE(test_full_ring),
		WITH_LANE(test_cancel),
		WITH_LANE(test_deadline),
		WITH_LANE(test_release),
		WITH_LANE(test_part_after_close),
		WITH_LANE(test_close_order),
		WITH_LANE(test_suspect),
		WITH_LANE(test_begun),
		WITH_LANE(test_idle_lane_costs_nothing),
		WITH_LANE(test_loader_bell),
		WITH_LANE(test_supervisor_bell),
	};

	return cmocka_run_group_tests_name("lane", tests, NULL, NULL);
}
