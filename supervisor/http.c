/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/http_conn.h"

/* Deadlines are seconds: looking once a second is enough. */
#define HTTP_SWEEP_S 1.0
/* Rounds of MHD_run() before other watchers get their turn. */
#define HTTP_RUNS_MAX 4
/* Descriptors that the endpoint leaves for everything else. */
#define HTTP_GONE_EVENTS 64
/* How long a connection that has sent nothing may still speak once the endpoint drains. */
#define HTTP_DRAIN_GRACE_NS CLOCK_NS_PER_SEC
/* Rounds of MHD_run() that a forced end waits for closing connections. */
#define HTTP_FREE_ROUNDS 16

/* The daemon on the loop */

static void http_schedule_timer(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	if (MHD_get_timeout(http->daemon, &timeout_ms) != MHD_YES) {
		ev_timer_stop(http->loop, &http->daemon_timer);
		return;
	}
	if (timeout_ms == 0) {
		http->must_run = true;
		return;
	}
	/* Its timeouts are for idle connections and only ever move later while the timer
	 * runs: firing early costs one empty round. */
	if (!ev_is_active(&http->daemon_timer)) {
		ev_timer_set(&http->daemon_timer, (double)timeout_ms / 1e3, 0.);
		ev_timer_start(http->loop, &http->daemon_timer);
	}
}

static void http_on_prepare(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
	struct http *http = prepare->data;

	(void)revents;
	for (int i = 0; http->must_run && i < HTTP_RUNS_MAX; i++) {
		http->must_run = false;
		(void)MHD_run(http->daemon);
		http_schedule_timer(http);
	}
	/* Work is left: go round without blocking, so that others get their turn. */
	if (http->must_run)
		ev_idle_start(loop, &http->again);
}

static void http_on_again(struct ev_loop *loop, ev_idle *idle, int revents)
{
	(void)revents;
	ev_idle_stop(loop, idle);
}

static void http_on_daemon_io(struct ev_loop *loop, ev_io *io, int revents)
{
	struct http *http = io->data;

	(void)loop;
	(void)revents;
	http->must_run = true;
}

static void http_on_daemon_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;

	(void)loop;
	(void)revents;
	http->must_run = true;
}

/* Clients that leave: libmicrohttpd does not look at suspended connections. */
static void http_on_gone(struct ev_loop *loop, ev_io *io, int revents)
{
	struct http *http = io->data;
	struct epoll_event events[HTTP_GONE_EVENTS];
	int n = epoll_wait(http->gone_fd, events, HTTP_GONE_EVENTS, 0);

	(void)loop;
	(void)revents;
	for (int i = 0; i < n; i++) {
		struct http_conn *conn = events[i].data.ptr;

		conn->is_gone = true;
		if (conn->is_suspended)
			http_conn_hang_up(conn);
	}
}

static void http_on_sweep(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;
	uint64_t now = clock_now_ns();

	(void)revents;
	for (unsigned int phase = 0; phase < HTTP_PHASE_WORKING; phase++) {
		struct http_conn *conn = TAILQ_FIRST(&http->phases[phase]);

		while (conn && conn->deadline_ns <= now) {
			struct http_conn *next = TAILQ_NEXT(conn, link);

			/* It reads the end of the stream and closes by itself. */
			(void)shutdown(conn->fd, SHUT_RDWR);
			http_conn_enter(conn, HTTP_PHASE_WORKING);
			conn = next;
		}
	}
	if (http->n_connections == 0)
		ev_timer_stop(loop, timer);
}

/* Connections come and go */

