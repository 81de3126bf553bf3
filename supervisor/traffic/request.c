/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of a request. request_new() finds room in the arena, request_append() fills it
 * and has it grow, and request_set_state() (state.c) alone counts. request_collect() takes
 * a loader's answers out of its lane, part by part. A part feeds statistics, recorder and
 * evidence, a failed loader's words are hidden, and the owner gets the rest. The owner
 * may release the request inside that call: the code behind it relies on the queue's hold
 * alone, and after ANSWERED or FAILED on nothing.
 */

#include "supervisor/traffic/request.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/recorder.h"

/* First room for a body that grows: its length was not announced, or there is no room for
 * all of it. */
#define REQUEST_UNKNOWN_BYTES ((size_t)64 * 1024)
/* Announced bodies that have not come yet may take this part of the arena: announcing
 * costs a client nothing and must not keep others out. */
#define REQUEST_ANNOUNCED_PART 2
#define REQUEST_BODY_ALIGN     ((size_t)64)
/* The status that a loader gives a cancelled request. */
#define REQUEST_STATUS_CANCELLED 499

const char *request_failure_name(enum request_failure failure)
{
	static const char *const names[] = {
		[REQUEST_FAILURE_LEFT] = "left",
		[REQUEST_FAILURE_DEADLINE] = "deadline",
		[REQUEST_FAILURE_POISON] = "poison",
		[REQUEST_FAILURE_CRASH] = "crash",
		[REQUEST_FAILURE_DOWN] = "down",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == REQUEST_FAILURE_COUNT,
	               "one name per reason");
	return names[failure];
}

int request_refuse(struct request_refusal *refusal, unsigned int status,
                   unsigned int retry_after_s, const char *format, ...)
{
	va_list args;

	refusal->status = status;
	refusal->retry_after_s = retry_after_s;
	va_start(args, format);
	(void)vsnprintf(refusal->err.text, sizeof(refusal->err.text), format, args);
	va_end(args);
	err_clean(refusal->err.text);
	return 1;
}

static size_t request_body_start(size_t offset, size_t head_bytes)
{
	size_t end = offset + head_bytes;

	return (end + REQUEST_BODY_ALIGN - 1) & ~(REQUEST_BODY_ALIGN - 1);
}

static int request_refuse_size(const struct queue *queue, struct request_refusal *refusal)
{
	return request_refuse(refusal, 413, 0,
	                      "the body is larger than the %llu bytes that model '%s' "
	                      "allows (max_body)",
	                      (unsigned long long)queue->max_body_bytes, queue->model);
}

/* Finds room for head and body; the arena is the bound on everything that waits. */
static int request_place(struct request *request, size_t body_bytes,
                         struct request_refusal *refusal)
{
	struct arena *arena = &request->queue->arena;
	size_t bytes = request_body_start(0, request->head_bytes) + body_bytes;
	int r;

	r = arena_alloc(arena, bytes, &request->offset);
	if (r == ARENA_E_TOO_LARGE)
		return request_refuse_size(request->queue, refusal);
	if (r)
		return request_refuse(refusal, 503, 1,
		                      "model '%s' has no room for another %zu bytes of "
		                      "requests now (request_arena)",
		                      request->queue->model, bytes);
	request->body_offset = request_body_start(request->offset, request->head_bytes);
	return 0;
}

/* Room for a body of @announced_bytes before any of it has come. */
static size_t request_first_bytes(const struct queue *queue, size_t announced_bytes)
{
	size_t part_bytes = queue->arena.size_bytes / REQUEST_ANNOUNCED_PART;

	if (announced_bytes <= REQUEST_UNKNOWN_BYTES ||
	    (announced_bytes <= part_bytes &&
	     queue->announced_bytes <= part_bytes - announced_bytes))
		return announced_bytes;
	return REQUEST_UNKNOWN_BYTES;
}

