/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libmicrohttpd's timeouts restart with every byte, so that a client who sends a byte now
 * and then stays for ever. Here every phase of a connection has an absolute deadline. One
 * list per phase is in order of arrival, hence of deadlines; one timer is set for the
 * earliest of them and moved only to an earlier time, so a request costs no timer
 * operation.
 */
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "shared/clock.h"
#include "supervisor/http/conn.h"
#include "supervisor/traffic/lane.h"

/* Deadlines that are near one another are looked at together. */
#define HTTP_SWEEP_MIN_NS (100 * CLOCK_NS_PER_MS)
/* Data that came this soon after a phase began may belong to the phase before. */
#define HTTP_BEGUN_MS 20
/* At the limit, connections over which nothing came for this long make room. */
#define HTTP_EVICT_NS (100 * CLOCK_NS_PER_MS)
/* Next go heads that have been coming for longer than a lost packet costs. */
#define HTTP_EVICT_HEAD_NS (250 * CLOCK_NS_PER_MS)
/* For a request that needs the place, the slowest body goes that has come for so long, if
 * it is slower than so many times body_rate_min: a faster one may be nearly through. */
#define HTTP_EVICT_BODY_NS   (CLOCK_NS_PER_SEC)
#define HTTP_EVICT_BODY_RATE 16
/* A body's rate counts from its fifth second on, and is looked at each second. */
#define HTTP_RATE_GRACE_NS (5 * CLOCK_NS_PER_SEC)
#define HTTP_RATE_LOOK_NS  (CLOCK_NS_PER_SEC)
/* Answers that are in the way of others have this long to be read. */
#define HTTP_READER_NS      (2 * CLOCK_NS_PER_SEC)
#define HTTP_READERS_LOOK_S 0.25
/* Connections closed at once, as a part of max_connections. */
#define HTTP_EVICT_PART 16

static uint64_t http_deadline_of(const struct http_conn *conn)
{
	uint64_t timeout_ns = conn->http->timeout_ns[conn->phase];

	return timeout_ns == CLOCK_NEVER ? CLOCK_NEVER : conn->since_ns + timeout_ns;
}

/* When to look at @conn: at its deadline, or before, where the rate of its body
 * counts. */
static uint64_t http_look_of(const struct http_conn *conn)
{
	uint64_t at_ns = http_deadline_of(conn);
	bool has_rate =
		conn->phase == HTTP_PHASE_BODY || conn->phase == HTTP_PHASE_SWALLOW;

	if (has_rate && conn->http->body_rate_min > 0 &&
	    at_ns > conn->since_ns + HTTP_RATE_GRACE_NS)
		at_ns = conn->since_ns + HTTP_RATE_GRACE_NS;
	return at_ns;
}

static void http_deadline_arm(struct http *http, uint64_t at_ns, uint64_t now_ns)
{
	uint64_t after_ns = at_ns > now_ns ? at_ns - now_ns : 0;

	if (at_ns >= http->sweep_ns)
		return;
	if (after_ns < HTTP_SWEEP_MIN_NS)
		after_ns = HTTP_SWEEP_MIN_NS;
	http->sweep_ns = now_ns + after_ns;
	ev_timer_stop(http->loop, &http->sweep);
	/* The loop's own now may be a little older: too early only means once more. */
	ev_timer_set(&http->sweep, (double)after_ns / 1e9, 0.);
	ev_timer_start(http->loop, &http->sweep);
}

void http_conn_enter(struct http_conn *conn, enum http_phase phase)
{
	struct http *http = conn->http;

	http->n_busy -= http_phase_is_busy(conn->phase);
	http->n_busy += http_phase_is_busy(phase);
	turns_remove(&http->turns, &conn->turn);
	TAILQ_REMOVE(&http->phases[conn->phase], conn, link);
	conn->phase = phase;
	conn->since_ns = http->now_ns;
	TAILQ_INSERT_TAIL(&http->phases[phase], conn, link);
	http_deadline_arm(http, http_look_of(conn), http->now_ns);
}

/* True when something has arrived since the phase began. libmicrohttpd does not tell, and
 * asking the kernel is only worth it for a connection that is about to be closed. */
static bool http_conn_has_begun(const struct http_conn *conn, uint64_t now_ns)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) < 0)
		return false;
	if (conn->phase == HTTP_PHASE_NEW)
		return info.tcpi_bytes_received > 0;
	return info.tcpi_last_data_recv + HTTP_BEGUN_MS <
	       (now_ns - conn->since_ns) / CLOCK_NS_PER_MS;
}

