/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is late, and who makes room for others: clients that take too long for a head, a
 * body or an answer are told so, as far as they can be, and hung up. The loop calls the
 * two functions of http_deadline_lateness (conn.c); http.c and handler.c call the others
 * at the limits of connections and of requests.
 */
#include "supervisor/http/conn.h"
#include "supervisor/traffic/lane.h"

/* At the limit, connections over which nothing came for this long make room. */
#define HTTP_EVICT_NS (100 * CLOCK_NS_PER_MS)
/* Next go heads that have been coming for longer than a lost packet costs. */
#define HTTP_EVICT_HEAD_NS (250 * CLOCK_NS_PER_MS)
/* For a request that needs the place, the slowest body goes that has come for so long, if
 * it is slower than so many times body_rate_min: a faster one may be nearly through. */
#define HTTP_EVICT_BODY_NS   (CLOCK_NS_PER_SEC)
#define HTTP_EVICT_BODY_RATE 16
/* A body's rate is looked at each second. */
#define HTTP_RATE_LOOK_NS (CLOCK_NS_PER_SEC)
/* Answers that are in the way of others have this long to be read. */
#define HTTP_READER_NS (2 * CLOCK_NS_PER_SEC)
/* Connections closed at once, as a part of max_connections. */
#define HTTP_EVICT_PART 16

/* What a client is told that is late. */
enum http_late { LATE_HEAD, LATE_BODY, LATE_RATE, LATE_FULL_HEAD, LATE_FULL_BODY };

static void http_deadline_answer(struct http_conn *conn, enum http_late late)
{
	static const struct {
		unsigned int status;
		unsigned int retry_after_s;
		const char *text;
	} answers[] = {
		[LATE_HEAD] = { 408, 0, "headers took too long (header_timeout)" },
		[LATE_BODY] = { 408, 0, "body took too long (body_timeout)" },
		[LATE_RATE] = { 408, 0, "body came too slowly (body_rate_min)" },
		[LATE_FULL_HEAD] = { 503, HTTP_RETRY_S,
		                     "headers took too long while all connections were "
		                     "taken (max_connections)" },
		[LATE_FULL_BODY] = { 503, HTTP_RETRY_S,
		                     "body came slowest while all connections were taken "
		                     "(max_connections)" },
	};

	(void)request_refuse(&conn->refusal, answers[late].status,
	                     answers[late].retry_after_s, "the request's %s",
	                     answers[late].text);
	http_answer_raw(conn);
}

static void http_deadline_expire(struct http_conn *conn)
{
	bool is_between = conn->phase == HTTP_PHASE_IDLE ||
	                  (conn->phase == HTTP_PHASE_NEW && conn->http->is_draining);
	bool has_begun = conn->phase != HTTP_PHASE_NEW && conn->phase != HTTP_PHASE_IDLE;

	if (conn->phase == HTTP_PHASE_TURN) {
		http_turn_refuse(conn, "there were too many requests of this kind");
		return;
	}
	if (!has_begun)
		has_begun = http_conn_has_begun(conn);
	if (is_between && has_begun) {
		/* The next head is on its way and gets its own time. */
		http_conn_enter(conn, HTTP_PHASE_HEAD);
		return;
	}
	if (has_begun && conn->phase <= HTTP_PHASE_SWALLOW)
		http_deadline_answer(conn, conn->phase <= HTTP_PHASE_HEAD ? LATE_HEAD
		                                                          : LATE_BODY);
	http_conn_expire(conn);
}

/* Closes up to @left connections of @phase that want nothing. Returns what is left of
 * it. */
static unsigned int http_evict_idle(struct http *http, enum http_phase phase,
                                    unsigned int left)
{
	struct http_conn *conn = TAILQ_FIRST(&http->conns.phases[phase]);

	while (conn && left > 0 && conn->since_ns + HTTP_EVICT_NS <= http->conns.now_ns) {
		struct http_conn *next = TAILQ_NEXT(conn, link);

		if (!http_conn_has_begun(conn)) {
			http_conn_evict(conn);
			left--;
		} else if (phase == HTTP_PHASE_IDLE) {
			/* The next head is on its way and gets its own time. */
			http_conn_enter(conn, HTTP_PHASE_HEAD);
		}
		conn = next;
	}
	return left;
}

/* The connection whose head has been due for longest; NULL: there is none. */
static struct http_conn *http_slowest_head(const struct http *http)
{
	struct http_conn *first = TAILQ_FIRST(&http->conns.phases[HTTP_PHASE_NEW]);
	struct http_conn *next = TAILQ_FIRST(&http->conns.phases[HTTP_PHASE_HEAD]);

	if (!first || (next && next->since_ns < first->since_ns))
		return next;
	return first;
}

/* Closes answered clients that do not leave: one whose request was malformed, and one
 * that does not read an answer of the supervisor's own. */
static void http_evict_answered(struct http *http)
{
	struct http_conn *conn = TAILQ_FIRST(&http->conns.phases[HTTP_PHASE_LINGER]);

	if (conn && conn->since_ns + HTTP_EVICT_NS <= http->conns.now_ns) {
		http_conn_evict(conn);
	}
	TAILQ_FOREACH (conn, &http->conns.phases[HTTP_PHASE_SEND], link) {
		if (conn->since_ns + HTTP_READER_NS > http->conns.now_ns)
			return;
		if (conn->sending.lane)
			continue;
		http_conn_evict(conn);
		return;
	}
}

