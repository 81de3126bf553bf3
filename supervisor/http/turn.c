/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Metrics, statistics and the index are as long as there are models, and are asked for by
 * programs that may not know when to pause. Together they get one part in TURNS_PART of
 * the loop's time. Requests beyond that wait for their turn with their connections
 * suspended, which costs nothing. Health and the small descriptions of single models cost
 * what a prediction does and never wait.
 */

#include <sys/random.h>

#include "supervisor/http/conn.h"

/*
 * Time that an answer takes beside its making: reading the request, the rounds of
 * libmicrohttpd, and sending. These figures stand in for a measurement, as a slow
 * client's socket takes an answer in pieces, in other rounds, among other answers.
 * Sending 468 KB over the loopback, with the receiver's work in it, was measured to take
 * 0.1 to 0.25 ms; the figure is twice that.
 */
#define HTTP_TURN_REQUEST_NS  UINT64_C(30000)
#define HTTP_TURN_NS_PER_BYTE UINT64_C(1)
/* The loop's timers are no finer. */
#define HTTP_TURN_LOOK_NS CLOCK_NS_PER_MS
/* An address of which no more than so many wait is no crowd. */
#define HTTP_TURN_FEW 8
/* Refused clients may ask again at once, and refusing takes time: so many in so long. */
#define HTTP_TURN_REFUSED_NS (20 * CLOCK_NS_PER_MS)
#define HTTP_TURN_REFUSED    8
/* Answers on their way at once, at most: clients that do not read theirs hold no more. */
#define HTTP_TURN_PLACES      32
#define HTTP_TURN_PLACES_PART 4 /* of all connections, where these are few */
/* While others wait for a place, an answer has this long to be read. */
#define HTTP_TURN_READER_NS (2 * CLOCK_NS_PER_SEC)
#define HTTP_TURN_STUCK_NS  (100 * CLOCK_NS_PER_MS)

bool http_turn_counts(const struct http_conn *conn)
{
	return conn->ask.route.kind == HTTP_ROUTE_METRICS ||
	       conn->ask.route.kind == HTTP_ROUTE_STATS ||
	       conn->ask.route.kind == HTTP_ROUTE_FRONT ||
	       conn->ask.route.kind == HTTP_ROUTE_INDEX;
}

/* Ends the wait of @conn, whose request has come whole: its handler is called again. */
static void http_turn_end(struct http_conn *conn)
{
	http_conn_enter(conn, HTTP_PHASE_SWALLOW);
	http_conn_resume(conn);
}

static bool http_turn_has_place(const struct http *http)
{
	unsigned int most = http->max_connections / HTTP_TURN_PLACES_PART + 1;

	return http->turns.n_taken < (most < HTTP_TURN_PLACES ? most : HTTP_TURN_PLACES);
}

/* Hangs up on the client that has been reading its answer for longest, if that is long. */
static void http_turn_hurry(struct http *http)
{
	struct http_conn *conn;

	TAILQ_FOREACH (conn, &http->conns.phases[HTTP_PHASE_SEND], link) {
		if (conn->since_ns + HTTP_TURN_READER_NS > http->conns.now_ns)
			return;
		if (!conn->turn.is_taken)
			continue;
		http_conn_evict(conn);
		return;
	}
}

/* Gives the next turn, one in a round at most, and sets the timer for another look. */
static void http_turn_look(struct http *http)
{
	struct http_turns *turns = &http->turns;
	bool has_place = http_turn_has_place(http);
	uint64_t now_ns = http->conns.now_ns;
	struct turn *next = has_place ? turns_next(&turns->turns, now_ns) : NULL;
	uint64_t due_ns = turns_due_ns(&turns->turns);
	uint64_t after_ns = due_ns > now_ns ? due_ns - now_ns : 0;

	if (next) {
		struct http_conn *conn = next->owner;
		struct http_turn *turn = &conn->turn;

		turn->is_due = true;
		http_turn_end(conn);
	}
	ev_timer_stop(http->loop, &turns->timer);
	if (turns->turns.n_waiting == 0)
		return;
	if (!has_place)
		http_turn_hurry(http);
	if (after_ns < HTTP_TURN_LOOK_NS)
		after_ns = HTTP_TURN_LOOK_NS;
	if (!has_place && after_ns < HTTP_TURN_STUCK_NS)
		after_ns = HTTP_TURN_STUCK_NS;
	ev_timer_set(&turns->timer, (double)after_ns / 1e9, 0.);
	ev_timer_start(http->loop, &turns->timer);
}