static void http_conn_expire(struct http_conn *conn, uint64_t now_ns)
{
	bool is_between = conn->phase == HTTP_PHASE_IDLE ||
	                  (conn->phase == HTTP_PHASE_NEW && conn->http->is_draining);
	bool has_begun = conn->phase != HTTP_PHASE_NEW && conn->phase != HTTP_PHASE_IDLE;

	if (conn->phase == HTTP_PHASE_TURN) {
		http_turn_refuse(conn, "there were too many requests of this kind");
		return;
	}
	if (!has_begun)
		has_begun = http_conn_has_begun(conn, now_ns);
	if (is_between && has_begun) {
		/* The next head is on its way and gets its own time. */
		http_conn_enter(conn, HTTP_PHASE_HEAD);
		return;
	}
	conn->http->n_expired++;
	if (has_begun && conn->phase <= HTTP_PHASE_SWALLOW)
		http_answer_raw(conn, 408,
		                conn->phase <= HTTP_PHASE_HEAD
		                        ? "the request's headers took too long "
		                          "(header_timeout)"
		                        : "the request's body took too long "
		                          "(body_timeout)");
	http_conn_hang_up(conn);
}

/* Closes up to @left connections of @phase that want nothing. Returns what is left of
 * it. */
static unsigned int http_evict_idle(struct http *http, enum http_phase phase,
                                    unsigned int left)
{
	struct http_conn *conn = TAILQ_FIRST(&http->phases[phase]);

	while (conn && left > 0 && conn->since_ns + HTTP_EVICT_NS <= http->now_ns) {
		struct http_conn *next = TAILQ_NEXT(conn, link);

		if (!conn->has_begun && !http_conn_has_begun(conn, http->now_ns)) {
			http_conn_hang_up(conn);
			http->n_evicted++;
			left--;
		} else if (phase == HTTP_PHASE_IDLE) {
			/* The next head is on its way and gets its own time. */
			http_conn_enter(conn, HTTP_PHASE_HEAD);
		} else {
			conn->has_begun = true;
		}
		conn = next;
	}
	return left;
}

/* The connection whose head has been due for longest; NULL: there is none. */
static struct http_conn *http_slowest_head(const struct http *http)
{
	struct http_conn *first = TAILQ_FIRST(&http->phases[HTTP_PHASE_NEW]);
	struct http_conn *next = TAILQ_FIRST(&http->phases[HTTP_PHASE_HEAD]);

	if (!first || (next && next->since_ns < first->since_ns))
		return next;
	return first;
}

/* Closes answered clients that do not leave: one whose request was malformed, and one
 * that does not read an answer of the supervisor's own. */
static void http_evict_answered(struct http *http)
{
	struct http_conn *conn = TAILQ_FIRST(&http->phases[HTTP_PHASE_LINGER]);

	if (conn && conn->since_ns + HTTP_EVICT_NS <= http->now_ns) {
		http_conn_hang_up(conn);
		http->n_evicted++;
	}
	TAILQ_FOREACH (conn, &http->phases[HTTP_PHASE_SEND], link) {
		if (conn->since_ns + HTTP_READER_NS > http->now_ns)
			return;
		if (conn->lane)
			continue;
		http_conn_hang_up(conn);
		http->n_evicted++;
		return;
	}
}

static uint64_t http_rate_of(const struct http_conn *conn, uint64_t now_ns)
{
	return (uint64_t)((double)conn->received_bytes * (double)CLOCK_NS_PER_SEC /
	                  (double)(now_ns - conn->since_ns + 1));
}

bool http_deadline_evict_body(struct http *http)
{
	static const enum http_phase phases[] = { HTTP_PHASE_BODY, HTTP_PHASE_SWALLOW };
	uint64_t slowest = http->body_rate_min * HTTP_EVICT_BODY_RATE;
	struct http_conn *found = NULL;
	struct http_conn *conn;

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		TAILQ_FOREACH (conn, &http->phases[phases[i]], link) {
			if (conn->since_ns + HTTP_EVICT_BODY_NS > http->now_ns)
				break;
			if (http_rate_of(conn, http->now_ns) < slowest) {
				slowest = http_rate_of(conn, http->now_ns);
				found = conn;
			}
		}
	if (!found)
		return false;
	http_answer_raw(
		found, 503,
		"the request's body came slowest while all connections were taken "
		"(max_connections)");
	http_conn_hang_up(found);
	http->n_evicted++;
	return true;
}

