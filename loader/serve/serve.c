/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A round of serve_run(): take all releases and submissions (serve_take(), so that a
 * cancellation is seen in time), fill a batch (serve_fill()), compute and answer it
 * (serve_compute()), or wait.
 *
 * A request's places: queue (as submitted), then the decoder's thread or members[] (decoded).
 * A request that does not go with the batch in hand waits in pending and begins the next one.
 * A batch that fails is computed again member by member, so that only the culprit gets the
 * error. Room for an answer is waited for without a deadline: a slow client is the
 * supervisor's business.
 */
#include "loader/serve/serve.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "loader/serve/children.h"
#include "loader/serve/compute.h"
#include "loader/serve/decoder.h"
#include "loader/numbers/finite.h"
#include "loader/oip/oip.h"
#include "shared/clock.h"

/* A loop that never blocks looks at the control channel so often. */
#define SERVE_CONTROL_NS (50 * CLOCK_NS_PER_MS)
/* A loop that waits for the supervisor shows progress so often: a slow client is no hang of
 * the loader. */
#define SERVE_ALIVE_NS CLOCK_NS_PER_SEC
/* The head of an answer precedes its body in the same block. */
#define SERVE_HEAD_BYTES  ((size_t)256)
#define SERVE_ERROR_BYTES ((size_t)1024)
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
	struct decoder *decoder;
	struct proto_submit *queue; /* not decoded yet: a ring of lane->leases */
	uint32_t queue_head;
	uint32_t n_queued;
	struct decoder_request **members; /* of the batch, in the order of its rows */
	struct decoder_request *pending; /* decoded, but did not go with the last batch */
	bool has_pending;
	struct lane_times times;  /* of the next answer, if it was computed */
	uint64_t encode_began_ns; /* 0: the next answer was not computed */
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
	serve->max_delay_ns = config->max_delay_ns;
	if (compute_init(&serve->compute, config, api, engine, n) < 0)
		return -ENOMEM;
	n = serve->compute.batch.max_members;
	if (decoder_new(&serve->decoder, lane, &serve->compute.model) < 0)
		return -ENOMEM;
	serve->queue = calloc(lane->leases, sizeof(*serve->queue));
	serve->members = calloc(n, sizeof(struct decoder_request *));
	serve->pending = calloc(1, sizeof(*serve->pending));
	if (!serve->queue || !serve->members || !serve->pending)
		return -ENOMEM;
	oip_request_init(&serve->pending->request);
	for (uint32_t i = 0; i < n; i++) {
		serve->members[i] = calloc(1, sizeof(*serve->members[i]));
		if (!serve->members[i])
			return -ENOMEM;
		oip_request_init(&serve->members[i]->request);
	}
	return 0;
}

static void serve_free_member(struct decoder_request *member)
{
	if (member)
		oip_request_fini(&member->request);
	free(member);
}

void serve_free(struct serve *serve)
{
	if (!serve)
		return;
	decoder_free(serve->decoder);
	for (uint32_t i = 0; serve->members && i < serve->compute.batch.max_members; i++)
		serve_free_member(serve->members[i]);
	serve_free_member(serve->pending);
	compute_fini(&serve->compute);
	free(serve->members);
	free(serve->queue);
	free(serve);
}

/* Answers */

/* Waits for room for an answer, however long that takes. 0, LANE_E_TOO_LARGE negated, or
 * SERVE_E_*. */
static int serve_reserve(struct serve *serve, size_t bytes, unsigned char **ret_memory)
{
	int r;

	while ((r = lane_reserve(serve->lane, bytes, ret_memory)) == LANE_E_FULL) {
		r = lane_wait(serve->lane, LANE_WAKE_RELEASE, serve->control_fd,
		              clock_now_ns() + SERVE_ALIVE_NS);
		if (r == LANE_E_CONTROL)
			return SERVE_E_CONTROL;
		lane_progress(serve->lane);
		if (lane_collect(serve->lane, serve->err))
			return SERVE_E_VIOLATION;
	}
	return r == LANE_E_TOO_LARGE ? -LANE_E_TOO_LARGE : 0;
}

