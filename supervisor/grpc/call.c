/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is done with a call: its head is judged when it has come, its message is taken apart while
 * it comes, and answered when the client says that this was all. A refusal is sent at once; what
 * still comes of that call's message is dropped.
 */
#include <string.h>

#include "supervisor/grpc/conn.h"

/* What all clients ask for at once is bounded as over HTTP. Where that much is under way, each
 * connection has its share of it, so that a few with many calls keep nobody out. */
static bool call_has_room(const struct grpc_call *call)
{
	const struct grpc *grpc = call->conn->grpc;
	unsigned int most = grpc->config->max_connections;

	return grpc->conns.n_calls <= most ||
	       call->conn->n_calls <= 1 + most / grpc->conns.n_connections;
}

void grpc_call_begin(struct grpc_call *call)
{
	unsigned int status;
	bool is_good = grpc_head_read(call, &status);

	grpc_call_enter(call, GRPC_PHASE_MESSAGE);
	if (is_good && !call_has_room(call))
		is_good = request_refuse(&call->refusal, 503, GRPC_RETRY_S,
		                         "as many calls are under way as there may be "
		                         "(max_connections)") == 0;
	if (status > 0)
		grpc_reply_http(call, status);
	else if (!is_good)
		grpc_reply_refusal(call);
	grpc_call_drop_head(call);
}

/* What is done with a piece of the message. False, with a refusal. */
static bool call_take(struct grpc_call *call, const struct split_piece *piece)
{
	switch (piece->kind) {
	case SPLIT_FIELDS:
		return grpc_ask_fields(call, piece->data, (size_t)piece->bytes);
	case SPLIT_BEGINS:
		return grpc_ask_raw(call, piece->bytes);
	case SPLIT_RAW:
		return request_append(call->request, piece->data, (size_t)piece->bytes,
		                      &call->refusal) == 0;
	case SPLIT_BAD:
		return request_refuse(
			       &call->refusal, 400, 0,
			       "the call has no one message of protocol buffers") == 0;
	case SPLIT_PACKED:
		return request_refuse(&call->refusal, 501, 0,
		                      "messages are taken as they are, not compressed") ==
		       0;
	case SPLIT_LENGTH:
	case SPLIT_NONE:
		break;
	}
	return true;
}

void grpc_call_data(struct grpc_call *call, struct pb_text data)
{
	const struct grpc *grpc = call->conn->grpc;
	struct split_piece piece;

	grpc_call_receive(call, data.bytes);
	measure_body(&call->measure, grpc->models.gate->clients, grpc->config,
	             data.bytes);
	if (call->phase != GRPC_PHASE_MESSAGE)
		return;
	do {
		piece = split_next(&call->split, &data);
		if (!call_take(call, &piece)) {
			grpc_reply_refusal(call);
			return;
		}
	} while (piece.kind != SPLIT_NONE);
}

static void call_submit(struct grpc_call *call)
{
	grpc_call_enter(call, GRPC_PHASE_WAIT);
	if (!grpc_ask_end(call) || model_submit(call->request, &call->refusal) != 0)
		grpc_reply_refusal(call);
}

void grpc_call_end(struct grpc_call *call)
{
	const struct pb_text message = {
		call->ask.fields ? call->ask.fields : (const unsigned char *)"",
		call->ask.fields_bytes,
	};

	grpc_call_set_ended(call);
	if (call->phase != GRPC_PHASE_MESSAGE)
		return;
	if (!split_is_whole(&call->split)) {
		(void)request_refuse(&call->refusal, 400, 0,
		                     "the call ended before its message did");
		grpc_reply_refusal(call);
	} else if (call->method == GRPC_METHOD_INFER) {
		call_submit(call);
	} else {
		grpc_cold_answer(call, message);
		grpc_ask_forget(call);
	}
}

void grpc_call_late(struct grpc_call *call, const char *why)
{
	(void)request_refuse(&call->refusal, 408, 0, "the call's message %s", why);
	grpc_reply_refusal(call);
}

void grpc_call_over(struct grpc_call *call)
{
	grpc_reply_forget(call);
	grpc_loading_forget(call);
	grpc_ask_forget(call);
	grpc_call_release(call);
	grpc_call_free(call);
}
