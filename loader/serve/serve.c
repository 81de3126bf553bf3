/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A round of serve_run(): take all releases and submissions (serve_take(), so that a
 * cancellation is seen in time), fill a batch (serve_fill()), compute and answer it
 * (serve_compute()), or wait.
 *
 * A request's places: backlog (as submitted), then the decoder's thread or members[] (decoded).
 * A request that does not go with the batch in hand waits in pending and begins the next one.
 * A batch that fails is computed again member by member, so that only the culprit gets the
 * error.
 */
#include "loader/serve/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "loader/serve/answers.h"
#include "loader/serve/backlog.h"
#include "loader/serve/children.h"
#include "loader/serve/compute.h"
#include "loader/serve/decoder.h"
#include "shared/clock.h"

/* A loop that never blocks looks at the control channel so often. */
#define SERVE_CONTROL_NS (50 * CLOCK_NS_PER_MS)
/* The status for a client that is gone: nginx' number. */
#define SERVE_STATUS_CANCELLED 499

/* A request keeps so much of its memory for the next one. */
#define SERVE_KEEP_BYTES ((size_t)1 << 20)

/* An outcome of the steps below, besides SERVE_E_*: there is no request. */
#define SERVE_E_EMPTY 100

struct serve {
	struct lane *lane;
	struct compute compute;
	struct err *err; /* serve_run()'s, for the sentence that ends it */
	int control_fd;
	uint64_t max_delay_ns;
	uint64_t control_seen_ns;
	struct answers answers;
	struct decoder *decoder;
	struct backlog backlog;           /* not decoded yet */
	struct decoder_request **members; /* of the batch, in the order of its rows */
	struct decoder_request *pending; /* decoded, but did not go with the last batch */
	bool has_pending;
};

int serve_new(struct serve **ret_serve, const struct model_config *config,
              struct lane *lane, const struct engine_api *api, struct engine *engine,
              int control_fd)
{
	uint32_t n =
		config->max_batch < config->leases ? config->max_batch : config->leases;
	struct serve *serve = calloc(1, sizeof(*serve));

	*ret_serve = serve;
	if (!serve)
		return -ENOMEM;
	serve->lane = lane;
	serve->control_fd = control_fd;
	serve->answers = (struct answers){ .lane = lane, .control_fd = control_fd };
	serve->max_delay_ns = config->max_delay_ns;
	if (compute_init(&serve->compute, config, api, engine, n) < 0)
		return -ENOMEM;
	n = serve->compute.batch.max_members;
	if (decoder_new(&serve->decoder, lane, &serve->compute.model) < 0)
		return -ENOMEM;
	if (backlog_init(&serve->backlog, lane->leases) < 0)
		return -ENOMEM;
	serve->members = calloc(n, sizeof(struct decoder_request *));
	serve->pending = decoder_request_new();
	if (!serve->members || !serve->pending)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		serve->members[i] = decoder_request_new();
		if (!serve->members[i])
			return -ENOMEM;
	}
	return 0;
}

void serve_free(struct serve *serve)
{
	if (!serve)
		return;
	decoder_free(serve->decoder);
	for (uint32_t i = 0; serve->members && i < serve->compute.batch.max_members; i++)
		decoder_request_free(serve->members[i]);
	decoder_request_free(serve->pending);
	compute_fini(&serve->compute);
	free(serve->members);
	backlog_fini(&serve->backlog);
	free(serve);
}

/* Requests */

static int serve_answer_error(struct serve *serve, uint64_t lease, int status,
                              const char *text)
{
	return answers_error(&serve->answers, lease, status, text, serve->err);
}

/* Cancels a request that waits. A request that is being decoded or computed is answered as if
 * nothing had happened. */
static int serve_cancel(struct serve *serve, uint64_t lease)
{
	if (serve->has_pending && serve->pending->submit.lease == lease) {
		serve->has_pending = false;
	} else if (!decoder_cancel(serve->decoder, lease) &&
	           !backlog_drop(&serve->backlog, lease)) {
		return 0;
	}
	return serve_answer_error(serve, lease, SERVE_STATUS_CANCELLED,
	                          "the request was cancelled");
}

/* Takes all submissions, so that cancellations are seen before it is too late. */
static int serve_take(struct serve *serve)
{
	struct proto_submit submit;
	int r;

	while ((r = lane_take(serve->lane, &submit, serve->err)) == 0) {
		if (submit.kind == PROTO_SUBMIT_CANCEL)
			r = serve_cancel(serve, submit.lease);
		else
			backlog_add(&serve->backlog, &submit);
		if (r)
			return r;
	}
	return r == LANE_E_EMPTY ? 0 : SERVE_E_VIOLATION;
}