void http_deadline_make_room(struct http *http)
{
	unsigned int left = http->max_connections / HTTP_EVICT_PART + 1;
	struct http_conn *conn;

	if (http->n_connections >= http->max_connections + http->reserve / 4 * 3)
		http_evict_answered(http);
	left -= http_turn_make_room(http, left);
	left = http_evict_idle(http, HTTP_PHASE_IDLE, left);
	left = http_evict_idle(http, HTTP_PHASE_NEW, left);
	while (left > 0 && (conn = http_slowest_head(http)) &&
	       conn->since_ns + HTTP_EVICT_HEAD_NS <= http->now_ns) {
		http_answer_raw(conn, 503,
		                "the request's headers took too long while all "
		                "connections were taken (max_connections)");
		http_conn_hang_up(conn);
		http->n_evicted++;
		left--;
	}
	http_deadline_arm(http, http->now_ns + HTTP_EVICT_NS, http->now_ns);
}

/* Hangs up on one slow reader at a time: room for the next answer may be all that it
 * takes. */
static void http_on_readers(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;
	struct http_conn *conn;
	bool is_watched = false;

	(void)revents;
	http->now_ns = clock_now_ns();
	TAILQ_FOREACH (conn, &http->phases[HTTP_PHASE_SEND], link) {
		if (!conn->lane)
			continue;
		is_watched = true;
		if (conn->since_ns + HTTP_READER_NS > http->now_ns ||
		    !lane_waits_for_readers(conn->lane))
			continue;
		http->n_evicted++;
		http_conn_hang_up(conn);
		return;
	}
	if (!is_watched)
		ev_timer_stop(loop, timer);
}

void http_deadline_watch_reader(struct http_conn *conn)
{
	struct http *http = conn->http;

	if (conn->lane && !ev_is_active(&http->readers))
		ev_timer_again(http->loop, &http->readers);
}

/* Ends bodies of @phase that come too slowly. Returns when to look again. */
static uint64_t http_rate_sweep(struct http *http, enum http_phase phase)
{
	struct http_conn *conn = TAILQ_FIRST(&http->phases[phase]);

	while (conn && conn->since_ns + HTTP_RATE_GRACE_NS <= http->now_ns) {
		struct http_conn *next = TAILQ_NEXT(conn, link);

		if (http_rate_of(conn, http->now_ns) < http->body_rate_min) {
			http->n_expired++;
			http_answer_raw(conn, 408,
			                "the request's body came too slowly "
			                "(body_rate_min)");
			http_conn_hang_up(conn);
		}
		conn = next;
	}
	conn = TAILQ_FIRST(&http->phases[phase]);
	if (!conn)
		return CLOCK_NEVER;
	if (conn->since_ns + HTTP_RATE_GRACE_NS > http->now_ns)
		return conn->since_ns + HTTP_RATE_GRACE_NS;
	return http->now_ns + HTTP_RATE_LOOK_NS;
}

static void http_on_sweep(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;
	uint64_t next_ns = CLOCK_NEVER;
	uint64_t look_ns;

	(void)loop;
	(void)revents;
	http->now_ns = clock_now_ns();
	http->sweep_ns = CLOCK_NEVER;
	if (http->n_connections >= http->max_connections)
		http->must_run = true;
	for (unsigned int phase = 0; phase < HTTP_PHASE_COUNT; phase++) {
		struct http_conn *conn = TAILQ_FIRST(&http->phases[phase]);

		/* Expiring moves @conn to another list. */
		while (conn && http_deadline_of(conn) <= http->now_ns) {
			http_conn_expire(conn, http->now_ns);
			conn = TAILQ_FIRST(&http->phases[phase]);
		}
		if (conn && http_deadline_of(conn) < next_ns)
			next_ns = http_deadline_of(conn);
	}
	for (unsigned int phase = HTTP_PHASE_BODY;
	     phase <= HTTP_PHASE_SWALLOW && http->body_rate_min > 0; phase++) {
		look_ns = http_rate_sweep(http, phase);
		if (look_ns < next_ns)
			next_ns = look_ns;
	}
	if (next_ns != CLOCK_NEVER)
		http_deadline_arm(http, next_ns, http->now_ns);
}

void http_deadline_init(struct http *http)
{
	for (unsigned int i = 0; i < HTTP_PHASE_COUNT; i++) {
		TAILQ_INIT(&http->phases[i]);
		http->timeout_ns[i] = CLOCK_NEVER;
	}
	http->now_ns = clock_now_ns();
	http->sweep_ns = CLOCK_NEVER;
	ev_timer_init(&http->sweep, http_on_sweep, 0., 0.);
	http->sweep.data = http;
	ev_timer_init(&http->readers, http_on_readers, 0., HTTP_READERS_LOOK_S);
	http->readers.data = http;
}

void http_deadline_touch(struct http *http)
{
	http->now_ns = clock_now_ns();
	if (http->n_connections > 0)
		http_deadline_arm(http, http->now_ns, http->now_ns);
}