int request_new(struct request **ret_request, struct queue *queue,
                const struct request_start *start, struct request_refusal *refusal)
{
	size_t length_bytes = SIZE_MAX;
	size_t first_bytes = REQUEST_UNKNOWN_BYTES;
	struct request *request;
	unsigned char *memory;
	int r;

	if (start->body_bytes != UINT64_MAX) {
		if (start->body_bytes > queue->max_body_bytes)
			return request_refuse_size(queue, refusal);
		length_bytes = (size_t)start->body_bytes;
		first_bytes = request_first_bytes(queue, length_bytes);
	}
	request = calloc(1, sizeof(*request));
	if (!request)
		return request_refuse(refusal, 503, 1, "the server is out of memory");
	request->queue = queue;
	request->has_owner = true;
	request->on_part = start->on_part;
	request->context = start->context;
	request->json_bytes =
		start->json_bytes < SIZE_MAX ? (size_t)start->json_bytes : SIZE_MAX;
	request->length_bytes = length_bytes;
	request->is_encoded = start->is_encoded;
	request->timeout_ns = start->timeout_ns;
	request->timeout_name = REQUEST_TIMEOUT_HEADER;
	STAILQ_INIT(&request->parts);
	request->head_bytes = proto_head_bytes(start->method, start->target,
	                                       start->fields, start->n_fields);
	if (request->head_bytes > PROTO_HEAD_MAX) {
		free(request);
		return request_refuse(refusal, 431, 0,
		                      "the request's headers are larger than %d bytes",
		                      PROTO_HEAD_MAX);
	}
	r = request_place(request, first_bytes, refusal);
	if (r) {
		free(request);
		return r;
	}
	if (first_bytes == length_bytes)
		request->announced_bytes = length_bytes;
	queue->announced_bytes += request->announced_bytes;
	memory = queue->memory.base;
	proto_head_write(memory + request->offset, start->method, start->target,
	                 start->fields, start->n_fields);
	*ret_request = request;
	return 0;
}

int request_new_case(struct request **ret_request, struct queue *queue,
                     const struct evidence_case *one,
                     void (*on_part)(struct request *request, void *context),
                     void *context)
{
	unsigned char *memory = queue->memory.base;
	struct request_refusal unused;
	struct request *request;

	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	request->queue = queue;
	request->is_case = true;
	request->has_owner = true;
	request->on_part = on_part;
	request->context = context;
	request->head_bytes = one->head_bytes;
	request->body_bytes = one->body_bytes;
	STAILQ_INIT(&request->parts);
	if (request_place(request, one->body_bytes, &unused)) {
		free(request);
		return -ENOMEM;
	}
	memcpy(memory + request->offset, one->data, one->head_bytes);
	memcpy(memory + request->body_offset, one->data + one->head_bytes,
	       one->body_bytes);
	*ret_request = request;
	return 0;
}

/* The body outgrew its block: moves it into one twice as large, or as large as the body
 * can get. */
static int request_grow(struct request *request, size_t body_bytes,
                        struct request_refusal *refusal)
{
	size_t room_bytes = body_bytes * 2 < request->length_bytes
	                            ? body_bytes * 2
	                            : request->length_bytes;
	unsigned char *memory = request->queue->memory.base;
	size_t old_offset = request->offset;
	size_t old_body = request->body_offset;
	int r;

	r = request_place(request, room_bytes, refusal);
	if (r) {
		request->offset = old_offset;
		return r;
	}
	memcpy(memory + request->offset, memory + old_offset, request->head_bytes);
	memcpy(memory + request->body_offset, memory + old_body, request->body_bytes);
	arena_free(&request->queue->arena, old_offset);
	return 0;
}

int request_append(struct request *request, const void *data, size_t bytes,
                   struct request_refusal *refusal)
{
	struct arena *arena = &request->queue->arena;
	size_t end = request->body_bytes + bytes;
	size_t room;
	int r;

	assert(request->state == REQUEST_RECEIVING);
	if (end > request->queue->max_body_bytes)
		return request_refuse_size(request->queue, refusal);
	room = arena_capacity(arena, request->offset) -
	       (request->body_offset - request->offset);
	if (end > room) {
		r = request_grow(request, end, refusal);
		if (r)
			return r;
	}
	memcpy((unsigned char *)request->queue->memory.base + request->body_offset +
	               request->body_bytes,
	       data, bytes);
	request->body_bytes = end;
	return 0;
}

static void request_try_free(struct request *request)
{
	struct request_part *part;

	if (request->has_owner || request->state == REQUEST_HELD ||
	    request->state == REQUEST_LEASED)
		return;
	request_forget_announced(request);
	while ((part = request_take_part(request)))
		request_part_free(part);
	arena_free(&request->queue->arena, request->offset);
	free(request->head);
	free(request);
}

