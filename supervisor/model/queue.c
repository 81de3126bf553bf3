/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The requests of a model: held, leased, replayed, failed. poison.c finds who is to blame
 * for the death of a loader; here a suspect is leased with nothing beside it.
 *
 * A request comes in through model_begin() and model_submit(): it is leased at once, held
 * if the pause is expected to end within its deadline, or refused. model_dispatch()
 * leases held requests whenever there may be room: after answers, after a change of
 * state, after a death. model_on_state() passes news of generations on to reload/ and
 * keeps the account of pauses (figures/hold.h).
 */

#include <stddef.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model/model_state.h"
#include "supervisor/traffic/parameters.h"

/* Retry-After of a model that only a new input can help: no time can be named. */
#define MODEL_HELPLESS_NS    (60 * CLOCK_NS_PER_SEC)
#define MODEL_GIVE_UP_REASON "moultd ends and waits no longer (shutdown_timeout)"

static struct model *model_of(struct queue *queue)
{
	return (struct model *)((char *)queue - offsetof(struct model, queue));
}

/* Pauses */

static uint64_t model_backoff_ns(struct model *model)
{
	return (uint64_t)(1e9 * ev_timer_remaining(model->context.loop, &model->restart));
}

static uint64_t model_left_ns(struct model *model, uint64_t now_ns)
{
	hold_attempt(&model->hold, ev_is_active(&model->restart)
	                                   ? now_ns + model_backoff_ns(model)
	                                   : model->reload.started_ns);
	return hold_left_ns(&model->hold, now_ns);
}

static void model_note_active(struct model *model)
{
	unsigned int recovery = 1u << MODEL_CAUSE_CRASH | 1u << MODEL_CAUSE_REBUILD |
	                        1u << MODEL_CAUSE_START;

	if (!model->fleet.active || model->served == model->fleet.active->number)
		return;
	model->served = model->fleet.active->number;
	if (model->reload.causes & ~recovery)
		model_forget_poison(model);
	hold_attempt(&model->hold, model->reload.started_ns);
	hold_end(&model->hold, clock_now_ns());
}

void model_on_state(void *context, struct generation *generation,
                    enum generation_state from)
{
	struct model *model = context;

	reload_on_state(context, generation, from);
	model_note_active(model);
	if (!model->fleet.active && model->served)
		hold_begin(&model->hold,
		           generation->entered_ns[GENERATION_DRAINING] ? HOLD_CAUSE_RELOAD
		                                                       : HOLD_CAUSE_CRASH,
		           clock_now_ns());
}

/* Rounds up to seconds, as Retry-After has it. */
static unsigned int model_retry_after_s(uint64_t left_ns)
{
	uint64_t left_s = (left_ns + CLOCK_NS_PER_SEC - 1) / CLOCK_NS_PER_SEC;

	return left_s < 1 ? 1 : left_s > 3600 ? 3600 : (unsigned int)left_s;
}

/* When a client is to come again, while nothing is expected to serve soon. */
static unsigned int model_down_retry_s(struct model *model)
{
	if (model->is_stopping)
		return 1;
	return model_retry_after_s(ev_is_active(&model->restart) ? model_backoff_ns(model)
	                                                         : MODEL_HELPLESS_NS);
}

/* The ways to fail */

void model_fail_request(struct request *request, enum request_failure failure,
                        unsigned int status, const char *reason)
{
	bool is_waited_for = request->has_owner && !request->is_expired;
	unsigned int retry_after_s = 0;

	if (failure == REQUEST_FAILURE_DOWN)
		retry_after_s = model_down_retry_s(model_of(request->queue));
	/* Without an owner this frees the request. */
	request_fail(request, failure);
	if (is_waited_for)
		request_answer_error(request, status, retry_after_s, "%s", reason);
}

static struct request *model_first(struct model *model)
{
	struct request *suspect = queue_first_suspect(&model->queue);

	return suspect ? suspect : queue_first(&model->queue);
}

void model_fail_held(struct model *model, const char *reason)
{
	struct request *request;

	while ((request = model_first(model))) {
		queue_take(&model->queue, request);
		model_fail_request(request, REQUEST_FAILURE_DOWN, 503, reason);
	}
}

/* Answers the owner of a leased @request: nobody waits for the loader any more. The
 * loader still reads the arena, so the lease ends when the loader says so. */
static void model_expire(struct request *request, unsigned int status,
                         unsigned int retry_after_s, const char *reason)
{
	lane_cancel(request->lane, request);
	request->is_expired = true;
	request_answer_error(request, status, retry_after_s, "%s", reason);
}

static void model_give_up_leased(void *context, struct request *request)
{
	(void)context;
	if (request->has_owner && !request->is_expired)
		model_expire(request, 503, 1, MODEL_GIVE_UP_REASON);
}

void model_give_up(struct model *model)
{
	struct generation *list[FLEET_MAX];
	size_t n = fleet_list(&model->fleet, list);

	model_fail_held(model, MODEL_GIVE_UP_REASON);
	for (size_t i = 0; i < n; i++)
		if (list[i] != model->fleet.candidate)
			lane_visit(list[i]->lane, model_give_up_leased, NULL);
}

static void model_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct request *request = timer->data;
	char reason[ERR_TEXT_MAX];

	(void)loop;
	(void)revents;
	if (request->state == REQUEST_HELD) {
		(void)snprintf(reason, sizeof(reason),
		               "no loader could take the request before its deadline "
		               "(%s)",
		               request->timeout_name);
		queue_take(request->queue, request);
		model_fail_request(request, REQUEST_FAILURE_DEADLINE, 504, reason);
		return;
	}
	(void)snprintf(reason, sizeof(reason),
	               "the model did not answer before the request's deadline (%s)",
	               request->timeout_name);
	model_expire(request, 504, 0, reason);
}

