/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A recorder writes samples of a queue's traffic to one client of the control socket.
 * request_collect() shows it each part of an answer; a sample is one line of JSON with
 * both bodies in base64. A recorder ends, and frees itself, in one of four ways: the
 * count is reached, the time is over, the client is gone, or the model is stopped.
 */

#include "supervisor/traffic/recorder.h"

#include <errno.h>
#include <jansson.h>
#include <nettle/base64.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

/* Bytes of a line beside the base64 text. */
#define RECORDER_FRAME_BYTES 1024
#define RECORDER_FIELD_MAX   64 /* longest value of a header */

struct recorder {
	struct queue *queue;
	struct control_call *call;
	unsigned int count;
	unsigned int n_taken;
	unsigned int n_large; /* passed over */
	unsigned int n_other; /* passed over */
	uint64_t timeout_ns;
	ev_timer timeout;
};

struct recorder_body {
	const unsigned char *data;
	size_t bytes;
	const unsigned char *head; /* as proto_head_read() takes it */
	size_t head_bytes;
};

static void recorder_free(struct recorder *recorder)
{
	ev_timer_stop(recorder->queue->loop, &recorder->timeout);
	recorder->queue->recorder = NULL;
	free(recorder);
}

void recorder_end(struct recorder *recorder, const char *reason)
{
	if (!recorder)
		return;
	control_fail(recorder->call,
	             "%u of %u requests were recorded: %s; passed over were %u that are "
	             "too large and %u that failed, came in parts or too fast",
	             recorder->n_taken, recorder->count, reason, recorder->n_large,
	             recorder->n_other);
	recorder_free(recorder);
}

static void recorder_finish(struct recorder *recorder)
{
	control_reply(recorder->call,
	              json_pack("{s:{s:I, s:I}}", "passed_over", "large",
	                        (json_int_t)recorder->n_large, "other",
	                        (json_int_t)recorder->n_other),
	              true);
	recorder_free(recorder);
}

/* The meaning of a body depends on these headers; no other is recorded. NULL: out of
 * memory, or a value is no short text. */
static json_t *recorder_headers(const struct recorder_body *body)
{
	static const char *const names[] = { "inference-header-content-length",
		                             "content-encoding" };
	/* A loader could still write to its head: read a copy. */
	FREE unsigned char *memory = malloc(body->head_bytes + 1);
	json_t *headers = json_object();
	struct proto_field field;
	struct proto_head head;
	int failed = 0;

	if (memory && body->head_bytes > 0)
		memcpy(memory, body->head, body->head_bytes);
	if (!memory || (body->head_bytes > 0 &&
	                proto_head_read(&head, memory, body->head_bytes) < 0)) {
		json_decref(headers);
		return NULL;
	}
	while (body->head_bytes > 0 && proto_head_next(&head, &field) == 1)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (proto_text_equals(field.name, names[i]))
				failed |= field.value.bytes > RECORDER_FIELD_MAX ||
				          json_object_set_new(
						  headers, names[i],
						  json_stringn(field.value.data,
				                               field.value.bytes));
	if (!failed)
		return headers;
	json_decref(headers);
	return NULL;
}

static json_t *recorder_body_to_json(const struct recorder_body *body)
{
	size_t length = BASE64_ENCODE_RAW_LENGTH(body->bytes);
	FREE char *text = malloc(length);
	json_t *headers = recorder_headers(body);

	if (!text || !headers) {
		json_decref(headers);
		return NULL;
	}
	base64_encode_raw(text, body->bytes, body->data);
	return json_pack("{s:o, s:o}", "headers", headers, "base64",
	                 json_stringn_nocheck(text, length));
}

