/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a request ends. request_collect() takes a loader's answers out of its lane, part by
 * part. A part feeds statistics, recorder and who listens, a failed loader's words are
 * hidden, and the owner gets the rest. The owner may release the request inside that call:
 * the code behind it relies on the queue's hold alone, and after ANSWERED or FAILED on
 * nothing.
 */

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/recorder.h"

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

void request_open_answer(struct request *request)
{
	STAILQ_INIT(&request->parts);
}

static void request_drop_head(struct request *request)
{
	if (request->head != request->head_room)
		free(request->head);
	request->head = NULL;
	request->answer_head_bytes = 0;
}

/* Makes room for the head of the answer; NULL: it goes out without one. */
static unsigned char *request_make_head(struct request *request, size_t bytes)
{
	request_drop_head(request);
	request->head =
		bytes <= sizeof(request->head_room) ? request->head_room : malloc(bytes);
	if (request->head)
		request->answer_head_bytes = bytes;
	return request->head;
}

void request_try_free(struct request *request)
{
	struct request_part *part;

	if (request->has_owner || request->state == REQUEST_HELD ||
	    request->state == REQUEST_LEASED)
		return;
	while ((part = request_take_part(request)))
		request_part_free(part);
	arena_free(&request->queue->arena, request->offset);
	request_drop_head(request);
	queue_free_request(request->queue, request);
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

void request_give_up(struct request *request, enum request_failure failure,
                     unsigned int status, unsigned int retry_after_s, const char *reason)
{
	bool is_waited_for = request->has_owner && !request->is_expired;

	/* Without an owner this frees the request. */
	request_fail(request, failure);
	if (is_waited_for)
		request_answer_error(request, status, retry_after_s, "%s", reason);
}

void request_expire(struct request *request, unsigned int status,
                    unsigned int retry_after_s, const char *reason)
{
	lane_cancel(request->lane, request);
	request->is_expired = true;
	request_answer_error(request, status, retry_after_s, "%s", reason);
}

static void request_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
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
		request_give_up(request, REQUEST_FAILURE_DEADLINE, 504, 0, reason);
		return;
	}
	(void)snprintf(reason, sizeof(reason),
	               "the model did not answer before the request's deadline (%s)",
	               request->timeout_name);
	request_expire(request, 504, 0, reason);
}

void request_start_deadline(struct request *request)
{
	ev_timer_init(&request->deadline, request_on_deadline,
	              (double)request->timeout_ns / 1e9, 0.);
	request->deadline.data = request;
	ev_timer_start(request->queue->loop, &request->deadline);
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
	    request->is_case || request->is_hosted || detail->is_full)
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

static bool request_is_answered(const struct request *request)
{
	return request->answer_status != REQUEST_STATUS_CANCELLED && !request->is_expired;
}

/* The loader is done with the request. */
static void request_note_last(struct request *request, const struct proto_answer *answer,
                              uint64_t now_ns)
{
	struct queue *queue = request->queue;
	const struct stats_end end = {
		.status = request->answer_status,
		.took_ns = request_took_ns(request, now_ns),
		.now_ms = request_now_ms(request),
	};

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
	struct queue *queue = request->queue;
	uint64_t now_ns = clock_now_ns();
	struct request_part *part = given->part;
	bool is_last = part->is_last;
	bool is_answered;

	if (answer->flags & PROTO_ANSWER_FIRST) {
		request->answer_status = answer->status;
		request->is_fault = answer->flags & PROTO_ANSWER_FAULT;
	}
	if (answer->flags & PROTO_ANSWER_BROKEN) {
		/* The owner is not to take this part for the end. */
		part->is_last = false;
		request->is_broken = true;
		/* For want of a client it is nobody's fault. */
		request->is_fault |= request->has_owner && !request->is_expired;
	}
	if (queue->on_answer)
		queue->on_answer(queue->context, request, answer, now_ns);
	is_answered = request_is_answered(request);
	if (queue->recorder && !request->is_case && !request->is_hosted)
		recorder_take(queue->recorder, request, answer, head, part);
	if (answer->flags & PROTO_ANSWER_FIRST)
		part = request_hide_detail(request, answer, part);
	if (!request->has_owner || request->is_expired) {
		request_part_free(part);
	} else {
		if (answer->flags & PROTO_ANSWER_FIRST) {
			request->status = answer->status;
			request->generation = answer->generation;
			if (answer->head_bytes > 0) {
				void *copy =
					request_make_head(request, answer->head_bytes);

				if (copy)
					memcpy(copy, head, answer->head_bytes);
			}
		}
		request_notify(request, part);
	}
	/* request_release() may have run inside; the queue's hold keeps the request
	 * alive. */
	if (is_last)
		request_note_last(request, answer, now_ns);
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
	if (request_make_head(request, proto_head_bytes(none, none, &content_type, 1)))
		proto_head_write(request->head, none, none, &content_type, 1);
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
	struct lane *lane;

	if (!part)
		return;
	lane = part->lane;
	if (!lane) {
		free(part);
		return;
	}
	lane_release(lane, part);
	lane_unref(lane);
}
