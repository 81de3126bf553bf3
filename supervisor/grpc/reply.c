/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything that is sent. A refusal is one block of header fields that ends the stream; an answer
 * is a head, the message and trailers. Tensors go from the response arena into libnghttp2's
 * frames, and from there into the socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/grpc/conn.h"
#include "supervisor/http/access_log.h"
#include "supervisor/traffic/queue.h"

/* Percent-encoding makes three bytes of one. */
#define GRPC_MESSAGE_BYTES (3 * ERR_TEXT_MAX + 1)
/* JSON of an answer: names, shapes and parameters of its outputs. */
#define GRPC_ANSWER_JSON_BYTES ((size_t)1024 * 1024)

#define FIELD(name, value)                                                               \
	((nghttp2_nv){ (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value),      \
	               strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE })
#define REPLY_FIELDS_MAX 7

/* Header fields to send. */
struct reply {
	nghttp2_nv fields[REPLY_FIELDS_MAX];
	size_t n;
	char code[8];
	char retry_after[16];
	char generation[24];
	char message[GRPC_MESSAGE_BYTES];
};

static void reply_add(struct reply *reply, const char *name, const char *value)
{
	reply->fields[reply->n++] = FIELD(name, value);
}

/* Counting and noting */

static void reply_note(struct grpc_call *call, unsigned int status)
{
	struct grpc_sending *sending = &call->sending;
	struct access_log *access = call->conn->grpc->access;

	if (sending->is_noted)
		return;
	sending->is_noted = true;
	access_log_note(access,
	                &(struct access_log_entry){
				.end = grpc_io_end(&call->conn->io),
				.method = "POST",
				.target = grpc_head_path(call),
				.model = call->route.model,
				.status = status,
				.token = call->permission.name,
				.received_bytes = call->received_bytes,
				.took_ns = clock_now_ns() - call->begun_ns,
				.generation =
					call->request ? call->request->generation : 0,
			});
}

/* Counts an answer with @status, in HTTP's words, as one over HTTP is counted. */
static void reply_count(struct grpc_call *call, unsigned int status)
{
	struct grpc *grpc = call->conn->grpc;
	struct grpc_sending *sending = &call->sending;
	struct grpc_answers *answers = &grpc->answers;
	struct model *model;

	reply_note(call, status);
	sending->code = grpc_code_of(status);
	answers->n_by_code[sending->code]++;
	if (call->method != GRPC_METHOD_INFER)
		return;
	if (call->request) {
		stats_note_response(&call->request->queue->stats, status);
		return;
	}
	model = model_find(grpc->models.list, call->route.model);
	if (model)
		model_note_response(model, status);
}

/* Refusals */

static void reply_submit(struct grpc_call *call, const struct reply *reply)
{
	grpc_call_enter(call, GRPC_PHASE_SEND);
	/* Without memory for it the stream ends without an answer. */
	if (nghttp2_submit_response(call->conn->session, call->stream, reply->fields,
	                            reply->n, NULL))
		(void)nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE,
		                                call->stream, NGHTTP2_INTERNAL_ERROR);
	grpc_conn_touch(call->conn);
}

void grpc_reply_http(struct grpc_call *call, unsigned int status)
{
	struct reply reply = { .n = 0 };

	reply_count(call, status);
	(void)snprintf(reply.code, sizeof(reply.code), "%u", status);
	reply_add(&reply, ":status", reply.code);
	if (status == 405)
		reply_add(&reply, "allow", "POST");
	reply_submit(call, &reply);
}

static void reply_add_status(struct reply *reply, enum grpc_code code)
{
	(void)snprintf(reply->code, sizeof(reply->code), "%u", code);
	reply_add(reply, "grpc-status", reply->code);
}

/* Sends @status, in HTTP's words, and @text. */
static void reply_error(struct grpc_call *call, unsigned int status,
                        unsigned int retry_after_s, const char *text)
{
	struct reply reply = { .n = 0 };
	enum grpc_code code = grpc_code_of(status);

	reply_count(call, status);
	grpc_call_release(call);
	reply_add(&reply, ":status", "200");
	reply_add(&reply, "content-type", "application/grpc");
	reply_add_status(&reply, code);
	(void)grpc_encode_message(reply.message, sizeof(reply.message), text);
	reply_add(&reply, "grpc-message", reply.message);
	if (code == GRPC_UNIMPLEMENTED)
		reply_add(&reply, "grpc-accept-encoding", "identity");
	if (call->permission.challenge)
		reply_add(&reply, "www-authenticate", call->permission.challenge);
	if (retry_after_s > 0) {
		(void)snprintf(reply.retry_after, sizeof(reply.retry_after), "%u",
		               retry_after_s);
		reply_add(&reply, "retry-after", reply.retry_after);
	}
	reply_submit(call, &reply);
}

void grpc_reply_refusal(struct grpc_call *call)
{
	reply_error(call, call->refusal.status, call->refusal.retry_after_s,
	            call->refusal.err.text);
}

/* Messages */

/* The pieces are over: frees them, and has trailers sent. */
static void reply_end(struct grpc_call *call)
{
	struct grpc_sending *sending = &call->sending;
	struct reply reply = { .n = 0 };

	answer_fini(&sending->answer);
	request_part_free(sending->part);
	sending->part = NULL;
	reply_add_status(&reply, GRPC_OK);
	(void)nghttp2_submit_trailer(call->conn->session, call->stream, reply.fields,
	                             reply.n);
}

