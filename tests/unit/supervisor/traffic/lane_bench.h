/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bench for a lane: a queue on one side, and on the other a loader that the test plays. Every
 * failure ends the test. */

#include <stddef.h>
#include <stdint.h>

#include "supervisor/loop/pump.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"

#define LANE_BENCH_ANSWERS_BYTES ((size_t)64 * 1024)
#define LANE_BENCH_GENERATION    7u
#define LANE_BENCH_LEASES        4u
#define LANE_BENCH_ONE_PART      (PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST)

/* A case that finds a bench in *state. */
#define LANE_BENCH_TEST(test)                                                            \
	cmocka_unit_test_setup_teardown(test, lane_bench_enter, lane_bench_leave)

struct lane_bench {
	struct pump pump;
	struct queue queue;
	struct lane *lane;
	unsigned int n_looks; /* calls of the lane's callback */
	/* The loader's own mappings and views. */
	struct proto_rings *rings;
	unsigned char *answers;
	int loader_bell; /* eventfds */
	int supervisor_bell;
	struct ring submit;
	struct ring answer;
	struct ring release;
	uint64_t now_ns;
};

/* Setup and teardown of cmocka. The end fails when a request was lost. */
int lane_bench_enter(void **state);
int lane_bench_leave(void **state);

/* A request that has come in whole, younger than those before. */
struct request *lane_bench_request(struct lane_bench *bench);
/* One that the lane has taken. */
struct request *lane_bench_lease(struct lane_bench *bench);
/* Sends all that has come of the answer, and lets go of the request. */
void lane_bench_let_go(struct request *request);

/* The loader: a good answer to @request, in one part. */
struct proto_answer lane_bench_answer_of(const struct request *request);
void lane_bench_publish(struct lane_bench *bench, const struct proto_answer *answer);
/* Both of these, and the supervisor collects the answer. */
void lane_bench_answer(struct lane_bench *bench, const struct request *request);

/* The loader is gone: its leases fail, and the lane goes. */
void lane_bench_close(struct lane_bench *bench);
