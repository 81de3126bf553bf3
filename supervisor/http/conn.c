/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections, and what each of them is at. libmicrohttpd's timeouts restart with every
 * byte, so that a client who sends a byte now and then stays for ever. Here every phase
 * of a connection has an absolute deadline. One list per phase is in order of arrival,
 * hence of deadlines; one timer is set for the earliest of them and moved only to an
 * earlier time, so a request costs no timer operation. What becomes of those that are
 * late is for deadline.c to say.
 */
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/gate/tls.h"
#include "supervisor/http/conn.h"

/* Deadlines that are near one another are looked at together. */
#define HTTP_SWEEP_MIN_NS (100 * CLOCK_NS_PER_MS)
/* Data that came this soon after a phase began may belong to the phase before. */
#define HTTP_BEGUN_MS       20
#define HTTP_READERS_LOOK_S 0.25

/* All connections */

void http_conns_tick(struct http *http)
{
	struct http_conns *conns = &http->conns;

	conns->now_ns = clock_now_ns();
}

void http_conns_begin_run(struct http *http)
{
	struct http_conns *conns = &http->conns;

	http_conns_tick(http);
	conns->must_run = false;
	conns->has_output = false;
	conns->n_runs++;
}

void http_conns_want_run(struct http *http)
{
	struct http_conns *conns = &http->conns;

	conns->must_run = true;
}

void http_conns_want_output(struct http *http)
{
	struct http_conns *conns = &http->conns;

	conns->has_output = true;
}

void http_conns_sweep_at(struct http *http, uint64_t at_ns)
{
	struct http_conns *conns = &http->conns;
	uint64_t after_ns = at_ns > conns->now_ns ? at_ns - conns->now_ns : 0;

	if (at_ns >= conns->sweep_ns)
		return;
	if (after_ns < HTTP_SWEEP_MIN_NS)
		after_ns = HTTP_SWEEP_MIN_NS;
	conns->sweep_ns = conns->now_ns + after_ns;
	ev_timer_stop(conns->loop, &conns->sweep);
	/* The loop's own now may be a little older: too early only means once more. */
	ev_timer_set(&conns->sweep, (double)after_ns / 1e9, 0.);
	ev_timer_start(conns->loop, &conns->sweep);
}

void http_conns_touch(struct http *http)
{
	http_conns_tick(http);
	if (http->conns.n_connections > 0)
		http_conns_sweep_at(http, http->conns.now_ns);
}

void http_conns_watch_readers(struct http *http)
{
	struct http_conns *conns = &http->conns;

	if (!ev_is_active(&conns->readers))
		ev_timer_again(conns->loop, &conns->readers);
}

static void http_on_sweep(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;
	struct http_conns *conns = &http->conns;
	uint64_t next_ns;

	(void)loop;
	(void)revents;
	http_conns_tick(http);
	conns->sweep_ns = CLOCK_NEVER;
	next_ns = conns->lateness->sweep(http);
	if (next_ns != CLOCK_NEVER)
		http_conns_sweep_at(http, next_ns);
}

static void http_on_readers(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;

	(void)revents;
	http_conns_tick(http);
	if (!http->conns.lateness->hurry(http))
		ev_timer_stop(loop, timer);
}

void http_conns_init(struct http *http, const struct http_lateness *lateness)
{
	struct http_conns *conns = &http->conns;

	conns->loop = http->loop;
	conns->lateness = lateness;
	for (unsigned int i = 0; i < HTTP_PHASE_COUNT; i++)
		TAILQ_INIT(&conns->phases[i]);
	http_conns_tick(http);
	conns->sweep_ns = CLOCK_NEVER;
	ev_timer_init(&conns->sweep, http_on_sweep, 0., 0.);
	conns->sweep.data = http;
	ev_timer_init(&conns->readers, http_on_readers, 0., HTTP_READERS_LOOK_S);
	conns->readers.data = http;
}

void http_conns_fini(struct http *http)
{
	struct http_conns *conns = &http->conns;

	ev_timer_stop(conns->loop, &conns->sweep);
	ev_timer_stop(conns->loop, &conns->readers);
}

/* Phases */

static bool http_phase_is_busy(enum http_phase phase)
{
	return phase >= HTTP_PHASE_BODY && phase <= HTTP_PHASE_SEND;
}

uint64_t http_conn_deadline(const struct http_conn *conn)
{
	uint64_t timeout_ns = conn->http->timeout_ns[conn->phase];

	return timeout_ns == CLOCK_NEVER ? CLOCK_NEVER : conn->since_ns + timeout_ns;
}

/* When to look at @conn: at its deadline, or before, where the rate of its body
 * counts. */