/* The request is ANSWERED or FAILED: the queue lets go of it, which may free it. */
static void request_end(struct request *request, enum request_state state)
{
	request_set_state(request, state);
	ev_timer_stop(request->queue->loop, &request->deadline);
	if (request->is_suspect)
		queue_note_suspect(request->queue, request, state == REQUEST_ANSWERED);
	request_try_free(request);
}

static uint64_t request_took_ns(const struct request *request, uint64_t now_ns)
{
	return now_ns > request->accepted_ns ? now_ns - request->accepted_ns : 0;
}

/* The loop's time costs no system call. */
static uint64_t request_now_ms(const struct request *request)
{
	return (uint64_t)(ev_now(request->queue->loop) * 1e3);
}

void request_fail(struct request *request, enum request_failure failure)
{
	const struct stats_end end = {
		.took_ns = request_took_ns(request, clock_now_ns()),
		.now_ms = request_now_ms(request),
	};

	request_count_failure(request, failure);
	if (!request->is_case)
		stats_note_failure(&request->queue->stats, &end,
		                   failure == REQUEST_FAILURE_LEFT);
	request_end(request, REQUEST_FAILED);
}

/* Tells the owner, who may release the request before this returns. */
static void request_notify(struct request *request, struct request_part *part)
{
	STAILQ_INSERT_TAIL(&request->parts, part, link);
	request->is_answering = true;
	request->on_part(request, request->context);
}

/* Makes a part of the supervisor's own, {"error": text}; NULL: out of memory. */
static struct request_part *request_error_part(const char *text)
{
	json_t *object = json_pack("{s:s}", "error", text);
	char *body = object ? json_dumps(object, JSON_COMPACT) : NULL;
	struct request_part *part = NULL;

	if (body) {
		size_t bytes = strlen(body);

		part = calloc(1, sizeof(*part) + bytes);
		if (part) {
			memcpy(part->text, body, bytes);
			part->body = part->text;
			part->body_bytes = bytes;
			part->is_last = true;
		}
	}
	free(body);
	json_decref(object);
	return part;
}

/* Chooses what the client gets in place of a failed loader's own words: @part, or another
 * part, and then @part is freed. */
static struct request_part *request_hide_detail(struct request *request,
                                                const struct proto_answer *answer,
                                                struct request_part *part)
{
	struct detail *detail = &request->queue->detail;
	struct request_part *ours;
	char text[ERR_TEXT_MAX];
	char ref[DETAIL_REF_MAX];

	if (!request->is_fault || answer->status < 500 || !part->is_last ||
	    request->is_case || detail->is_full)
		return part;
	detail_note(detail, request->queue->model, answer, part->body, clock_now_ns(),
	            ref);
	(void)snprintf(text, sizeof(text),
	               "model '%s' failed on the request (reference %s)",
	               request->queue->model, ref);
	ours = request_error_part(text);
	if (!ours)
		return part;
	request_part_free(part);
	return ours;
}

/* Requests that nobody waits for any more count too: the loader answered them. */
static enum pulse_kind request_pulse(const struct request *request)
{
	if (request->is_fault)
		return PULSE_FAULT;
	return request->answer_status < 300 ? PULSE_GOOD : PULSE_NOTHING;
}

static bool request_is_answered(const struct request *request)
{
	return request->answer_status != REQUEST_STATUS_CANCELLED && !request->is_expired;
}

/* The loader is done with the request. */
static void request_note_last(struct request *request, const struct proto_answer *answer)
{
	struct queue *queue = request->queue;
	uint64_t now_ns = clock_now_ns();
	const struct stats_end end = {
		.status = request->answer_status,
		.took_ns = request_took_ns(request, now_ns),
		.now_ms = request_now_ms(request),
	};

	pulse_note(&queue->pulse, answer->generation, request_pulse(request),
	           answer->compute_ns, now_ns);
	if (request->is_case)
		return;
	if (request->is_fault)
		request_count_fault(request);
	stats_note_execution(&queue->stats, answer, end.took_ns);
	if (request_is_answered(request))
		stats_note_answer(&queue->stats, answer, &end);
}

