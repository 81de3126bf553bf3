/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The life of a request until a loader or moultd answers it (answer.c). request_new()
 * finds room in the arena, request_append() fills it and has it grow, and
 * request_complete() says until when the request may wait.
 */

#include "supervisor/traffic/request.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "supervisor/config/config.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/traffic/lane.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/parameters.h"

/* First room for a body that grows: its length was not announced, or there is no room for
 * all of it. */
#define REQUEST_UNKNOWN_BYTES ((size_t)64 * 1024)
/* Announced bodies that have not come yet may take this part of the arena: announcing
 * costs a client nothing and must not keep others out. */
#define REQUEST_ANNOUNCED_PART 2
#define REQUEST_BODY_ALIGN     ((size_t)64)

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

/* RFC 9110 9.2.2: asked twice, such a request has the effect of one. */
static bool request_is_safe(struct proto_text method)
{
	static const char *const safe[] = { "GET", "HEAD",   "OPTIONS",
		                            "PUT", "DELETE", "TRACE" };

	for (size_t i = 0; i < sizeof(safe) / sizeof(safe[0]); i++)
		if (proto_text_equals(method, safe[i]))
			return true;
	return false;
}

/* Makes a request that has no place yet; NULL: out of memory. */
static struct request *request_make(struct queue *queue,
                                    const struct request_start *start)
{
	struct request *request = queue_new_request(queue);

	if (!request)
		return NULL;
	request->has_owner = true;
	request->on_part = start->on_part;
	request->context = start->context;
	request->timeout_ns = start->timeout_ns;
	request_open_answer(request);
	return request;
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
	request = request_make(queue, start);
	if (!request)
		return request_refuse(refusal, 503, 1, "the server is out of memory");
	request->json_bytes =
		start->json_bytes < SIZE_MAX ? (size_t)start->json_bytes : SIZE_MAX;
	request->length_bytes = length_bytes;
	request->is_encoded = start->is_encoded;
	request->is_hosted = start->is_hosted;
	request->may_replay = !start->is_hosted || request_is_safe(start->method);
	request->timeout_name =
		start->timeout_name ? start->timeout_name : REQUEST_TIMEOUT_HEADER;
	request->head_bytes = proto_head_bytes(start->method, start->target,
	                                       start->fields, start->n_fields);
	if (request->head_bytes > PROTO_HEAD_MAX) {
		queue_free_request(queue, request);
		return request_refuse(refusal, 431, 0,
		                      "the request's headers are larger than %d bytes",
		                      PROTO_HEAD_MAX);
	}
	r = request_place(request, first_bytes, refusal);
	if (r) {
		queue_free_request(queue, request);
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

static void request_accept(struct request *request)
{
	request->accepted_ns = clock_now_ns();
	request->deadline_ns = request->accepted_ns + request->timeout_ns;
}

int request_new_case(struct request **ret_request, struct queue *queue,
                     const struct evidence_case *one, const struct request_start *start)
{
	unsigned char *memory = queue->memory.base;
	struct request_refusal unused;
	struct request *request = request_make(queue, start);

	if (!request)
		return -ENOMEM;
	request->is_case = true;
	request->head_bytes = one->head_bytes;
	request->body_bytes = one->body_bytes;
	if (request_place(request, one->body_bytes, &unused)) {
		queue_free_request(queue, request);
		return -ENOMEM;
	}
	memcpy(memory + request->offset, one->data, one->head_bytes);
	memcpy(memory + request->body_offset, one->data + one->head_bytes,
	       one->body_bytes);
	request_accept(request);
	*ret_request = request;
	return 0;
}

/* Room for the body in its block. */
static size_t request_capacity(const struct request *request)
{
	return arena_capacity(&request->queue->arena, request->offset) -
	       (request->body_offset - request->offset);
}

/* Where the next bytes of the body go. */
static void *request_body_end(const struct request *request)
{
	return (unsigned char *)request->queue->memory.base + request->body_offset +
	       request->body_bytes;
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

/* Sees to it that a body of @body_bytes has room. */
static int request_reserve(struct request *request, size_t body_bytes,
                           struct request_refusal *refusal)
{
	assert(request->state == REQUEST_RECEIVING);
	if (body_bytes > request->queue->max_body_bytes)
		return request_refuse_size(request->queue, refusal);
	return body_bytes > request_capacity(request)
	               ? request_grow(request, body_bytes, refusal)
	               : 0;
}

int request_room(struct request *request, size_t most, void **ret_at, size_t *ret_bytes,
                 struct request_refusal *refusal)
{
	int r = request_reserve(request, request->body_bytes + 1, refusal);
	size_t bytes;

	if (r)
		return r;
	bytes = request_capacity(request) - request->body_bytes;
	*ret_at = request_body_end(request);
	*ret_bytes = bytes < most ? bytes : most;
	return 0;
}

void request_came(struct request *request, size_t bytes)
{
	request->body_bytes += bytes;
}

int request_append(struct request *request, const void *data, size_t bytes,
                   struct request_refusal *refusal)
{
	int r = request_reserve(request, request->body_bytes + bytes, refusal);

	if (r)
		return r;
	memcpy(request_body_end(request), data, bytes);
	request_came(request, bytes);
	return 0;
}

void request_overwrite(struct request *request, const void *data, size_t bytes)
{
	assert(request->state == REQUEST_RECEIVING && bytes <= request->body_bytes);
	memcpy((unsigned char *)request->queue->memory.base + request->body_offset, data,
	       bytes);
}

/* Nobody waits for longer than @timeout_ns, which @name asked for. */
static void request_shorten(struct request *request, uint64_t timeout_ns,
                            const char *name)
{
	if (timeout_ns >= request->timeout_ns)
		return;
	request->timeout_ns = timeout_ns;
	request->timeout_name = name;
}

/* The body has come, or never will: its announced length is no claim any more. */
static void request_forget_announced(struct request *request)
{
	request->queue->announced_bytes -= request->announced_bytes;
	request->announced_bytes = 0;
}

void request_complete(struct request *request, uint64_t timeout_ns)
{
	struct parameters parameters = { 0 };

	request_forget_announced(request);
	request_shorten(request, timeout_ns, "request_timeout");
	/* What a hosted body means is the application's to say. */
	if (!request->is_encoded && !request->is_hosted)
		parameters_read(&parameters, queue_body(request->queue, request),
		                queue_json_bytes(request));
	if (parameters.timeout_ns > 0)
		request_shorten(request, parameters.timeout_ns, "parameter timeout");
	request->level = queue_level(parameters.priority);
	request_accept(request);
}

int request_check_room(const struct request *request, const struct config_model *section,
                       unsigned int retry_after_s, struct request_refusal *refusal)
{
	const struct request_counts *counts = &request->queue->counts;
	const char *model = request->queue->model;

	if (counts->held >= section->max_held)
		return request_refuse(refusal, 503, retry_after_s,
		                      "model '%s' has %llu requests waiting, as many as "
		                      "max_held allows",
		                      model, (unsigned long long)counts->held);
	if (counts->held_bytes + request_bytes(request) > section->max_held_bytes)
		return request_refuse(
			refusal, 503, retry_after_s,
			"model '%s' has %llu bytes of requests waiting, and "
			"max_held_bytes allows no more",
			model, (unsigned long long)counts->held_bytes);
	return 0;
}

void request_release(struct request *request)
{
	assert(request->has_owner);
	request_forget_announced(request);
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
