/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/request.h"

/*
 * The state of a request, and the counters of its model, which change with it. Queue, lane
 * and answer.c all lead to other states; so this file lies below the three, and calls
 * none of them.
 */

static struct request_counts *state_counts(const struct request *request)
{
	return request->is_case ? &request->queue->case_counts : &request->queue->counts;
}

void request_count_failure(const struct request *request, enum request_failure failure)
{
	state_counts(request)->failures[failure]++;
}

void request_count_fault(const struct request *request)
{
	state_counts(request)->faults++;
}

static void state_leave(struct request *request, struct request_counts *counts,
                        enum request_state to)
{
	switch (request->state) {
	case REQUEST_RECEIVING:
		counts->accepted++;
		return;
	case REQUEST_HELD:
		counts->held--;
		counts->held_bytes -= request_bytes(request);
		return;
	case REQUEST_LEASED:
		counts->leased--;
		counts->replayed += to == REQUEST_HELD;
		return;
	case REQUEST_ANSWERED:
	case REQUEST_FAILED:
	case REQUEST_STATE_COUNT:
		assert(false);
	}
}

void request_set_state(struct request *request, enum request_state state)
{
	struct request_counts *counts = state_counts(request);

	state_leave(request, counts, state);
	request->state = state;
	switch (state) {
	case REQUEST_HELD:
		counts->held++;
		counts->held_bytes += request_bytes(request);
		return;
	case REQUEST_LEASED:
		counts->leased++;
		return;
	case REQUEST_ANSWERED:
		counts->answered++;
		return;
	case REQUEST_FAILED:
		counts->failed++;
		return;
	case REQUEST_RECEIVING:
	case REQUEST_STATE_COUNT:
		assert(false);
	}
}