/* Takes in a checked part of a loader's answer. The last part ends the lease. */
static void request_deliver(const struct lane_answer *given)
{
	const struct proto_answer *answer = &given->answer;
	const unsigned char *head = given->head;
	struct request *request = given->request;
	struct request_part *part = given->part;
	bool is_last = part->is_last;
	bool is_answered;

	if (answer->flags & PROTO_ANSWER_FIRST) {
		request->answer_status = answer->status;
		request->is_fault = answer->flags & PROTO_ANSWER_FAULT;
	}
	if (request->is_fault && (answer->flags & PROTO_ANSWER_FIRST) &&
	    answer->generation == request->queue->pulse.generation)
		evidence_note(request->queue->evidence, EVIDENCE_FAILED, request);
	is_answered = request_is_answered(request);
	if (request->queue->recorder && !request->is_case)
		recorder_take(request->queue->recorder, request, answer, head, part);
	if (answer->flags & PROTO_ANSWER_FIRST)
		part = request_hide_detail(request, answer, part);
	if (!request->has_owner || request->is_expired) {
		request_part_free(part);
	} else {
		if (answer->flags & PROTO_ANSWER_FIRST) {
			request->status = answer->status;
			request->generation = answer->generation;
			if (answer->head_bytes > 0) {
				request->head = malloc(answer->head_bytes);
				if (request->head)
					memcpy(request->head, head, answer->head_bytes);
				request->answer_head_bytes =
					request->head ? answer->head_bytes : 0;
			}
		}
		request_notify(request, part);
	}
	/* request_release() may have run inside; the queue's hold keeps the request
	 * alive. */
	if (is_last)
		request_note_last(request, answer);
	if (is_last && is_answered)
		request_end(request, REQUEST_ANSWERED);
	else if (is_last)
		request_fail(request, request->is_expired ? REQUEST_FAILURE_DEADLINE
		                                          : REQUEST_FAILURE_LEFT);
}

int request_collect(struct lane *lane, struct err *err)
{
	struct lane_answer answer;
	int r = 0;

	/* Read as much as the ring holds and no more: a loader that fills the ring
	 * meanwhile gets another turn, and does not keep the loop. */
	for (uint32_t n = 0; r == 0 && n <= lane_answers_max(lane); n++) {
		r = lane_next(lane, &answer, err);
		if (r == 0)
			request_deliver(&answer);
	}
	return r == LANE_E_EMPTY ? 0 : r;
}

void request_answer_error(struct request *request, unsigned int status,
                          unsigned int retry_after_s, const char *format, ...)
{
	static const struct proto_field content_type = {
		.name = { "content-type", sizeof("content-type") - 1 },
		.value = { "application/json", sizeof("application/json") - 1 },
	};
	const struct proto_text none = { "", 0 };
	struct request_part *part;
	char text[ERR_TEXT_MAX];
	va_list args;

	if (!request->has_owner)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err_clean(text);
	part = request->is_answering ? NULL : request_error_part(text);
	if (!part) {
		/* Either the status line is out already or there is no memory. */
		request->is_broken = true;
		request->on_part(request, request->context);
		return;
	}
	request->status = status;
	request->retry_after_s = retry_after_s;
	request->generation = 0;
	request->answer_head_bytes = proto_head_bytes(none, none, &content_type, 1);
	request->head = malloc(request->answer_head_bytes);
	if (request->head)
		proto_head_write(request->head, none, none, &content_type, 1);
	else
		request->answer_head_bytes = 0;
	request_notify(request, part);
}

int request_answer_head(const struct request *request, struct proto_head *ret_head)
{
	if (!request->head) {
		*ret_head = (struct proto_head){ .n_left = 0 };
		return 0;
	}
	return proto_head_read(ret_head, request->head, request->answer_head_bytes);
}

struct request_part *request_take_part(struct request *request)
{
	struct request_part *part = STAILQ_FIRST(&request->parts);

	if (part)
		STAILQ_REMOVE_HEAD(&request->parts, link);
	return part;
}

void request_part_free(struct request_part *part)
{
	if (!part)
		return;
	if (part->lane) {
		lane_release(part->lane, part->token, part->body_bytes);
		lane_unref(part->lane);
	}
	free(part);
}

void request_release(struct request *request)
{
	assert(request->has_owner);
	request->has_owner = false;
	if (request->state == REQUEST_HELD) {
		queue_take(request->queue, request);
		request_fail(request, REQUEST_FAILURE_LEFT);
		return;
	}
	if (request->lane && !request->is_expired)
		lane_cancel(request->lane, request);
	request_try_free(request);
}