/* Leasing */

/* The request that @loader may be leased now, or NULL. */
static struct request *model_next(struct model *model, const struct generation *loader)
{
	struct request *suspect = queue_first_suspect(&model->queue);

	if (suspect)
		return lane_leased(loader->lane) == 0 ? suspect : NULL;
	return queue_first(&model->queue);
}

void model_dispatch(struct model *model)
{
	struct generation *loader;
	struct request *request;

	model_note_active(model);
	while ((loader = fleet_pick(&model->fleet)) &&
	       (request = model_next(model, loader))) {
		if (generation_submit(loader, request) != 0)
			return;
		queue_take(&model->queue, request);
	}
}

void model_on_answers(void *context, struct generation *generation)
{
	struct model *model = context;

	(void)generation;
	model_dispatch(model);
}

/* A request comes in */

int model_begin(struct model *model, const struct request_start *start,
                struct request **ret_request, struct request_refusal *refusal)
{
	if (model->is_stopping)
		return request_refuse(refusal, 503, 1, "model '%s' is being stopped",
		                      model->name);
	return request_new(ret_request, &model->queue, start, refusal);
}

/* Asks whether the request's time is worth waiting for the end of the pause. */
static int model_may_pause(struct model *model, const struct request *request,
                           uint64_t *ret_left_ns, struct request_refusal *refusal)
{
	*ret_left_ns = 0;
	if (model->fleet.active)
		return 0;
	if (!reload_is_expected(model))
		return request_refuse(refusal, 503, model_down_retry_s(model),
		                      "model '%s' does not serve: %s", model->name,
		                      model_public_error(model));
	*ret_left_ns = model_left_ns(model, request->accepted_ns);
	if (*ret_left_ns < request->timeout_ns)
		return 0;
	return request_refuse(
		refusal, 503, model_retry_after_s(*ret_left_ns),
		"model '%s' is expected to serve in %.1f s and the request can wait for "
		"%.1f s (%s)",
		model->name, (double)*ret_left_ns / 1e9,
		(double)request->timeout_ns / 1e9, request->timeout_name);
}

static int model_may_hold(struct model *model, const struct request *request,
                          struct request_refusal *refusal)
{
	const struct config_model *section = model->section;
	const struct request_counts *counts = &model->queue.counts;
	uint64_t left_ns;
	int r;

	if (model->is_stopping)
		return request_refuse(refusal, 503, 1, "model '%s' is being stopped",
		                      model->name);
	r = model_may_pause(model, request, &left_ns, refusal);
	if (r)
		return r;
	if (counts->held >= section->max_held)
		return request_refuse(refusal, 503, model_retry_after_s(left_ns),
		                      "model '%s' has %llu requests waiting, as many as "
		                      "max_held allows",
		                      model->name, (unsigned long long)counts->held);
	if (counts->held_bytes + request_bytes(request) > section->max_held_bytes)
		return request_refuse(
			refusal, 503, model_retry_after_s(left_ns),
			"model '%s' has %llu bytes of requests waiting, and "
			"max_held_bytes allows no more",
			model->name, (unsigned long long)counts->held_bytes);
	return 0;
}

static void model_shorten(struct request *request, uint64_t timeout_ns, const char *name)
{
	if (timeout_ns >= request->timeout_ns)
		return;
	request->timeout_ns = timeout_ns;
	request->timeout_name = name;
}

/* Leases @request without going through the queue; false: it cannot be. */
static bool model_lease(const struct model *model, struct request *request)
{
	struct generation *loader = fleet_pick(&model->fleet);

	return loader && queue_is_empty(&model->queue) &&
	       (!request->is_suspect || lane_leased(loader->lane) == 0) &&
	       generation_submit(loader, request) == 0;
}

/* The shortest of the timeouts of head, body and configuration makes the deadline. */
static void model_set_deadline(struct model *model, struct request *request)
{
	struct parameters parameters = { 0 };

	model_shorten(request, model->section->request_timeout_ns, "request_timeout");
	if (!request->is_encoded)
		parameters_read(&parameters, queue_body(&model->queue, request),
		                queue_json_bytes(request));
	if (parameters.timeout_ns > 0)
		model_shorten(request, parameters.timeout_ns, "parameter timeout");
	request->level = queue_level(parameters.priority);
	request->accepted_ns = clock_now_ns();
	request->deadline_ns = request->accepted_ns + request->timeout_ns;
	ev_timer_init(&request->deadline, model_on_deadline,
	              (double)request->timeout_ns / 1e9, 0.);
	request->deadline.data = request;
}

int model_submit(struct request *request, struct request_refusal *refusal)
{
	struct queue *queue = request->queue;
	struct model *model = model_of(queue);
	int r;

	model_set_deadline(model, request);
	r = model_refuse_poison(model, request, refusal);
	if (r)
		return r;
	request->is_suspect = queue_is_suspicious(queue, request);
	if (!model_lease(model, request)) {
		r = model_may_hold(model, request, refusal);
		if (r)
			return r;
		queue_hold(queue, request);
	}
	ev_timer_start(queue->loop, &request->deadline);
	return 0;
}

json_t *model_hold_to_json(struct model *model)
{
	uint64_t now_ns = clock_now_ns();

	(void)model_left_ns(model, now_ns);
	return hold_to_json(&model->hold, now_ns);
}