/* Gives the memory of a huge request back, or every place would be huge in the end. */
static void serve_trim(struct decoder_request *member)
{
	if (member->request.scratch.capacity_bytes <= SERVE_KEEP_BYTES &&
	    member->request.inflated.capacity_bytes <= SERVE_KEEP_BYTES)
		return;
	oip_request_fini(&member->request);
	oip_request_init(&member->request);
}

/* Judges a decoded @member. 0: it can be computed. SERVE_E_EMPTY: it was refused, and is
 * answered. Else SERVE_E_*. */
static int serve_decoded(struct serve *serve, struct decoder_request *member)
{
	const struct proto_submit *submit = &member->submit;
	int r;

	if (member->status < 0) {
		*serve->err = member->err;
		return SERVE_E_VIOLATION;
	}
	if (member->status == 0 && !decoder_is_late(member))
		return 0;
	serve_trim(member);
	r = serve_answer_error(serve, submit->lease,
	                       member->status ? member->status : 504,
	                       member->status ? member->err.text : DECODER_LATE);
	return r ? r : SERVE_E_EMPTY;
}

/* The figures of a shape that did not fit and is no larger than @inputs; mostly nothing was ever
 * refused, and nothing is looked for. */
static const struct engine_use *serve_known_not_to_fit(const struct serve *serve,
                                                       const struct engine_tensor *inputs,
                                                       uint64_t rows)
{
	const struct fit *fit = &serve->compute.fit;

	return fit_is_empty(fit) ? NULL : fit_refuses(fit, inputs, rows, clock_now_ns());
}

/* Refuses a request that is known not to fit, before it is tried. 0; SERVE_E_EMPTY: it was
 * refused, and is answered; or SERVE_E_*. */
static int serve_check_fit(struct serve *serve, struct decoder_request *member)
{
	const struct engine_use *use =
		serve_known_not_to_fit(serve, member->request.inputs, 0);
	struct err err;
	int r;

	if (!use)
		return 0;
	(void)fit_explain(use, &err);
	serve_trim(member);
	r = serve_answer_error(serve, member->submit.lease, 413, err.text);
	return r ? r : SERVE_E_EMPTY;
}

/* Exchanges *@member for the next request that is decoded, or decodes the next one itself.
 * False: there is no request, or the decoder has all of them. */
static bool serve_take_decoded(struct serve *serve, struct decoder_request **member)
{
	if (decoder_take(serve->decoder, member))
		return true;
	while (backlog_take(&serve->backlog, &(*member)->submit)) {
		lane_begin(serve->lane, (*member)->submit.lease);
		if (!decoder_give(serve->decoder, &(*member)->submit)) {
			decoder_decode(serve->lane, &serve->compute.model, *member);
			return true;
		}
	}
	return false;
}

/* Puts the next request that can be computed at members[@index]. 0, SERVE_E_EMPTY or
 * SERVE_E_*. */
static int serve_next(struct serve *serve, uint32_t index)
{
	if (serve->has_pending) {
		struct decoder_request *member = serve->members[index];

		serve->members[index] = serve->pending;
		serve->pending = member;
		serve->has_pending = false;
		return 0;
	}
	for (;;) {
		int r;

		if (!serve_take_decoded(serve, &serve->members[index]))
			return SERVE_E_EMPTY;
		r = serve_decoded(serve, serve->members[index]);
		if (r == 0)
			r = serve_check_fit(serve, serve->members[index]);
		if (r != SERVE_E_EMPTY)
			return r;
	}
}

/* Adds @member to the batch. False: it does not go with the others, or together they are known
 * not to fit. */
static bool serve_join(struct serve *serve, const struct decoder_request *member)
{
	struct batch *batch = &serve->compute.batch;
	const struct engine_tensor *inputs = member->request.inputs;

	if (batch->n_members > 0 && batch->is_batchable &&
	    serve_known_not_to_fit(serve, inputs,
	                           batch->n_rows + (uint64_t)inputs[0].shape.dims[0]))
		return false;
	return batch_add(batch, inputs);
}

/* Waits for more requests for a batch. 0: look again; SERVE_E_EMPTY: time is up; or
 * SERVE_E_*. */
static int serve_await(struct serve *serve, uint64_t until_ns)
{
	int r = lane_wait(serve->lane, LANE_WAKE_ANY, serve->control_fd, until_ns);

	if (r == LANE_E_CONTROL)
		return SERVE_E_CONTROL;
	if (lane_collect(serve->lane, serve->err))
		return SERVE_E_VIOLATION;
	if (r == LANE_E_TIMEOUT || clock_now_ns() >= until_ns)
		return SERVE_E_EMPTY;
	return serve_take(serve);
}