static uint64_t http_look_of(const struct http_conn *conn)
{
	uint64_t at_ns = http_conn_deadline(conn);
	bool has_rate =
		conn->phase == HTTP_PHASE_BODY || conn->phase == HTTP_PHASE_SWALLOW;

	if (has_rate && conn->http->body_rate_min > 0 &&
	    at_ns > conn->since_ns + HTTP_RATE_GRACE_NS)
		at_ns = conn->since_ns + HTTP_RATE_GRACE_NS;
	return at_ns;
}

void http_conn_enter(struct http_conn *conn, enum http_phase phase)
{
	struct http *http = conn->http;
	struct http_conns *conns = &http->conns;

	conns->n_busy -= http_phase_is_busy(conn->phase);
	conns->n_busy += http_phase_is_busy(phase);
	/* Who leaves TURN waits for none. */
	turns_remove(&http->turns.turns, &conn->turn.turn);
	TAILQ_REMOVE(&conns->phases[conn->phase], conn, link);
	conn->phase = phase;
	conn->since_ns = conns->now_ns;
	TAILQ_INSERT_TAIL(&conns->phases[phase], conn, link);
	http_conns_sweep_at(http, http_look_of(conn));
}

/* libmicrohttpd does not tell, and asking the kernel is only worth it for a connection
 * that is about to be closed. */
bool http_conn_has_begun(struct http_conn *conn)
{
	struct tcp_info info = { 0 };
	socklen_t bytes = sizeof(info);

	if (conn->phase == HTTP_PHASE_NEW && conn->has_begun)
		return true;
	if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) < 0)
		return false;
	if (conn->phase != HTTP_PHASE_NEW)
		return info.tcpi_last_data_recv + HTTP_BEGUN_MS <
		       (conn->http->conns.now_ns - conn->since_ns) / CLOCK_NS_PER_MS;
	conn->has_begun = info.tcpi_bytes_received > peer_bytes(conn->peer);
	return conn->has_begun;
}

/* Birth and death */

/* Under TLS: gives the connection its certificate. False: it cannot be served. */
static bool http_conn_secure(struct http_conn *conn)
{
	struct tls *tls = conn->http->models.gate->tls;
	const union MHD_ConnectionInfo *info;

	if (!tls)
		return true;
	info = MHD_get_connection_info(conn->connection,
	                               MHD_CONNECTION_INFO_GNUTLS_SESSION);
	conn->session = info ? info->tls_session : NULL;
	conn->pair = conn->session ? tls_begin(tls, conn->session, "http/1.1") : NULL;
	return conn->pair;
}

/* The listener for administration has no proxies. */
static bool http_conn_find_peer(struct http_conn *conn)
{
	const struct http *http = conn->http;

	return http->models.endpoint ||
	       peer_new(&conn->peer, http->config, conn->fd) == 0;
}

struct http_conn *http_conn_new(struct http *http, struct MHD_Connection *connection)
{
	struct http_conn *conn = calloc(1, sizeof(*conn));
	struct http_conns *conns = &http->conns;

	if (!conn)
		return NULL;
	conn->http = http;
	conn->connection = connection;
	conn->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
	                   ->connect_fd;
	if (!http_conn_find_peer(conn) || !http_conn_secure(conn)) {
		peer_free(conn->peer);
		free(conn);
		return NULL;
	}
	http_wire_init(&conn->wire, http->connection_memory_bytes);
	TAILQ_INSERT_TAIL(&conns->phases[HTTP_PHASE_NEW], conn, link);
	http_conn_enter(conn, HTTP_PHASE_NEW);
	conns->n_accepted++;
	conns->n_connections++;
	return conn;
}

void http_conn_free(struct http_conn *conn)
{
	struct http_conns *conns = &conn->http->conns;

	TAILQ_REMOVE(&conns->phases[conn->phase], conn, link);
	conns->n_busy -= http_phase_is_busy(conn->phase);
	conns->n_connections--;
	if (conn->pair)
		tls_end(conn->http->models.gate->tls, conn->pair, conn->ready.has_read);
	peer_free(conn->peer);
	free(conn);
}

/* Connections of @client whose proxies have named it. */
static unsigned int http_conns_of(const struct http *http,
                                  const struct client_address *client)
{
	const struct http_conn *conn;
	struct client_address other;
	unsigned int n = 0;

	for (unsigned int phase = 0; phase < HTTP_PHASE_COUNT; phase++)
		TAILQ_FOREACH (conn, &http->conns.phases[phase], link)
			n += conn->peer && conn->peer->state == PEER_KNOWN &&
			     peer_client(http_conn_end(conn), &other) &&
			     memcmp(&other, client, sizeof(other)) == 0;
	return n;
}