/* Writes the head in front of the body and publishes both. */
static int serve_publish(struct serve *serve, struct lane_answer *answer,
                         const struct proto_field *fields, size_t n_fields)
{
	static const struct proto_text nothing = { "", 0 };

	answer->head_bytes = proto_head_bytes(nothing, nothing, fields, n_fields);
	assert(answer->head_bytes <= SERVE_HEAD_BYTES);
	proto_head_write(answer->memory, nothing, nothing, fields, n_fields);
	answer->body_offset = SERVE_HEAD_BYTES;
	if (serve->encode_began_ns > 0) {
		answer->times = serve->times;
		answer->times.encode_ns = clock_now_ns() - serve->encode_began_ns;
		serve->encode_began_ns = 0;
	}
	return lane_publish(serve->lane, answer, serve->err) ? SERVE_E_VIOLATION : 0;
}

static int serve_error(struct serve *serve, struct lane_answer answer, const char *text)
{
	const struct proto_field field = { proto_text_of("content-type"),
		                           proto_text_of("application/json") };
	int r;

	r = serve_reserve(serve, SERVE_HEAD_BYTES + SERVE_ERROR_BYTES, &answer.memory);
	if (r < 0) {
		/* lane_init() has refused an arena that cannot hold a sentence. */
		(void)err_set(serve->err, 0, "the response arena is too small");
		return SERVE_E_VIOLATION;
	}
	if (r)
		return r;
	answer.body_bytes = oip_encode_error(text, answer.memory + SERVE_HEAD_BYTES,
	                                     SERVE_ERROR_BYTES);
	return serve_publish(serve, &answer, &field, 1);
}

/* Answers with an error that the request or the clock is to blame for. */
static int serve_answer_error(struct serve *serve, uint64_t lease, int status,
                              const char *text)
{
	return serve_error(serve,
	                   (struct lane_answer){ .lease = lease,
	                                         .status = (uint16_t)status },
	                   text);
}

/* Answers with an error that the model is to blame for. */
static int serve_answer_fault(struct serve *serve, uint64_t lease, const char *text)
{
	return serve_error(serve,
	                   (struct lane_answer){
				   .lease = lease, .status = 500, .is_fault = true },
	                   text);
}

/* False: an output has numbers that no client can compute with. In a watch window such an
 * answer counts as a failure of the model, whatever its status. */
static bool serve_is_finite(const struct compute *compute,
                            const struct engine_tensor *outputs)
{
	for (size_t i = 0; i < compute->model.n_outputs; i++)
		if (!finite_look(&outputs[i]))
			return false;
	return true;
}

static int serve_publish_outputs(struct serve *serve, struct decoder_request *member,
                                 struct lane_answer *answer,
                                 const struct oip_answer *encoded)
{
	struct proto_field fields[3];
	const char *encoding = NULL;
	char length[24];
	size_t n = 0;

	answer->lease = member->submit.lease;
	answer->status = 200;
	answer->peak_bytes = serve->compute.use.peak_bytes;
	answer->body_bytes = encoded->body_bytes;
	fields[n++] = (struct proto_field){
		proto_text_of("content-type"),
		proto_text_of(encoded->json_bytes ? "application/octet-stream"
		                                  : "application/json"),
	};
	if (encoded->json_bytes) {
		int bytes = snprintf(length, sizeof(length), "%zu", encoded->json_bytes);

		fields[n++] = (struct proto_field){
			proto_text_of("inference-header-content-length"),
			{ length, (size_t)bytes },
		};
	} else {
		answer->body_bytes =
			oip_compress(&member->request, answer->memory + SERVE_HEAD_BYTES,
		                     answer->body_bytes, &encoding);
	}
	if (encoding)
		fields[n++] = (struct proto_field){ proto_text_of("content-encoding"),
			                            proto_text_of(encoding) };
	return serve_publish(serve, answer, fields, n);
}

