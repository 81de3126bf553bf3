/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The requests of a model: held, leased, replayed, failed. poison.c finds who is to blame
 * for the death of a loader; here a suspect is leased with nothing beside it.
 *
 * A request comes in through model_begin() and model_submit(): it is leased at once, held
 * if the pause is expected to end within its deadline, or refused. model_dispatch()
 * leases held requests whenever there may be room: after answers, after a change of
 * state, after a death. model_note_state() keeps the account of pauses (figures/hold.h).
 */

#include <stddef.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model/members.h"
#include "supervisor/model/requests.h"

#define MODEL_GIVE_UP_REASON "moultd ends and waits no longer (shutdown_timeout)"

/* Pauses */

static uint64_t model_left_ns(struct model *model, uint64_t now_ns)
{
	hold_attempt(&model->hold, ev_is_active(&model->retry.restart)
	                                   ? now_ns + model_backoff_ns(model)
	                                   : model->reload.started_ns);
	return hold_left_ns(&model->hold, now_ns);
}

static void model_note_active(struct model *model)
{
	unsigned int recovery = RELOAD_RECOVERY | RELOAD_CAUSE(MODEL_CAUSE_START);

	if (!model->fleet.active || model->served == model->fleet.active->number)
		return;
	model->served = model->fleet.active->number;
	if (model->reload.causes & ~recovery)
		model_forget_poison(model);
	hold_attempt(&model->hold, model->reload.started_ns);
	hold_end(&model->hold, clock_now_ns());
}

void model_note_state(struct model *model, const struct generation *generation)
{
	model_note_active(model);
	if (!model->fleet.active && model->served)
		hold_begin(&model->hold,
		           generation->entered_ns[GENERATION_DRAINING] ? HOLD_CAUSE_RELOAD
		                                                       : HOLD_CAUSE_CRASH,
		           clock_now_ns());
}

/* The end of moultd, and of a request's time */

static void model_give_up_leased(void *context, struct request *request)
{
	(void)context;
	if (request->has_owner && !request->is_expired)
		request_expire(request, 503, 1, MODEL_GIVE_UP_REASON);
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

/* Leasing */

void model_dispatch(struct model *model)
{
	struct generation *loader;
	struct request *request;

	model_note_active(model);
	while ((loader = fleet_pick(&model->fleet)) &&
	       (request = queue_next(&model->queue, lane_leased(loader->lane)))) {
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
		                      model_public_reason(model));
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
	uint64_t left_ns;
	int r;

	if (model->is_stopping)
		return request_refuse(refusal, 503, 1, "model '%s' is being stopped",
		                      model->name);
	r = model_may_pause(model, request, &left_ns, refusal);
	if (r)
		return r;
	return request_check_room(request, model->section, model_retry_after_s(left_ns),
	                          refusal);
}

/* Leases @request without going through the queue; false: it cannot be. */
static bool model_lease(const struct model *model, struct request *request)
{
	struct generation *loader = fleet_pick(&model->fleet);

	return loader && queue_is_empty(&model->queue) &&
	       (!request->is_suspect || lane_leased(loader->lane) == 0) &&
	       generation_submit(loader, request) == 0;
}

int model_submit(struct request *request, struct request_refusal *refusal)
{
	struct queue *queue = request->queue;
	struct model *model = model_of(queue);
	int r;

	request_complete(request, model->section->request_timeout_ns);
	r = model_refuse_poison(model, request, refusal);
	if (r)
		return r;
	queue_set_suspect(request, queue_is_suspicious(queue, request));
	if (!model_lease(model, request)) {
		r = model_may_hold(model, request, refusal);
		if (r)
			return r;
		queue_hold(queue, request);
	}
	request_start_deadline(request);
	return 0;
}

json_t *model_hold_to_json(struct model *model)
{
	uint64_t now_ns = clock_now_ns();

	(void)model_left_ns(model, now_ns);
	return hold_to_json(&model->hold, now_ns);
}
