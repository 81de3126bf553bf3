/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An answer's way: a draft (answers_begin() notes the times of a computed request), room in the
 * response arena (answers_reserve()), the body behind a gap for the head, the head
 * (answers_publish()). Where outputs cannot be written the draft becomes a fault of the model
 * (answers_fault_of()), with the times that it has.
 */
#include "loader/serve/answers.h"

#include <assert.h>
#include <stdio.h>

#include "loader/numbers/finite.h"
#include "loader/oip/oip.h"
#include "loader/serve/serve.h"
#include "shared/clock.h"

/* A loop that waits for the supervisor shows progress so often: a slow client is no hang of
 * the loader. */
#define ANSWERS_ALIVE_NS CLOCK_NS_PER_SEC
/* The head of an answer precedes its body in the same block. */
#define ANSWERS_HEAD_BYTES  ((size_t)256)
#define ANSWERS_ERROR_BYTES ((size_t)1024)

/* An answer until it is published. */
struct answers_draft {
	struct lane_answer answer;
	uint64_t encode_began_ns; /* 0: nothing was computed */
	struct proto_field fields[3];
	size_t n_fields;
};

/* Waits for room for an answer, however long that takes. 0, LANE_E_TOO_LARGE negated, or
 * SERVE_E_*. */
static int answers_reserve(const struct answers *answers, size_t bytes,
                           unsigned char **ret_memory, struct err *err)
{
	int r;

	while ((r = lane_reserve(answers->lane, bytes, ret_memory)) == LANE_E_FULL) {
		r = lane_wait(answers->lane, LANE_WAKE_RELEASE, answers->control_fd,
		              clock_now_ns() + ANSWERS_ALIVE_NS);
		if (r == LANE_E_CONTROL)
			return SERVE_E_CONTROL;
		lane_progress(answers->lane);
		if (lane_collect(answers->lane, err))
			return SERVE_E_VIOLATION;
	}
	return r == LANE_E_TOO_LARGE ? -LANE_E_TOO_LARGE : 0;
}

static void answers_add_field(struct answers_draft *draft, const char *name,
                              struct proto_text value)
{
	draft->fields[draft->n_fields++] =
		(struct proto_field){ proto_text_of(name), value };
}

/* Writes the head in front of the body and publishes both. */
static int answers_publish(const struct answers *answers, struct answers_draft *draft,
                           struct err *err)
{
	static const struct proto_text nothing = { "", 0 };
	struct lane_answer *answer = &draft->answer;

	answer->head_bytes =
		proto_head_bytes(nothing, nothing, draft->fields, draft->n_fields);
	assert(answer->head_bytes <= ANSWERS_HEAD_BYTES);
	proto_head_write(answer->memory, nothing, nothing, draft->fields,
	                 draft->n_fields);
	answer->body_offset = ANSWERS_HEAD_BYTES;
	answer->flags |= PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST;
	if (draft->encode_began_ns > 0)
		answer->times.encode_ns = clock_now_ns() - draft->encode_began_ns;
	return lane_publish(answers->lane, answer, err) ? SERVE_E_VIOLATION : 0;
}

static int answers_sentence(const struct answers *answers, struct answers_draft *draft,
                            const char *text, struct err *err)
{
	struct lane_answer *answer = &draft->answer;
	int r = answers_reserve(answers, ANSWERS_HEAD_BYTES + ANSWERS_ERROR_BYTES,
	                        &answer->memory, err);

	if (r < 0)
		/* lane_init() has refused an arena that cannot hold a sentence. */
		return err_set(err, SERVE_E_VIOLATION, "the response arena is too small");
	if (r)
		return r;
	answer->body_bytes = oip_encode_error(text, answer->memory + ANSWERS_HEAD_BYTES,
	                                      ANSWERS_ERROR_BYTES);
	answers_add_field(draft, "content-type", proto_text_of("application/json"));
	return answers_publish(answers, draft, err);
}

int answers_error(const struct answers *answers, uint64_t lease, int status,
                  const char *text, struct err *err)
{
	struct answers_draft draft = {
		.answer = { .lease = lease, .status = (uint16_t)status },
	};

	return answers_sentence(answers, &draft, text, err);
}

static int answers_fault_of(const struct answers *answers, struct answers_draft *draft,
                            const char *text, struct err *err)
{
	draft->answer.status = 500;
	draft->answer.flags |= PROTO_ANSWER_FAULT;
	return answers_sentence(answers, draft, text, err);
}