/* libmicrohttpd would count all clients of a proxy as one, and so is not told of the limit. */
bool http_conn_admit(struct http_conn *conn)
{
	const struct http *http = conn->http;
	unsigned int most = http->config->max_connections_per_address;
	struct client_address client;

	if (conn->peer->state == PEER_REFUSED)
		return false;
	if (most == 0 || !peer_client(http_conn_end(conn), &client) ||
	    http_conns_of(http, &client) <= most)
		return true;
	peer_refuse(conn->peer, "max_connections_per_address are open");
	return false;
}

/* The current request */

void http_conn_resume(struct http_conn *conn)
{
	http_conns_want_run(conn->http);
	if (!conn->is_suspended)
		return;
	conn->is_suspended = false;
	MHD_resume_connection(conn->connection);
}

void http_conn_suspend(struct http_conn *conn)
{
	conn->is_suspended = true;
	MHD_suspend_connection(conn->connection);
}

void http_conn_read_on(struct http_conn *conn)
{
	http_conn_suspend(conn);
	http_conn_resume(conn);
}

struct peer_end http_conn_end(const struct http_conn *conn)
{
	return (struct peer_end){ .fd = conn->fd, .peer = conn->peer };
}

const char *http_conn_client(struct http_conn *conn)
{
	struct sockaddr_storage address;
	char host[HTTP_CLIENT_MAX - 8];
	char port[8];

	if (conn->client[0] == '\0' && peer_address(http_conn_end(conn), &address) &&
	    getnameinfo((struct sockaddr *)&address, sizeof(address), host, sizeof(host),
	                port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		(void)snprintf(conn->client, sizeof(conn->client), "%s %s", host, port);
	return conn->client;
}

void http_conn_take(struct http_conn *conn, struct request *request)
{
	conn->request = request;
	http_conn_enter(conn, HTTP_PHASE_BODY);
}

void http_conn_release(struct http_conn *conn)
{
	struct request *request = conn->request;

	conn->request = NULL;
	if (request)
		request_release(request);
}

void http_conn_on_part(struct request *request, void *context)
{
	struct http_conn *conn = context;

	(void)request;
	conn->has_answer = true;
	http_conn_resume(conn);
}

void http_conn_must_close(struct http_conn *conn)
{
	conn->must_close = true;
}

void http_conn_forget(struct http_conn *conn)
{
	http_conn_release(conn);
	conn->has_answer = false;
	conn->must_close = false;
	conn->refusal = (struct request_refusal){ .status = 0 };
}

/* The way out */

/* libmicrohttpd takes a short read for the end of what there is, and its epoll set is
 * edge-triggered: the end of a stream that came along with the last bytes would never be
 * seen. shutdown(2) makes another edge; unread bytes stay readable. */
static void http_conn_show_end(const struct http_conn *conn)
{
	(void)shutdown(conn->fd, SHUT_RD);
}

void http_conn_next(struct http_conn *conn)
{
	conn->n_done++;
	http_conn_enter(conn, HTTP_PHASE_IDLE);
	if (conn->is_half_closed)
		http_conn_show_end(conn);
}

void http_conn_wait(struct http_conn *conn)
{
	http_conn_enter(conn, conn->is_half_closed ? HTTP_PHASE_HALF : HTTP_PHASE_WAIT);
}

void http_conn_half_close(struct http_conn *conn)
{
	conn->is_half_closed = true;
	if (conn->phase == HTTP_PHASE_WAIT)
		http_conn_enter(conn, HTTP_PHASE_HALF);
	else if (conn->phase < HTTP_PHASE_WAIT)
		http_conn_show_end(conn);
}

void http_conn_hang_up(struct http_conn *conn)
{
	http_conn_enter(conn, HTTP_PHASE_GONE);
	http_conn_release(conn);
	/* libmicrohttpd sees the hang-up and closes; a suspended one must be woken. */
	(void)shutdown(conn->fd, SHUT_RDWR);
	http_conn_resume(conn);
}

void http_conn_expire(struct http_conn *conn)
{
	struct http_conns *conns = &conn->http->conns;

	conns->n_expired++;
	http_conn_hang_up(conn);
}

void http_conn_evict(struct http_conn *conn)
{
	struct http_conns *conns = &conn->http->conns;

	conns->n_evicted++;
	http_conn_hang_up(conn);
}

void http_conn_refuse(struct http_conn *conn)
{
	struct http_conns *conns = &conn->http->conns;

	conns->n_refused++;
	peer_log(http_conn_end(conn), &conns->said_ns);
	http_conn_hang_up(conn);
}