static void http_on_connection(void *context, struct MHD_Connection *connection,
			       void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	struct http *http = context;
	struct http_conn *conn;
	struct epoll_event event = { .events = EPOLLRDHUP | EPOLLET };

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		conn = *socket_context;
		if (!conn)
			return;
		TAILQ_REMOVE(&http->phases[conn->phase], conn, link);
		(void)epoll_ctl(http->gone_fd, EPOLL_CTL_DEL, conn->fd, NULL);
		free(conn->target);
		free(conn);
		if (--http->n_connections == 0 && http->is_draining && http->on_idle)
			ev_feed_event(http->loop, &http->sweep, EV_TIMER);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	*socket_context = conn;
	if (!conn)
		return;
	conn->http = http;
	conn->connection = connection;
	conn->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
			   ->connect_fd;
	TAILQ_INSERT_TAIL(&http->phases[HTTP_PHASE_NEW], conn, link);
	http_conn_enter(conn, HTTP_PHASE_NEW);
	event.data.ptr = conn;
	(void)epoll_ctl(http->gone_fd, EPOLL_CTL_ADD, conn->fd, &event);
	http->n_accepted++;
	if (http->n_connections++ == 0)
		ev_timer_again(http->loop, &http->sweep);
}

static void http_on_panic(void *context, const char *file, unsigned int line,
			  const char *reason)
{
	(void)context;
	log_event(LOG_LEVEL_ERR, "http_panic", "file=%s line=%u reason=%s", file, line,
		  LOG_QUOTED(reason ? reason : ""));
	abort();
}

static void http_on_log(void *context, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

static void http_on_log(void *context, const char *format, va_list args)
{
	char text[256];

	(void)context;
	(void)vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	log_event(LOG_LEVEL_DEBUG, "http_library", "text=%s", LOG_QUOTED(text));
}

/* Birth and death */

void http_set_config(struct http *http, const struct config *config)
{
	http->timeout_ns[HTTP_PHASE_NEW] = config->header_timeout_ns;
	http->timeout_ns[HTTP_PHASE_IDLE] = config->idle_timeout_ns;
	http->timeout_ns[HTTP_PHASE_HEAD] = config->header_timeout_ns;
	http->timeout_ns[HTTP_PHASE_BODY] = config->body_timeout_ns;
}

static int http_start_daemon(struct http *http, const struct config *config, int listen_fd)
{
	const struct MHD_OptionItem options[] = {
		{ MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL },
		{ MHD_OPTION_CONNECTION_LIMIT, (intptr_t)config->max_connections, NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		  (intptr_t)config->connection_memory_bytes, NULL },
		/* For readers that stop reading; the rest has deadlines of our own. */
		{ MHD_OPTION_CONNECTION_TIMEOUT,
		  (intptr_t)(config->idle_timeout_ns / CLOCK_NS_PER_SEC + 1), NULL },
		{ MHD_OPTION_END, 0, NULL },
	};

	http->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
		http_conn_handle, http, MHD_OPTION_EXTERNAL_LOGGER, http_on_log, NULL,
		MHD_OPTION_ARRAY, options, MHD_OPTION_NOTIFY_CONNECTION, http_on_connection,
		http, MHD_OPTION_NOTIFY_COMPLETED, http_conn_on_completed, http,
		MHD_OPTION_URI_LOG_CALLBACK, http_conn_on_line, http, MHD_OPTION_END);
	return http->daemon ? 0 : -EIO;
}

static void http_start_watchers(struct http *http)
{
	int fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;

	ev_io_init(&http->daemon_io, http_on_daemon_io, fd, EV_READ);
	http->daemon_io.data = http;
	ev_io_start(http->loop, &http->daemon_io);
	ev_io_init(&http->gone_io, http_on_gone, http->gone_fd, EV_READ);
	http->gone_io.data = http;
	ev_io_start(http->loop, &http->gone_io);
	ev_prepare_start(http->loop, &http->prepare);
}