static uint64_t http_rate_of(const struct http_conn *conn, uint64_t now_ns)
{
	return (uint64_t)((double)conn->body.received_bytes * (double)CLOCK_NS_PER_SEC /
	                  (double)(now_ns - conn->since_ns + 1));
}

bool http_deadline_evict_body(struct http *http)
{
	static const enum http_phase phases[] = { HTTP_PHASE_BODY, HTTP_PHASE_SWALLOW };
	uint64_t slowest = http->body_rate_min * HTTP_EVICT_BODY_RATE;
	struct http_conn *found = NULL;
	struct http_conn *conn;

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		TAILQ_FOREACH (conn, &http->conns.phases[phases[i]], link) {
			if (conn->since_ns + HTTP_EVICT_BODY_NS > http->conns.now_ns)
				break;
			if (http_rate_of(conn, http->conns.now_ns) < slowest) {
				slowest = http_rate_of(conn, http->conns.now_ns);
				found = conn;
			}
		}
	if (!found)
		return false;
	http_deadline_answer(found, LATE_FULL_BODY);
	http_conn_evict(found);
	return true;
}

void http_deadline_make_room(struct http *http)
{
	unsigned int left = http->max_connections / HTTP_EVICT_PART + 1;
	struct http_conn *conn;

	if (http->conns.n_connections >= http->max_connections + http->reserve / 4 * 3)
		http_evict_answered(http);
	left -= http_turn_make_room(http, left);
	/* Who has asked before goes after who never has: the next request may be on its way. */
	left = http_evict_idle(http, HTTP_PHASE_NEW, left);
	left = http_evict_idle(http, HTTP_PHASE_IDLE, left);
	while (left > 0 && (conn = http_slowest_head(http)) &&
	       conn->since_ns + HTTP_EVICT_HEAD_NS <= http->conns.now_ns) {
		http_deadline_answer(conn, LATE_FULL_HEAD);
		http_conn_evict(conn);
		left--;
	}
	http_conns_sweep_at(http, http->conns.now_ns + HTTP_EVICT_NS);
}

/* Hangs up on one slow reader at a time: room for the next answer may be all that it
 * takes. */
static bool http_deadline_hurry(struct http *http)
{
	struct http_conn *conn;
	bool is_watched = false;

	TAILQ_FOREACH (conn, &http->conns.phases[HTTP_PHASE_SEND], link) {
		if (!conn->sending.lane)
			continue;
		is_watched = true;
		if (conn->since_ns + HTTP_READER_NS > http->conns.now_ns ||
		    !lane_waits_for_readers(conn->sending.lane))
			continue;
		http_conn_evict(conn);
		return true;
	}
	return is_watched;
}

/* Ends bodies of @phase that come too slowly. Returns when to look again. */
static uint64_t http_rate_sweep(struct http *http, enum http_phase phase)
{
	struct http_conn *conn = TAILQ_FIRST(&http->conns.phases[phase]);

	while (conn && conn->since_ns + HTTP_RATE_GRACE_NS <= http->conns.now_ns) {
		struct http_conn *next = TAILQ_NEXT(conn, link);

		if (http_rate_of(conn, http->conns.now_ns) < http->body_rate_min) {
			http_deadline_answer(conn, LATE_RATE);
			http_conn_expire(conn);
		}
		conn = next;
	}
	conn = TAILQ_FIRST(&http->conns.phases[phase]);
	if (!conn)
		return CLOCK_NEVER;
	if (conn->since_ns + HTTP_RATE_GRACE_NS > http->conns.now_ns)
		return conn->since_ns + HTTP_RATE_GRACE_NS;
	return http->conns.now_ns + HTTP_RATE_LOOK_NS;
}

static uint64_t http_deadline_sweep(struct http *http)
{
	uint64_t next_ns = CLOCK_NEVER;
	uint64_t look_ns;

	if (http->conns.n_connections >= http->max_connections)
		http_conns_want_run(http);
	for (unsigned int phase = 0; phase < HTTP_PHASE_COUNT; phase++) {
		struct http_conn *conn = TAILQ_FIRST(&http->conns.phases[phase]);

		/* Expiring moves @conn to another list. */
		while (conn && http_conn_deadline(conn) <= http->conns.now_ns) {
			http_deadline_expire(conn);
			conn = TAILQ_FIRST(&http->conns.phases[phase]);
		}
		if (conn && http_conn_deadline(conn) < next_ns)
			next_ns = http_conn_deadline(conn);
	}
	for (unsigned int phase = HTTP_PHASE_BODY;
	     phase <= HTTP_PHASE_SWALLOW && http->body_rate_min > 0; phase++) {
		look_ns = http_rate_sweep(http, phase);
		if (look_ns < next_ns)
			next_ns = look_ns;
	}
	return next_ns;
}

const struct http_lateness http_deadline_lateness = {
	.sweep = http_deadline_sweep,
	.hurry = http_deadline_hurry,
};
