/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/supervisor/traffic/lane_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#define REQUESTS_BYTES ((size_t)1 << 20)

static void on_look(void *context)
{
	((struct lane_bench *)context)->n_looks++;
}

int lane_bench_enter(void **state)
{
	struct lane_bench *bench = calloc(1, sizeof(*bench));
	int fds[PROTO_LOAD_FD_COUNT];

	assert_non_null(bench);
	pump_init(&bench->pump, ev_loop_new(EVFLAG_AUTO));
	assert_int_equal(queue_init(&bench->queue, &bench->pump, "m", REQUESTS_BYTES,
	                            4096),
	                 0);
	assert_int_equal(lane_new(&bench->lane, &bench->queue, LANE_BENCH_GENERATION,
	                          LANE_BENCH_LEASES, LANE_BENCH_ANSWERS_BYTES),
	                 0);
	lane_start(bench->lane, on_look, bench);
	lane_fds(bench->lane, -1, fds);
	bench->loader_bell = fds[PROTO_LOAD_FD_LOADER_BELL];
	bench->supervisor_bell = fds[PROTO_LOAD_FD_SUPERVISOR_BELL];
	bench->rings =
		mmap(NULL, proto_rings_bytes(LANE_BENCH_LEASES), PROT_READ | PROT_WRITE,
	             MAP_SHARED, fds[PROTO_LOAD_FD_RINGS], 0);
	bench->answers = mmap(NULL, LANE_BENCH_ANSWERS_BYTES, PROT_READ | PROT_WRITE,
	                      MAP_SHARED, fds[PROTO_LOAD_FD_ANSWERS], 0);
	assert_true(bench->rings != MAP_FAILED && bench->answers != MAP_FAILED);
	proto_rings_attach(bench->rings, LANE_BENCH_LEASES, &bench->submit,
	                   &bench->answer, &bench->release);
	*state = bench;
	return 0;
}

static void on_lease_fail(void *context, struct request *request)
{
	(void)context;
	request_fail(request, REQUEST_FAILURE_CRASH);
}

void lane_bench_close(struct lane_bench *bench)
{
	lane_close(bench->lane, on_lease_fail, NULL);
	lane_unref(bench->lane);
	bench->lane = NULL;
}

int lane_bench_leave(void **state)
{
	struct lane_bench *bench = *state;
	const struct request_counts *counts = &bench->queue.counts;

	if (bench->lane)
		lane_bench_close(bench);
	assert_true(TAILQ_EMPTY(&bench->pump.clients));
	assert_int_equal(counts->accepted, counts->answered + counts->failed);
	queue_fini(&bench->queue);
	(void)munmap(bench->rings, proto_rings_bytes(LANE_BENCH_LEASES));
	(void)munmap(bench->answers, LANE_BENCH_ANSWERS_BYTES);
	ev_loop_destroy(bench->pump.loop);
	free(bench);
	return 0;
}

/* Requests */

static void on_part(struct request *request, void *context)
{
	(void)request;
	(void)context;
}

struct request *lane_bench_request(struct lane_bench *bench)
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

	assert_int_equal(request_new(&request, &bench->queue, &start, &refusal), 0);
	assert_int_equal(request_append(request, "abc", 3, &refusal), 0);
	request->accepted_ns = ++bench->now_ns;
	return request;
}

struct request *lane_bench_lease(struct lane_bench *bench)
{
	struct request *request = lane_bench_request(bench);

	assert_int_equal(lane_submit(bench->lane, request), 0);
	return request;
}

void lane_bench_let_go(struct request *request)
{
	struct request_part *part;

	while ((part = request_take_part(request)))
		request_part_free(part);
	request_release(request);
}

/* The loader */

struct proto_answer lane_bench_answer_of(const struct request *request)
{
	return (struct proto_answer){
		.lease = request->lease,
		.generation = LANE_BENCH_GENERATION,
		.token = request->lease,
		.status = 200,
		.flags = LANE_BENCH_ONE_PART,
		.body_bytes = 10,
	};
}

void lane_bench_publish(struct lane_bench *bench, const struct proto_answer *answer)
{
	assert_int_equal(ring_push(&bench->answer, answer), 0);
}

void lane_bench_answer(struct lane_bench *bench, const struct request *request)
{
	const struct proto_answer answer = lane_bench_answer_of(request);

	lane_bench_publish(bench, &answer);
	assert_int_equal(request_collect(bench->lane, NULL), 0);
}
