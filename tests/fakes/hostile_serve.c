/* SPDX-License-Identifier: Apache-2.0 */

/* Requests in, answers out, until QUIT. */

#include "hostile.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "shared/clock.h"

/* A withheld request is looked at so often. */
#define SERVE_LOOK_NS (20 * CLOCK_NS_PER_MS)

void hostile_progress(struct hostile *hostile)
{
	atomic_fetch_add_explicit(&hostile->head->progress, 1, memory_order_relaxed);
}

static struct hostile_stream *serve_find(struct hostile *hostile, uint64_t lease)
{
	for (uint32_t i = 0; i < hostile->leases; i++)
		if (hostile->streams[i].is_used && hostile->streams[i].lease == lease)
			return &hostile->streams[i];
	return NULL;
}

static struct hostile_stream *serve_free_stream(struct hostile *hostile)
{
	for (uint32_t i = 0; i < hostile->leases; i++)
		if (!hostile->streams[i].is_used)
			return &hostile->streams[i];
	_exit(PROTO_EXIT_INTERNAL); /* the supervisor has leased too many */
}

static void serve_request(struct hostile *hostile, const struct proto_submit *submit)
{
	struct hostile_stream *stream = serve_free_stream(hostile);

	hostile_begin(hostile, stream, submit);
	if (!hostile->drain && hostile_has(&hostile->faults, HOSTILE_DRAINING)) {
		hostile->drain = stream;
		hostile->is_alive = true;
		stream->is_withheld = true;
		return;
	}
	hostile_fire(hostile, &hostile->faults, HOSTILE_ACTIVE);
	hostile_fire(hostile, &stream->faults, HOSTILE_ACTIVE);
}

/* Answers a cancelled request at once: nobody reads the answer, but it ends the lease. */
static void serve_cancel(struct hostile *hostile, uint64_t lease)
{
	struct hostile_stream *stream = serve_find(hostile, lease);

	if (!stream || stream->is_heedless)
		return;
	stream->is_withheld = false;
	stream->due_ns = stream->slow_ns = 0;
}

static void serve_take(struct hostile *hostile)
{
	struct proto_submit submit;

	while (ring_pop(&hostile->submit, &submit) == 0) {
		hostile_progress(hostile);
		if (submit.kind == PROTO_SUBMIT_CANCEL)
			serve_cancel(hostile, submit.lease);
		else
			serve_request(hostile, &submit);
	}
}

/* Called after SIGUSR1, which tells that draining has begun. */
static void serve_drain(struct hostile *hostile)
{
	if (!hostile_has_usr1 || !hostile->drain)
		return;
	hostile_fire(hostile, &hostile->faults, HOSTILE_DRAINING);
	hostile->drain->is_withheld = false;
	hostile->drain = NULL;
	hostile->is_alive = false;
}

/* Publishes all parts that are due. Returns when the next one is. */
static uint64_t serve_pump(struct hostile *hostile)
{
	uint64_t until_ns = CLOCK_NEVER;

	for (uint32_t i = 0; i < hostile->leases; i++) {
		struct hostile_stream *stream = &hostile->streams[i];

		if (stream->is_used && !stream->is_withheld)
			hostile_pump(hostile, stream);
		if (stream->is_used && stream->is_withheld && hostile->is_alive)
			until_ns = 0;
		if (stream->is_used && !stream->is_withheld && stream->due_ns < until_ns)
			until_ns = stream->due_ns;
	}
	if (hostile->is_alive)
		hostile_progress(hostile);
	/* An overdue part waits for room: look again in a millisecond. */
	if (until_ns != CLOCK_NEVER && until_ns < clock_now_ns() + CLOCK_NS_PER_MS)
		until_ns = clock_now_ns() + (until_ns ? CLOCK_NS_PER_MS : SERVE_LOOK_NS);
	return until_ns;
}

static bool serve_sees_quit(struct hostile *hostile)
{
	static struct chan_message message;
	struct err err = ERR_NULL;
	int r = chan_recv(&hostile->chan, &message, &err);

	if (r == CHAN_E_CLOSED)
		_exit(PROTO_EXIT_ORPHAN);
	return r == 0 && message.header.type == PROTO_QUIT;
}

/* Waits. True: QUIT has come. */
static bool serve_wait(struct hostile *hostile, uint64_t until_ns)
{
	struct pollfd pollfds[] = {
		{ .fd = hostile->loader_bell, .events = POLLIN },
		{ .fd = hostile->chan.fd, .events = POLLIN },
	};
	bool may_block = ring_sleep(&hostile->release);
	uint64_t now_ns = clock_now_ns();
	uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	struct timespec timeout = {
		.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_SEC),
		.tv_nsec = (long)(left_ns % CLOCK_NS_PER_SEC),
	};
	uint64_t count;
	int n = 0;

	may_block = ring_sleep(&hostile->submit) && may_block;
	if (may_block)
		n = ppoll(pollfds, 2, until_ns == CLOCK_NEVER ? NULL : &timeout, NULL);
	ring_wake(&hostile->release);
	ring_wake(&hostile->submit);
	if (n > 0 && pollfds[0].revents)
		(void)!read(hostile->loader_bell, &count, sizeof(count));
	return n > 0 && pollfds[1].revents && serve_sees_quit(hostile);
}

void hostile_serve(struct hostile *hostile)
{
	do {
		hostile_collect(hostile);
		serve_take(hostile);
		serve_drain(hostile);
	} while (!serve_wait(hostile, serve_pump(hostile)));
}