int http_new(struct http **ret_http, struct ev_loop *loop, const struct config *config,
	     const struct http_models *models, int listen_fd, struct err *err)
{
	struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http) {
		close_fd(&listen_fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	http->loop = loop;
	http->models = *models;
	http_set_config(http, config);
	for (unsigned int i = 0; i < HTTP_PHASE_COUNT; i++)
		TAILQ_INIT(&http->phases[i]);
	ev_timer_init(&http->daemon_timer, http_on_daemon_timer, 0., 0.);
	http->daemon_timer.data = http;
	ev_timer_init(&http->sweep, http_on_sweep, 0., HTTP_SWEEP_S);
	http->sweep.data = http;
	ev_prepare_init(&http->prepare, http_on_prepare);
	http->prepare.data = http;
	ev_idle_init(&http->again, http_on_again);
	MHD_set_panic_func(http_on_panic, NULL);
	http->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	r = http->gone_fd < 0 ? -errno : http_start_daemon(http, config, listen_fd);
	if (r < 0) {
		close_fd(&listen_fd);
		close_fd(&http->gone_fd);
		free(http);
		return err_set(err, r, "the HTTP endpoint does not start: %s",
			       strerror(-r));
	}
	http_start_watchers(http);
	log_event(LOG_LEVEL_NOTICE, "listening", "address=%s", config->listen);
	*ret_http = http;
	return 0;
}

static void http_on_drained(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct http *http = timer->data;
	void (*on_idle)(void *context) = http->on_idle;

	http_on_sweep(loop, timer, revents);
	if (http->n_connections > 0 || !on_idle)
		return;
	http->on_idle = NULL;
	on_idle(http->on_idle_context);
}

/* A request that has arrived is answered, also when nobody has read it yet. */
static bool http_has_input(const struct http_conn *conn)
{
	char byte;

	return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Connections without a request: idle ones end now, fresh ones get a moment to speak. */
static void http_drain_waiting(struct http *http)
{
	const uint64_t grace_end_ns = clock_now_ns() + HTTP_DRAIN_GRACE_NS;
	struct http_conn *conn;

	TAILQ_FOREACH(conn, &http->phases[HTTP_PHASE_IDLE], link)
		if (!http_has_input(conn))
			(void)shutdown(conn->fd, SHUT_RDWR);
	TAILQ_FOREACH(conn, &http->phases[HTTP_PHASE_NEW], link)
		if (conn->deadline_ns > grace_end_ns)
			conn->deadline_ns = grace_end_ns;
}

void http_drain(struct http *http, void (*on_idle)(void *context), void *context)
{
	MHD_socket listen_fd = MHD_quiesce_daemon(http->daemon);

	if (listen_fd != MHD_INVALID_SOCKET)
		(void)close(listen_fd);
	http->is_draining = true;
	http->on_idle = on_idle;
	http->on_idle_context = context;
	http_drain_waiting(http);
	http->must_run = true;
	ev_set_cb(&http->sweep, http_on_drained);
	ev_timer_again(http->loop, &http->sweep);
	if (http->n_connections == 0)
		ev_feed_event(http->loop, &http->sweep, EV_TIMER);
}

void http_free(struct http *http)
{
	struct http_conn *conn;

	if (!http)
		return;
	if (!http->is_draining)
		http_drain(http, NULL, NULL);
	http->on_idle = NULL;
	/* The daemon must not stop with a suspended connection. */
	for (int round = 0; round < HTTP_FREE_ROUNDS && http->n_connections > 0; round++) {
		for (unsigned int phase = 0; phase < HTTP_PHASE_COUNT; phase++) {
			TAILQ_FOREACH(conn, &http->phases[phase], link) {
				conn->is_gone = true;
				(void)shutdown(conn->fd, SHUT_RDWR);
				if (conn->is_suspended)
					http_conn_hang_up(conn);
			}
		}
		(void)MHD_run(http->daemon);
	}
	MHD_stop_daemon(http->daemon);
	ev_io_stop(http->loop, &http->daemon_io);
	ev_io_stop(http->loop, &http->gone_io);
	ev_timer_stop(http->loop, &http->daemon_timer);
	ev_timer_stop(http->loop, &http->sweep);
	ev_prepare_stop(http->loop, &http->prepare);
	ev_idle_stop(http->loop, &http->again);
	close_fd(&http->gone_fd);
	free(http);
}

json_t *http_to_json(const struct http *http)
{
	return json_pack("{s:i,s:I,s:I,s:I,s:I}", "connections", (int)http->n_connections,
			 "accepted_total", (json_int_t)http->n_accepted, "status_2xx_total",
			 (json_int_t)http->n_by_class[2], "status_4xx_total",
			 (json_int_t)http->n_by_class[4], "status_5xx_total",
			 (json_int_t)http->n_by_class[5]);
}