/* Copies the next bytes of the pieces into a frame. */
static ssize_t reply_on_read(nghttp2_session *session, int32_t stream, uint8_t *buffer,
                             size_t size, uint32_t *flags, nghttp2_data_source *source,
                             void *context)
{
	struct grpc_call *call = source->ptr;
	struct grpc_sending *sending = &call->sending;
	size_t used = 0;

	(void)session;
	(void)stream;
	(void)context;
	while (used < size && sending->piece < sending->answer.n_pieces) {
		const struct pb_text *piece = &sending->answer.pieces[sending->piece];
		size_t bytes = piece->bytes - sending->piece_sent;

		if (bytes > size - used)
			bytes = size - used;
		if (bytes > 0)
			memcpy(buffer + used, piece->data + sending->piece_sent, bytes);
		used += bytes;
		sending->piece_sent += bytes;
		if (sending->piece_sent < piece->bytes)
			break;
		sending->piece++;
		sending->piece_sent = 0;
	}
	if (sending->piece == sending->answer.n_pieces) {
		*flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		reply_end(call);
	}
	return (ssize_t)used;
}

/* Sends the answer, which was made by @generation; 0: the supervisor's own. */
static void reply_message(struct grpc_call *call, uint64_t generation)
{
	const nghttp2_data_provider provider = { .source.ptr = call,
		                                 .read_callback = reply_on_read };
	struct reply reply = { .n = 0 };

	reply_count(call, 200);
	grpc_call_release(call);
	grpc_call_enter(call, GRPC_PHASE_SEND);
	reply_add(&reply, ":status", "200");
	reply_add(&reply, "content-type", "application/grpc");
	if (generation > 0) {
		(void)snprintf(reply.generation, sizeof(reply.generation), "%llu",
		               (unsigned long long)generation);
		reply_add(&reply, "moult-generation", reply.generation);
	}
	if (nghttp2_submit_response(call->conn->session, call->stream, reply.fields,
	                            reply.n, &provider))
		(void)nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE,
		                                call->stream, NGHTTP2_INTERNAL_ERROR);
	grpc_conn_touch(call->conn);
}

void grpc_reply_message(struct grpc_call *call)
{
	reply_message(call, 0);
}

unsigned char *grpc_reply_room(struct grpc_call *call, size_t bytes)
{
	struct grpc_sending *sending = &call->sending;
	unsigned char *room = answer_make_room(&sending->answer, bytes);

	if (!room)
		reply_error(call, 503, GRPC_RETRY_S, "the server is out of memory");
	return room;
}

/* The answer of a request */

/* Bytes of @part that are JSON: as many as the loader says, or all. */
static size_t reply_json_bytes(const struct request *request,
                               const struct request_part *part)
{
	struct proto_field field;
	struct proto_head head;
	char text[24];

	if (request_answer_head(request, &head) == 0)
		while (proto_head_next(&head, &field) == 1) {
			if (!proto_text_equals(field.name,
			                       "inference-header-content-length") ||
			    field.value.bytes >= sizeof(text))
				continue;
			memcpy(text, field.value.data, field.value.bytes);
			text[field.value.bytes] = '\0';
			return strtoull(text, NULL, 10);
		}
	return part->body_bytes;
}

/* Reads what a loader has written: JSON is copied first, as the loader could change it while it
 * is read. 0, or a status with a sentence. */
static int reply_read(struct grpc_sending *sending, const struct request *request,
                      struct err *err)
{
	const struct request_part *part = sending->part;
	size_t json_bytes = reply_json_bytes(request, part);
	unsigned char *json;
	int r = (int)request->status;

	if (json_bytes > part->body_bytes || json_bytes > GRPC_ANSWER_JSON_BYTES ||
	    !part->is_last)
		return err_set(err, 500, "the loader's answer is none for gRPC");
	json = malloc(json_bytes + 1);
	if (!json)
		return err_set(err, 503, "the server is out of memory");
	memcpy(json, part->body, json_bytes);
	if (request->status == 200) {
		const struct pb_text tensors = {
			(const unsigned char *)part->body + json_bytes,
			part->body_bytes - json_bytes,
		};

		r = answer_make(&sending->answer, (struct pb_text){ json, json_bytes },
		                tensors, err);
	} else {
		(void)err_set(err, 0, "the model answered with status %u",
		              request->status);
		answer_read_error((struct pb_text){ json, json_bytes }, err);
	}
	free(json);
	return r;
}

void grpc_reply_request(struct grpc_call *call)
{
	struct grpc_sending *sending = &call->sending;
	struct request *request = call->request;
	struct err err = ERR_NULL;
	int r;

	sending->part = request_take_part(request);
	if (!sending->part || request->is_broken)
		r = err_set(&err, 503, "the answer was broken off");
	else
		r = reply_read(sending, request, &err);
	if (r == 0) {
		reply_message(call, request->generation);
		return;
	}
	request_part_free(sending->part);
	sending->part = NULL;
	reply_error(call, (unsigned int)r, request->retry_after_s, err.text);
}

void grpc_reply_forget(struct grpc_call *call)
{
	struct grpc_sending *sending = &call->sending;

	if (call->phase != GRPC_PHASE_HEAD)
		reply_note(call, 0);
	answer_fini(&sending->answer);
	request_part_free(sending->part);
	sending->part = NULL;
}
