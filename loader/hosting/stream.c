/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bodies that come by parts (struct proto_stream). The engine's thread copies what has come out of
 * the window and says how much it took; where nothing has come it notes that it waits, and the
 * thread that serves, which the supervisor's bell wakes, tells it.
 */
#include <string.h>

#include "loader/hosting/inner.h"

static uint64_t stream_came(const struct host *host, const struct host_request *request)
{
	return atomic_load_explicit(&lane_stream(host->lane, request->lease)->came,
	                            memory_order_seq_cst);
}

static enum proto_stream_state stream_state(const struct host *host,
                                            const struct host_request *request)
{
	return (enum proto_stream_state)
		atomic_load_explicit(&lane_stream(host->lane, request->lease)->state,
	                             memory_order_seq_cst);
}

static bool stream_has_news(const struct host *host, const struct host_request *request)
{
	return request->stream.wants_more &&
	       (stream_came(host, request) != request->stream.read_bytes ||
	        stream_state(host, request) != PROTO_STREAM_OPEN);
}

void host_stream_begin(struct host_stream *stream, const unsigned char *window,
                       uint64_t window_bytes)
{
	*stream = (struct host_stream){ .window = window, .window_bytes = window_bytes };
}

void host_stream_wake(struct host *host, struct host_request *request)
{
	struct host_stream *stream = &request->stream;

	if (!stream->wants_more)
		return;
	stream->wants_more = false;
	(void)pthread_cond_broadcast(&host->body);
	host_ring(host);
}

bool host_stream_has_news(const struct host *host)
{
	const struct host_request *request;

	TAILQ_FOREACH (request, &host->taken, link)
		if (stream_has_news(host, request))
			return true;
	return false;
}

void host_stream_look(struct host *host)
{
	struct host_request *request;

	TAILQ_FOREACH (request, &host->taken, link) {
		/* It is the client that nothing comes from: the model does not stand still. */
		if (request->stream.wants_more)
			lane_progress(host->lane);
		if (stream_has_news(host, request))
			host_stream_wake(host, request);
	}
}

/* Copies what has come, at most @size; returns how much. */
static size_t stream_copy(struct host_stream *stream, uint64_t came, unsigned char *to,
                          size_t size)
{
	uint64_t left = came - stream->read_bytes;
	size_t bytes = left < size ? (size_t)left : size;
	size_t at = (size_t)(stream->read_bytes % stream->window_bytes);
	size_t first = (size_t)stream->window_bytes - at;

	if (first > bytes)
		first = bytes;
	memcpy(to, stream->window + at, first);
	memcpy(to + first, stream->window, bytes - first);
	stream->read_bytes += bytes;
	return bytes;
}

/* 0, ENGINE_HOST_E_AGAIN or ENGINE_HOST_E_GONE. */
static int stream_take(struct host *host, struct host_request *request, void *to,
                       size_t size, size_t *ret_bytes)
{
	/* In this order: all has come that came before the end. */
	enum proto_stream_state state = stream_state(host, request);
	uint64_t came = stream_came(host, request);

	*ret_bytes = 0;
	if (request->is_gone || request->has_ended || host->is_over || host->outcome ||
	    state == PROTO_STREAM_BROKEN ||
	    came - request->stream.read_bytes > request->stream.window_bytes)
		return ENGINE_HOST_E_GONE;
	if (came == request->stream.read_bytes)
		return state == PROTO_STREAM_WHOLE ? 0 : ENGINE_HOST_E_AGAIN;
	*ret_bytes = stream_copy(&request->stream, came, to, size);
	lane_note_taken(host->lane, request->lease, request->stream.read_bytes);
	lane_flush(host->lane);
	return 0;
}

int host_stream_read(struct host *host, struct engine_request *taken, void *to,
                     size_t size, bool may_wait, size_t *ret_bytes)
{
	struct host_request *request = (struct host_request *)taken;
	struct host_stream *stream = &request->stream;
	int r;

	(void)pthread_mutex_lock(&host->lock);
	stream->is_read = true;
	while ((r = stream_take(host, request, to, size, ret_bytes)) ==
	       ENGINE_HOST_E_AGAIN) {
		stream->wants_more = true;
		if (!may_wait)
			break;
		(void)pthread_cond_wait(&host->body, &host->lock);
	}
	stream->is_read = false;
	(void)pthread_mutex_unlock(&host->lock);
	return r;
}
