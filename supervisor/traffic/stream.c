/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/stream.h"

static uint64_t stream_taken(const struct proto_stream *stream)
{
	return atomic_load_explicit(&stream->taken, memory_order_seq_cst);
}

void stream_begin(struct proto_stream *stream, struct request *request)
{
	request->taken_bytes = 0;
	atomic_store_explicit(&stream->taken, 0, memory_order_relaxed);
	stream_write(stream, request);
}

void stream_write(struct proto_stream *stream, const struct request *request)
{
	atomic_store_explicit(&stream->came, request->body_bytes, memory_order_seq_cst);
	atomic_store_explicit(&stream->state,
	                      request->is_whole ? PROTO_STREAM_WHOLE : PROTO_STREAM_OPEN,
	                      memory_order_seq_cst);
}

bool stream_has_room(const struct proto_stream *stream, const struct request *request)
{
	return request->wants_room && stream_taken(stream) != request->taken_bytes;
}

int stream_look(const struct proto_stream *stream, struct request *request,
                struct err *err)
{
	uint64_t taken = stream_taken(stream);

	if (taken < request->taken_bytes || taken > request->body_bytes)
		return err_set(err, 1, "the loader has read what has not come of a body");
	if (taken == request->taken_bytes)
		return 0;
	request->taken_bytes = taken;
	request->full_since_ns = 0;
	if (request->wants_room && request->has_owner && request->on_room)
		request->on_room(request, request->context);
	return 0;
}

void stream_end(struct request *request)
{
	if (request->body_bytes <= request->window_bytes)
		request->taken_bytes = 0;
}