int answers_fault(const struct answers *answers, uint64_t lease, const char *text,
                  struct err *err)
{
	struct answers_draft draft = { .answer = { .lease = lease } };

	return answers_fault_of(answers, &draft, text, err);
}

/* False: an output has numbers that no client can compute with. In a watch window such an
 * answer counts as a failure of the model, whatever its status. */
static bool answers_are_finite(const struct compute *compute,
                               const struct engine_tensor *outputs)
{
	for (size_t i = 0; i < compute->model.n_outputs; i++)
		if (!finite_look(&outputs[i]))
			return false;
	return true;
}

static int answers_publish_outputs(const struct answers *answers,
                                   struct answers_draft *draft,
                                   struct oip_request *request,
                                   const struct oip_answer *encoded, struct err *err)
{
	struct lane_answer *answer = &draft->answer;
	const char *encoding = NULL;
	char length[24];

	answer->status = 200;
	answer->body_bytes = encoded->body_bytes;
	answers_add_field(draft, "content-type",
	                  proto_text_of(encoded->json_bytes ? "application/octet-stream"
	                                                    : "application/json"));
	if (encoded->json_bytes) {
		int bytes = snprintf(length, sizeof(length), "%zu", encoded->json_bytes);

		answers_add_field(draft, "inference-header-content-length",
		                  (struct proto_text){ length, (size_t)bytes });
	} else {
		answer->body_bytes =
			oip_compress(request, answer->memory + ANSWERS_HEAD_BYTES,
		                     answer->body_bytes, &encoding);
	}
	if (encoding)
		answers_add_field(draft, "content-encoding", proto_text_of(encoding));
	return answers_publish(answers, draft, err);
}

/* Begins an answer to a request that was computed, with its times for the supervisor; the writing
 * of the answer begins now. */
static void answers_begin(struct answers_draft *draft, const struct compute *compute,
                          const struct decoder_request *member, uint32_t index)
{
	draft->answer = (struct lane_answer){
		.lease = member->submit.lease,
		.times = {
			.is_execution = index == 0,
			.rows = batch_rows_of(&compute->batch, index),
			.batch_rows = batch_rows_of_all(&compute->batch),
			.queue_ns = compute->began_ns - member->submit.accepted_ns -
			            member->decode_ns,
			.decode_ns = member->decode_ns,
			.gather_ns = compute->gather_ns,
			.compute_ns = compute->took_ns,
		},
	};
	draft->encode_began_ns = clock_now_ns();
	draft->n_fields = 0;
}

int answers_outputs(const struct answers *answers, struct compute *compute,
                    struct decoder_request *member, uint32_t index, struct err *err)
{
	struct engine_tensor outputs[ENGINE_TENSORS_MAX];
	const struct oip_origin origin = {
		.generation = answers->lane->generation,
		.memory_peak_bytes = compute->use.peak_bytes,
	};
	struct oip_answer encoded = { 0 };
	struct answers_draft draft;
	struct err why = ERR_NULL;
	size_t bytes;
	int r;

	answers_begin(&draft, compute, member, index);
	if (batch_split(&compute->batch, index, outputs, &why))
		return answers_fault_of(answers, &draft, why.text, err);
	bytes = ANSWERS_HEAD_BYTES +
	        oip_answer_bound(&member->request, &compute->model, outputs);
	r = answers_reserve(answers, bytes, &draft.answer.memory, err);
	if (r < 0) {
		(void)err_set(&why, 0,
		              "the answer may take %zu bytes and the response arena has "
		              "%zu: raise response_arena",
		              bytes, answers->lane->arena.size_bytes);
		return answers_fault_of(answers, &draft, why.text, err);
	}
	if (r)
		return r;
	r = oip_encode(&member->request, &compute->model, &origin, outputs,
	               draft.answer.memory + ANSWERS_HEAD_BYTES, &encoded, &why);
	if (r) {
		lane_unreserve(answers->lane, draft.answer.memory);
		return answers_fault_of(answers, &draft, why.text, err);
	}
	if (!answers_are_finite(compute, outputs))
		draft.answer.flags |= PROTO_ANSWER_FAULT;
	draft.answer.peak_bytes = compute->use.peak_bytes;
	return answers_publish_outputs(answers, &draft, &member->request, &encoded, err);
}
