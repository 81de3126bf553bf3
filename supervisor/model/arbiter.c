/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Before the watch window takes a deployment back, some of the requests that the serving
 * generation failed on are asked of what served before. If that fails on them too, the
 * requests are to blame and the deployment stays.
 *
 * What served before is gone as a process. The rollback's candidate is the same again:
 * when it is READY, and before it takes any traffic, it is leased the kept requests, one
 * after the other. The requests are like all others but for is_case: nobody waits for
 * them, and no count of the model's shows them.
 *
 * The rollback is upheld only if what the candidate computes would have made the
 * difference. With 60 % errors where 5 % are allowed, more than one request in twelve
 * must be computed; of the requests that have ended loaders, one. The first request that
 * ends the candidate, too, is the last one asked. A rollback that a person asks for is
 * never arbitrated.
 */

#include <assert.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model/members.h"
#include "supervisor/model/requests.h"

/* The longest wait for one request: a rollback waits for it. */
#define ARBITER_WAIT_NS (10 * CLOCK_NS_PER_SEC)

static void arbiter_next_round(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->arbiter.step);
	ev_timer_set(&model->arbiter.step, 0., 0.);
	ev_timer_start(model->context.loop, &model->arbiter.step);
}

static void arbiter_note(struct model *model, bool is_computed)
{
	model->arbiter.n_tried++;
	model->arbiter.n_computed += is_computed;
	model->arbiter.request = NULL;
	arbiter_next_round(model);
}

/* Called while the lane is being read: what follows comes in the next round. */
static void arbiter_on_part(struct request *request, void *context)
{
	struct model *model = context;
	struct request_part *part;
	bool is_last = request->is_broken;
	bool is_computed = request->answer_status < 300 && !request->is_fault;

	while ((part = request_take_part(request))) {
		is_last = is_last || part->is_last;
		request_part_free(part);
	}
	if (!is_last)
		return;
	request_release(request);
	arbiter_note(model, is_computed);
}

void arbiter_on_lease_lost(struct model *model, const struct generation *dead,
                           struct request *request)
{
	bool is_ours = model->arbiter.request == request;
	bool has_begun = lane_has_begun(dead->lane, request->lease);

	if (is_ours)
		request_release(request);
	request_fail(request, REQUEST_FAILURE_LEFT); /* frees it */
	if (!is_ours)
		return;
	model->arbiter.request = NULL;
	/* A kill -9 by somebody says nothing about the request. */
	if (has_begun && !model_was_killed(dead))
		model->arbiter.n_tried++;
}

/* The next case that has not been asked, or NULL. */
static struct evidence_case *arbiter_next_case(const struct model_arbiter *arbiter)
{
	struct evidence_set *set = &arbiter->evidence->sets[arbiter->kind];

	for (size_t i = 0; i < EVIDENCE_CASES; i++)
		if (set->cases[i].data && !set->cases[i].was_asked)
			return &set->cases[i];
	return NULL;
}

/* False: there is no room for the case in the arena or in the lane. */
static bool arbiter_ask(struct model *model, const struct evidence_case *one)
{
	struct model_arbiter *arbiter = &model->arbiter;
	uint64_t wait_ns = model->section->request_timeout_ns < ARBITER_WAIT_NS
	                           ? model->section->request_timeout_ns
	                           : ARBITER_WAIT_NS;
	const struct request_start start = {
		.timeout_ns = wait_ns,
		.on_part = arbiter_on_part,
		.context = model,
	};
	struct request *request;

	if (request_new_case(&request, &model->queue, one, &start) < 0)
		return false;
	if (generation_try(model->fleet.candidate, request) != 0) {
		request_release(request);
		return false;
	}
	arbiter->request = request;
	ev_timer_stop(model->context.loop, &arbiter->step);
	ev_timer_set(&arbiter->step, (double)wait_ns / 1e9, 0.);
	ev_timer_start(model->context.loop, &arbiter->step);
	return true;
}

static bool arbiter_upholds(const struct model_arbiter *arbiter)
{
	return arbiter->n_tried == 0 ||
	       (double)arbiter->n_computed > arbiter->share * arbiter->n_tried;
}

static void arbiter_end(struct model *model)
{
	struct model_arbiter *arbiter = &model->arbiter;

	ev_timer_stop(model->context.loop, &arbiter->step);
	/* The lease of the request ends when the loader says so, or dies. */
	if (arbiter->request)
		request_release(arbiter->request);
	evidence_free(arbiter->evidence);
	arbiter->request = NULL;
	arbiter->evidence = NULL;
	arbiter->is_trying = false;
}