/* Notes the times of @member for the supervisor; the writing of its answer begins now. */
static void serve_note_times(struct serve *serve, const struct decoder_request *member,
                             uint32_t index)
{
	const struct compute *compute = &serve->compute;

	serve->times = (struct lane_times){
		.is_execution = index == 0,
		.rows = batch_rows_of(&compute->batch, index),
		.batch_rows = batch_rows_of_all(&compute->batch),
		.queue_ns = compute->began_ns - member->submit.accepted_ns -
		            member->decode_ns,
		.decode_ns = member->decode_ns,
		.gather_ns = compute->gather_ns,
		.compute_ns = compute->took_ns,
	};
	serve->encode_began_ns = clock_now_ns();
}

/* Cuts the outputs of one member out of the batch and answers it. */
static int serve_answer(struct serve *serve, struct decoder_request *member,
                        uint32_t index)
{
	struct engine_tensor outputs[ENGINE_TENSORS_MAX];
	struct compute *compute = &serve->compute;
	const struct oip_origin origin = {
		.generation = serve->lane->generation,
		.memory_peak_bytes = compute->use.peak_bytes,
	};
	struct lane_answer answer = { 0 };
	struct oip_answer encoded = { 0 };
	struct err err = ERR_NULL;
	size_t bytes;
	int r;

	serve_note_times(serve, member, index);
	if (batch_split(&compute->batch, index, outputs, &err))
		return serve_answer_fault(serve, member->submit.lease, err.text);
	answer.is_fault = !serve_is_finite(compute, outputs);
	bytes = oip_answer_bound(&member->request, &compute->model, outputs);
	r = serve_reserve(serve, SERVE_HEAD_BYTES + bytes, &answer.memory);
	if (r < 0) {
		(void)err_set(&err, 0,
		              "the answer may take %zu bytes and the response arena has "
		              "%zu: raise response_arena",
		              SERVE_HEAD_BYTES + bytes, serve->lane->arena.size_bytes);
		return serve_answer_fault(serve, member->submit.lease, err.text);
	}
	if (r)
		return r;
	r = oip_encode(&member->request, &compute->model, &origin, outputs,
	               answer.memory + SERVE_HEAD_BYTES, &encoded, &err);
	if (r) {
		lane_unreserve(serve->lane, answer.memory);
		return serve_answer_fault(serve, member->submit.lease, err.text);
	}
	return serve_publish_outputs(serve, member, &answer, &encoded);
}

/* Requests */

static struct proto_submit *serve_queued(struct serve *serve, uint32_t index)
{
	return &serve->queue[(serve->queue_head + index) & (serve->lane->leases - 1)];
}

/* Takes entry @index out; the order of the others stays. */
static void serve_drop(struct serve *serve, uint32_t index)
{
	for (uint32_t i = index; i + 1 < serve->n_queued; i++)
		*serve_queued(serve, i) = *serve_queued(serve, i + 1);
	serve->n_queued--;
}

/* Cancels a request that waits. A request that is being decoded or computed is answered as if
 * nothing had happened. */
static int serve_cancel(struct serve *serve, uint64_t lease)
{
	uint32_t index = 0;

	if (serve->has_pending && serve->pending->submit.lease == lease) {
		serve->has_pending = false;
	} else if (!decoder_cancel(serve->decoder, lease)) {
		while (index < serve->n_queued &&
		       serve_queued(serve, index)->lease != lease)
			index++;
		if (index == serve->n_queued)
			return 0;
		serve_drop(serve, index);
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
		if (submit.kind == PROTO_SUBMIT_CANCEL) {
			r = serve_cancel(serve, submit.lease);
			if (r)
				return r;
			continue;
		}
		/* The queue has room: its requests are leased, and the lane counts the
		 * leases. */
		assert(serve->n_queued < serve->lane->leases);
		*serve_queued(serve, serve->n_queued++) = submit;
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
	while (serve->n_queued > 0) {
		(*member)->submit = *serve_queued(serve, 0);
		serve->queue_head++;
		serve->n_queued--;
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
		return serve_answer_fault(serve, member->submit.lease, err->text);
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
		      : serve_answer(serve, member, 0);
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
			r = serve_answer(serve, serve->members[i], i);
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
