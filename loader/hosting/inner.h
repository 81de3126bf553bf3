/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The host from the inside: host.c owns it, and stream.c what a request has of a body that comes by
 * parts.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <unistd.h>

#include "loader/engine.h"
#include "loader/serve/lane.h"

/* Of a request whose body comes by parts. */
struct host_stream {
	const unsigned char *window;
	uint64_t window_bytes;
	uint64_t read_bytes; /* of the body */
	bool wants_more;     /* somebody was told AGAIN, or waits */
	bool is_read;        /* somebody is in host_stream_read() */
};

struct host_request {
	struct engine_request
		request; /* first: an engine's pointer is this struct's, too */
	TAILQ_ENTRY(host_request) link;
	uint64_t lease;
	uint64_t taken_ns;
	struct lane_count count;
	struct host_stream stream;
	bool is_taken; /* by a thread of the engine */
	bool is_gone;
	bool has_begun; /* the first part was sent */
	bool has_ended;
	struct engine_field fields[PROTO_FIELDS_MAX];
};

TAILQ_HEAD(host_list, host_request);

struct host {
	struct engine_host lent;
	struct lane *lane;
	int control_fd;
	pthread_mutex_t lock; /* guards all that follows, and the lane */
	pthread_cond_t requests;
	pthread_cond_t room;
	pthread_cond_t body; /* streamed: more has come */
	struct host_list waiting;
	struct host_list taken;
	struct host_list ended; /* parts of their answers are under way */
	struct host_list spares;
	size_t n_spares;
	bool wants_room; /* somebody was told AGAIN, or waits */
	bool is_over;
	int outcome; /* SERVE_E_*: ends host_run(); 0: go on */
	struct err why;
};

/* Rings the engine's bell. */
static inline void host_ring(const struct host *host)
{
	const uint64_t one = 1;

	/* EAGAIN: the bell rings already. */
	(void)!write(host->lent.bell, &one, sizeof(one));
}

/* stream.c: all but read with the lock held */

/* Nothing was read of the body that comes through @window. */
void host_stream_begin(struct host_stream *stream, const unsigned char *window,
                       uint64_t window_bytes);
/* Tells who waits for more of @request's body to look again. */
void host_stream_wake(struct host *host, struct host_request *request);
/* Tells all for whom more has come, or the end. */
void host_stream_look(struct host *host);
/* True: something has come that somebody waits for. */
bool host_stream_has_news(const struct host *host);
/* For engine_host.read. */
int host_stream_read(struct host *host, struct engine_request *taken, void *to,
                     size_t size, bool may_wait, size_t *ret_bytes);