/* Puts the next batch together, which may be empty. 0 or SERVE_E_*. */
static int serve_fill(struct serve *serve)
{
	struct batch *batch = &serve->compute.batch;
	uint64_t until_ns = 0;

	batch_clear(batch);
	while (!batch_is_full(batch)) {
		uint32_t index = batch->n_members;
		int r = serve_next(serve, index);

		if (r == SERVE_E_EMPTY) {
			if (index == 0 || serve->max_delay_ns == 0)
				return 0;
			if (until_ns == 0)
				until_ns = clock_now_ns() + serve->max_delay_ns;
			r = serve_await(serve, until_ns);
			if (r == SERVE_E_EMPTY)
				return 0;
			if (r)
				return r;
			continue;
		}
		if (r)
			return r;
		if (!serve_join(serve, serve->members[index])) {
			struct decoder_request *member = serve->pending;

			serve->pending = serve->members[index];
			serve->members[index] = member;
			serve->has_pending = true;
			return 0;
		}
	}
	return 0;
}

/* Computing */

static int serve_refuse(struct serve *serve, struct decoder_request *member, int outcome,
                        const struct err *err)
{
	if (outcome != ENGINE_E_INPUT && outcome != ENGINE_E_MEMORY)
		return answers_fault(&serve->answers, member->submit.lease, err->text,
		                     serve->err);
	return serve_answer_error(serve, member->submit.lease,
	                          outcome == ENGINE_E_INPUT ? 400 : 413, err->text);
}

/* Computes each member of a failed batch alone, so that only the culprit gets the error. */
static int serve_one_by_one(struct serve *serve, uint32_t n_members)
{
	struct batch *batch = &serve->compute.batch;

	for (uint32_t i = 0; i < n_members; i++) {
		struct decoder_request *member = serve->members[i];
		struct err err = ERR_NULL;
		int r;

		batch_clear(batch);
		(void)batch_add(batch, member->request.inputs);
		lane_progress(serve->lane);
		r = compute_run(&serve->compute, &err);
		if (r == ENGINE_E_BROKEN) {
			*serve->err = err;
			return SERVE_E_BROKEN;
		}
		r = r ? serve_refuse(serve, member, r, &err)
		      : answers_outputs(&serve->answers, &serve->compute, member, 0,
		                        serve->err);
		if (r)
			return r;
	}
	return 0;
}

/* Computes and answers the batch. */
static int serve_compute(struct serve *serve)
{
	struct batch *batch = &serve->compute.batch;
	uint32_t n_members = batch->n_members;
	struct err err = ERR_NULL;
	int r;

	lane_progress(serve->lane);
	r = compute_run(&serve->compute, &err);
	if (r == ENGINE_E_BROKEN) {
		*serve->err = err;
		return SERVE_E_BROKEN;
	}
	if (r && n_members > 1)
		r = serve_one_by_one(serve, n_members);
	else if (r)
		r = serve_refuse(serve, serve->members[0], r, &err);
	else
		for (uint32_t i = 0; i < n_members && r == 0; i++)
			r = answers_outputs(&serve->answers, &serve->compute,
			                    serve->members[i], i, serve->err);
	for (uint32_t i = 0; i < n_members; i++)
		serve_trim(serve->members[i]);
	return r;
}

/* Looks at the control channel, for a loop that always finds work and so never blocks. */
static bool serve_sees_control(struct serve *serve)
{
	struct pollfd pollfd = { .fd = serve->control_fd, .events = POLLIN };
	uint64_t now_ns = clock_now_ns();

	if (now_ns - serve->control_seen_ns < SERVE_CONTROL_NS)
		return false;
	serve->control_seen_ns = now_ns;
	return poll(&pollfd, 1, 0) > 0;
}

int serve_run(struct serve *serve, struct err *err)
{
	uint64_t look_ns = 0;

	serve->err = err;
	for (;;) {
		int r;

		if (clock_now_ns() >= look_ns) {
			children_reap();
			look_ns = clock_now_ns() + CHILDREN_LOOK_NS;
		}
		if (lane_collect(serve->lane, err))
			return SERVE_E_VIOLATION;
		r = serve_take(serve);
		if (r == 0)
			r = serve_fill(serve);
		if (r)
			return r;
		if (serve->compute.batch.n_members > 0) {
			r = serve_compute(serve);
			lane_flush(serve->lane);
			if (r == 0 && serve_sees_control(serve))
				r = SERVE_E_CONTROL;
		} else if (lane_wait(serve->lane, LANE_WAKE_ANY, serve->control_fd,
		                     look_ns) == LANE_E_CONTROL) {
			r = SERVE_E_CONTROL;
		}
		if (r)
			return r;
	}
}