static void arbiter_explain(const struct model *model, struct err *ret_why)
{
	const struct model_arbiter *arbiter = &model->arbiter;

	(void)err_set(ret_why, 0,
	              "no rollback: what served before fails on the same requests (%u of "
	              "%u that were tried)",
	              arbiter->n_tried - arbiter->n_computed, arbiter->n_tried);
}

static void arbiter_log(const struct model *model)
{
	log_event(LOG_LEVEL_NOTICE, "rollback_tried",
	          "model=%s gen=%llu requests=%u computed=%u upheld=%s", model->name,
	          (unsigned long long)model->fleet.candidate->number,
	          model->arbiter.n_tried, model->arbiter.n_computed,
	          arbiter_upholds(&model->arbiter) ? "yes" : "no");
}

/* The candidate lives, and all cases have been asked. */
static void arbiter_conclude(struct model *model)
{
	struct generation *candidate = model->fleet.candidate;
	struct err why = ERR_NULL;
	bool is_upheld = arbiter_upholds(&model->arbiter);

	arbiter_log(model);
	if (is_upheld && !model->arbiter.is_stuck) {
		arbiter_end(model);
		generation_apply(candidate, GENERATION_EV_PROMOTE);
		return;
	}
	/* The candidate's death leads on. */
	ev_timer_stop(model->context.loop, &model->arbiter.step);
	if (is_upheld)
		(void)err_set(&why, 0,
		              "it hangs over a request that it "
		              "was asked, and is built again");
	else
		arbiter_explain(model, &why);
	reload_give_up(model, why.text);
}

static void arbiter_on_step(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;
	struct model_arbiter *arbiter = &model->arbiter;
	struct evidence_case *one;

	(void)loop;
	(void)revents;
	if (arbiter->request) {
		/* Time is up: the candidate does not compute this one, either, and may
		 * never come to the next. */
		request_release(arbiter->request);
		arbiter->n_tried++;
		arbiter->request = NULL;
		arbiter->is_stuck = true;
	}
	if (!model->fleet.candidate || model->fleet.candidate->state != GENERATION_READY)
		return; /* its end leads on */
	while (!arbiter->is_stuck && (one = arbiter_next_case(arbiter))) {
		one->was_asked = true;
		if (arbiter_ask(model, one))
			return;
	}
	arbiter_conclude(model);
}

void arbiter_open(struct model *model, struct evidence *evidence, enum evidence_kind kind,
                  double share)
{
	struct model_arbiter *arbiter = &model->arbiter;

	arbiter_end(model);
	arbiter->evidence = evidence;
	arbiter->kind = kind;
	arbiter->share = share;
	arbiter->n_tried = 0;
	arbiter->n_computed = 0;
	arbiter->is_stuck = false;
}

bool arbiter_drop(struct model *model)
{
	bool was_trying = model->arbiter.is_trying;

	arbiter_end(model);
	return was_trying;
}

bool arbiter_try(struct model *model)
{
	struct model_arbiter *arbiter = &model->arbiter;

	if (!arbiter->evidence ||
	    !(model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)))
		return false;
	if (!arbiter_next_case(arbiter)) {
		arbiter_end(model);
		return false;
	}
	arbiter->is_trying = true;
	arbiter_next_round(model);
	return true;
}

enum arbiter_verdict arbiter_on_dead(struct model *model,
                                     const struct generation *candidate,
                                     struct err *ret_why)
{
	struct model_arbiter *arbiter = &model->arbiter;
	enum arbiter_verdict verdict = ARBITER_NONE;

	/* The rollback is yet to come. */
	if (!(model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)))
		return ARBITER_NONE;
	if (!arbiter->is_trying || arbiter->n_tried == 0) {
		/* Nothing was asked of it: another attempt will be. */
	} else if (!arbiter_upholds(arbiter)) {
		arbiter_explain(model, ret_why);
		verdict = ARBITER_CALLED_OFF;
	} else if (!model_was_killed(candidate)) {
		verdict = ARBITER_UPHELD;
	}
	arbiter_end(model);
	return verdict;
}

void arbiter_init(struct model *model)
{
	ev_timer_init(&model->arbiter.step, arbiter_on_step, 0., 0.);
	model->arbiter.step.data = model;
}

void arbiter_fini(struct model *model)
{
	arbiter_end(model);
}
