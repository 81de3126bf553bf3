/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ways in which a request fails, and when its client is to come again.
 */

#include <stddef.h>

#include "shared/clock.h"
#include "supervisor/model/members.h"
#include "supervisor/model/requests.h"

/* Retry-After of a model that only a new input can help: no time can be named. */
#define MODEL_HELPLESS_NS (60 * CLOCK_NS_PER_SEC)

uint64_t model_backoff_ns(struct model *model)
{
	return (uint64_t)(1e9 *
	                  ev_timer_remaining(model->context.loop, &model->retry.restart));
}

/* Rounds up to seconds, as Retry-After has it. */
unsigned int model_retry_after_s(uint64_t left_ns)
{
	uint64_t left_s = (left_ns + CLOCK_NS_PER_SEC - 1) / CLOCK_NS_PER_SEC;

	return left_s < 1 ? 1 : left_s > 3600 ? 3600 : (unsigned int)left_s;
}

/* When a client is to come again, while nothing is expected to serve soon. */
unsigned int model_down_retry_s(struct model *model)
{
	if (model->is_stopping)
		return 1;
	return model_retry_after_s(ev_is_active(&model->retry.restart)
	                                   ? model_backoff_ns(model)
	                                   : MODEL_HELPLESS_NS);
}

void model_fail_request(struct request *request, enum request_failure failure,
                        unsigned int status, const char *reason)
{
	unsigned int retry_after_s = 0;

	if (failure == REQUEST_FAILURE_DOWN)
		retry_after_s = model_down_retry_s(model_of(request->queue));
	request_give_up(request, failure, status, retry_after_s, reason);
}

void model_fail_held(struct model *model, const char *reason)
{
	struct request *request;

	while ((request = queue_next(&model->queue, 0))) {
		queue_take(&model->queue, request);
		model_fail_request(request, REQUEST_FAILURE_DOWN, 503, reason);
	}
}