static void recorder_show(struct recorder *recorder, uint64_t generation,
                          const struct recorder_body *request,
                          const struct recorder_body *answer)
{
	json_t *asked = recorder_body_to_json(request);
	json_t *answered = asked ? recorder_body_to_json(answer) : NULL;

	if (!answered) {
		json_decref(asked);
		recorder->n_other++;
		return;
	}
	control_reply(recorder->call,
	              json_pack("{s:{s:{s:s, s:I, s:I}, s:o, s:o}}", "sample", "recorded",
	                        "model", recorder->queue->model, "generation",
	                        (json_int_t)generation, "time_ms",
	                        (json_int_t)clock_unix_ms(), "request", asked, "response",
	                        answered),
	              false);
	recorder->n_taken++;
	if (recorder->n_taken == recorder->count)
		recorder_finish(recorder);
}

/* NaN and infinities are no JSON, and so no golden answer; binary data can hold them. */
static bool recorder_is_binary(const struct recorder_body *answered)
{
	struct proto_field field;
	struct proto_head head;

	if (proto_head_read(&head, answered->head, answered->head_bytes) < 0)
		return false;
	while (proto_head_next(&head, &field) == 1)
		if (proto_text_equals(field.name, "inference-header-content-length"))
			return true;
	return false;
}

void recorder_take(struct recorder *recorder, const struct request *request,
                   const struct proto_answer *answer, const unsigned char *head,
                   const struct request_part *part)
{
	const unsigned char *arena = request->queue->memory.base;
	const struct recorder_body asked = {
		.data = arena + request->body_offset,
		.bytes = request->body_bytes,
		.head = arena + request->offset,
		.head_bytes = request->head_bytes,
	};
	const struct recorder_body answered = {
		.data = part->body,
		.bytes = part->body_bytes,
		.head = head,
		.head_bytes = answer->head_bytes,
	};
	size_t line = BASE64_ENCODE_RAW_LENGTH(asked.bytes) +
	              BASE64_ENCODE_RAW_LENGTH(answered.bytes) + RECORDER_FRAME_BYTES;

	if (!(answer->flags & PROTO_ANSWER_FIRST))
		return; /* counted when its first part came */
	if (line > CONTROL_QUEUE_BYTES_MAX)
		recorder->n_large++;
	else if (answer->status != 200 ||
	         (request->is_fault && !recorder_is_binary(&answered)) ||
	         !part->is_last || asked.bytes == 0 || answered.bytes == 0 ||
	         line > control_call_room(recorder->call))
		recorder->n_other++;
	else
		recorder_show(recorder, answer->generation, &asked, &answered);
}

static void recorder_on_timeout(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct recorder *recorder = timer->data;
	struct err err = ERR_NULL;

	(void)loop;
	(void)revents;
	(void)err_set(&err, 0, "no more came within %.0f s",
	              (double)recorder->timeout_ns / 1e9);
	recorder_end(recorder, err.text);
}

static void recorder_on_gone(void *context, struct control_call *call)
{
	(void)call;
	recorder_free(context);
}

int recorder_start(struct queue *queue, struct control_call *call, unsigned int count,
                   uint64_t timeout_ns, struct err *err)
{
	struct recorder *recorder;

	if (queue->recorder)
		return err_set(err, -EBUSY,
		               "requests of model '%s' are being recorded already: try "
		               "again when that is over",
		               queue->model);
	recorder = calloc(1, sizeof(*recorder));
	if (!recorder)
		return err_set(err, -ENOMEM, "out of memory");
	recorder->queue = queue;
	recorder->call = call;
	recorder->count = count;
	recorder->timeout_ns = timeout_ns;
	ev_timer_init(&recorder->timeout, recorder_on_timeout, (double)timeout_ns / 1e9,
	              0.);
	recorder->timeout.data = recorder;
	ev_timer_start(queue->loop, &recorder->timeout);
	control_call_watch(call, recorder_on_gone, recorder);
	queue->recorder = recorder;
	log_event(LOG_LEVEL_NOTICE, "recording", "model=%s count=%u", queue->model,
	          count);
	return 0;
}