static void http_on_turn(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;

	(void)loop;
	(void)revents;
	http_conns_tick(http);
	http_turn_look(http);
}

bool http_turn_wait(struct http_conn *conn)
{
	struct http *http = conn->http;
	struct http_turns *turns = &http->turns;
	struct http_turn *turn = &conn->turn;
	struct sockaddr_storage from;

	if (turn->is_due || (turns_is_free(&turns->turns, http->conns.now_ns) &&
	                     http_turn_has_place(http)))
		return false;
	http_conn_enter(conn, HTTP_PHASE_TURN);
	turns_add(&turns->turns, &turn->turn, conn,
	          peer_address(http_conn_end(conn), &from)
	                  ? (const struct sockaddr *)&from
	                  : NULL);
	turns->n_waited++;
	http_conn_suspend(conn);
	if (!ev_is_active(&turns->timer))
		http_turn_look(http);
	return true;
}

void http_turn_charge(struct http_conn *conn, uint64_t took_ns)
{
	struct http *http = conn->http;
	struct http_turns *turns = &http->turns;
	struct http_turn *turn = &conn->turn;

	turn->is_taken = true;
	turns->n_taken++;
	turns_charge(&turns->turns,
	             took_ns + HTTP_TURN_REQUEST_NS +
	                     conn->sending.answer_bytes * HTTP_TURN_NS_PER_BYTE,
	             http->conns.now_ns);
	http_turn_look(http);
}

void http_turn_forget(struct http_conn *conn)
{
	struct http_turns *turns = &conn->http->turns;
	struct http_turn *turn = &conn->turn;

	turns_remove(&turns->turns, &turn->turn);
	turn->is_due = false;
	if (!turn->is_taken)
		return;
	turn->is_taken = false;
	turns->n_taken--;
	if (turns->turns.n_waiting > 0)
		http_turn_look(conn->http);
}

void http_turn_refuse(struct http_conn *conn, const char *why)
{
	http_conn_must_close(conn);
	(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S,
	                     "metrics, statistics and the index get a part of the "
	                     "server's time, and %s",
	                     why);
	http_turn_end(conn);
}

unsigned int http_turn_make_room(struct http *http, unsigned int most)
{
	struct http_turns *turns = &http->turns;
	unsigned int n = 0;
	struct turn *turn;

	if (http->conns.now_ns < turns->refused_ns + HTTP_TURN_REFUSED_NS)
		return 0;
	while (n < most && n < HTTP_TURN_REFUSED &&
	       (turn = turns_most_crowded(&turns->turns)) &&
	       turns->turns.lengths[turn->queue] > HTTP_TURN_FEW) {
		http_turn_refuse(turn->owner,
		                 "all connections are taken (max_connections)");
		turns->n_refused++;
		turns->refused_ns = http->conns.now_ns;
		n++;
	}
	return n;
}

void http_turn_init(struct http *http)
{
	struct http_turns *turns = &http->turns;
	uint64_t seed = 0;

	/* Without a seed, clients could choose to share another's queue, and do no
	 * worse. */
	(void)!getrandom(&seed, sizeof(seed), GRND_NONBLOCK);
	turns_init(&turns->turns, seed);
	ev_timer_init(&turns->timer, http_on_turn, 0., 0.);
	turns->timer.data = http;
}

void http_turn_fini(struct http *http)
{
	struct http_turns *turns = &http->turns;

	ev_timer_stop(http->loop, &turns->timer);
}
