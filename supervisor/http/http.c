/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon on the loop. A readable epoll descriptor of libmicrohttpd only says that
 * there is work (must_run); a prepare watcher then calls MHD_run(), twice in a round at
 * most, and keeps to the connection limit. Two things are watched that libmicrohttpd does
 * not look after: clients that leave while their connection is suspended (gone_fd), and
 * its listener when it has gone deaf for want of a descriptor (http_on_deaf()). A drained
 * endpoint calls on_idle when the last connection is gone.
 */

#include "supervisor/http/http.h"

#include <errno.h>
#include <gnutls/abstract.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/log.h"
#include "supervisor/gate/listen.h"
#include "supervisor/gate/tls.h"
#include "supervisor/http/conn.h"
#include "supervisor/http/meta.h"

/* Runs in a round: what one MHD_run() has answered the next one sends. */
#define HTTP_RUNS_MAX    2
#define HTTP_GONE_EVENTS 64
/* Rounds of MHD_run() that a forced end takes at most. */
#define HTTP_FREE_ROUNDS 16

/* A client that closes its side while it waits has left or only half-closed: sending
 * alone would tell. Fast answers reach a half-closed client; no slot is held for one that
 * left. */
#define HTTP_HALF_NS (2 * CLOCK_NS_PER_SEC)
/* For an answer in mid-body to be read by a client that still sends. */
#define HTTP_LINGER_NS (2 * CLOCK_NS_PER_SEC)
/* While draining: for the request that may be on its way over an idle connection, so that
 * it is answered and the client told to go, not cut off. */
#define HTTP_DRAIN_IDLE_NS CLOCK_NS_PER_SEC

/* Prometheus gives up after so long, where its configuration says nothing else. */
#define HTTP_TURN_NS (10 * CLOCK_NS_PER_SEC)

/* Descriptors that are kept for loaders, moultctl and files, as a part of all. */
#define HTTP_FDS_KEPT_PART 4
/* Connections of a listener for administration: scrapers and probes are few. */
#define HTTP_ADMIN_CONNECTIONS 64
/* Connections beyond max_connections, as a part of them. */
#define HTTP_RESERVE_PART 8
#define HTTP_RESERVE_MIN  8
#define HTTP_RESERVE_MAX  256
/* Seconds until a listener that found no descriptor is looked after. */
#define HTTP_DEAF_S 0.5

#define HTTP_OPEN       "whoever reaches this address may use every model"
#define HTTP_ADMIN_OPEN "whoever reaches this address may read metrics and metadata"
#define HTTP_OPEN_REMEDY                                                                 \
	"set tokens and tls_certificate, or listen on 127.0.0.1 behind a proxy that "    \
	"asks who comes"

/* The daemon on the loop */

/* Makes room at the connection limit, and logs that it is reached. */
static void http_look_full(struct http *http)
{
	bool is_full = http->conns.n_connections >= http->max_connections;

	if (is_full && !http->is_full)
		log_event(LOG_LEVEL_WARNING, "http_full",
		          "connections=%u action=\"closing those without a request, then "
		          "slow bodies; refusing requests; health is answered\"",
		          http->conns.n_connections);
	if (is_full)
		http_deadline_make_room(http);
	/* Said once until there is room again. */
	if (is_full || http->conns.n_connections < http->max_connections / 10 * 9)
		http->is_full = is_full;
}

static void http_run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms;

	http_conns_begin_run(http);
	(void)MHD_run(http->daemon);
	http_look_full(http);
	/* The daemon has no timeouts of its own: one that it names can only be now. */
	if (MHD_get_timeout(http->daemon, &timeout_ms) == MHD_YES)
		http_conns_want_run(http);
}

/* Runs before the pump's prepare watcher, which has the lowest priority: what is submitted
 * here rings the loaders' bells in the same round. */
static void http_on_prepare(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
	struct http *http = prepare->data;

	(void)revents;
	if (http->conns.must_run)
		http_run(http);
	for (int i = 1; http->conns.has_output && i < HTTP_RUNS_MAX; i++)
		http_run(http);
	/* Work is left: go round without blocking, so that others get their turn. */
	if (http->conns.must_run)
		ev_idle_start(loop, &http->again);
	if (http->on_idle && http->conns.n_connections == 0) {
		void (*on_idle)(void *context) = http->on_idle;

		/* on_idle() may free the endpoint. */
		http->on_idle = NULL;
		on_idle(http->on_idle_context);
	}
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
	http_conns_want_run(http);
}

/* Finds clients that leave: libmicrohttpd does not look at suspended connections. Every
 * socket is in gone_fd for its whole life, edge-triggered and without EPOLLIN: data never
 * wakes it. */
static void http_on_gone(struct ev_loop *loop, ev_io *io, int revents)
{
	struct http *http = io->data;
	struct epoll_event events[HTTP_GONE_EVENTS];
	int n = epoll_wait(http->gone_fd, events, HTTP_GONE_EVENTS, 0);

	(void)loop;
	(void)revents;
	http_conns_tick(http);
	for (int i = 0; i < n; i++) {
		struct http_conn *conn = events[i].data.ptr;

		if (!(events[i].events & (EPOLLHUP | EPOLLERR)))
			http_conn_half_close(conn);
		else if (conn->is_suspended)
			http_conn_hang_up(conn);
	}
}

/* Connections come and go */

static void http_on_open(struct http *http, struct MHD_Connection *connection,
                         void **socket_context)
{
	struct http_conn *conn = http_conn_new(http, connection);
	struct epoll_event event = {
		.events = EPOLLRDHUP | EPOLLET, /* and EPOLLHUP and EPOLLERR always */
		.data.ptr = conn,
	};

	*socket_context = conn;
	if (!conn)
		return; /* closed at its first request */
	/* Without memory for that, the handler answers none of its requests. */
	(void)http_recv_add(conn);
	if (epoll_ctl(http->gone_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
		log_event(LOG_LEVEL_WARNING, "http_watch", "error=%s",
		          LOG_QUOTED(strerror(errno)));
	if (conn->peer && conn->peer->state != PEER_AWAITED && !http_conn_admit(conn))
		http_conn_refuse(conn);
}

static void http_on_connection(void *context, struct MHD_Connection *connection,
                               void **socket_context,
                               enum MHD_ConnectionNotificationCode code)
{
	struct http *http = context;
	struct http_conn *conn = *socket_context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		http_on_open(http, connection, socket_context);
		return;
	}
	if (!conn)
		return;
	*socket_context = NULL;
	/* Closing the socket is not enough: a loader that is being spawned holds a copy
	 * until its exec is through, and so the set would still report it. */
	(void)epoll_ctl(http->gone_fd, EPOLL_CTL_DEL, conn->fd, NULL);
	http_recv_remove(conn);
	http_handler_on_closed(conn);
	/* A daemon that was full listens again in its next run only. */
	http_conns_want_run(http);
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

/* Without a descriptor for a client, libmicrohttpd stops listening until one of its
 * connections ends, however long that takes. A connection that is made for it ends
 * here. */
static void http_on_deaf(struct ev_loop *loop, ev_timer *timer, int revents)
{
	const struct sockaddr nobody = { .sa_family = AF_UNIX };
	struct http *http = timer->data;
	CLOSE_FD int theirs = -1;
	int fds[2];

	(void)revents;
	if (http->is_draining) {
		ev_timer_stop(loop, timer);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return; /* no descriptors yet */
	theirs = fds[1];
	/* libmicrohttpd takes the other end, also when it fails. */
	(void)MHD_add_connection(http->daemon, fds[0], &nobody, sizeof(nobody));
	ev_timer_stop(loop, timer);
	http_conns_want_run(http);
}

static void http_say_deaf(struct http *http)
{
	if (ev_is_active(&http->deaf))
		return;
	log_event(LOG_LEVEL_WARNING, "http_no_descriptors",
	          "connections=%u action=\"clients wait to be accepted\"",
	          http->conns.n_connections);
	ev_timer_start(http->loop, &http->deaf);
}

/* Logs libmicrohttpd's own lines, which are mostly about single clients. */
static void http_on_log(void *context, const char *format, va_list args)
{
	struct http *http = context;
	char text[256];

	if (strstr(format, "resource limit"))
		http_say_deaf(http);
	(void)vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	log_event(LOG_LEVEL_DEBUG, "http_library", "text=%s", LOG_QUOTED(text));
}

/* Birth and death */

/* Says once when anybody may ask, or see what others ask with. */
static void http_look_open(struct http *http, int listen_fd)
{
	const struct http_models *models = &http->models;
	char address[128];

	http->is_local = listen_is_local(listen_fd);
	http->is_guarded = http->is_local && !listen_is_unix(listen_fd) &&
	                   !models->gate->tls && !models->gate->tokens;
	if (http->is_local || models->gate->tls)
		return;
	(void)listen_describe(listen_fd, address, sizeof(address));
	http->is_open = !models->gate->tokens;
	if (http->is_open)
		log_event(LOG_LEVEL_WARNING, "endpoint_open",
		          "address=%s reason=\"%s\" action=\"" HTTP_OPEN_REMEDY "\"",
		          address, models->endpoint ? HTTP_ADMIN_OPEN : HTTP_OPEN);
	else
		log_event(
			LOG_LEVEL_WARNING, "tokens_in_the_clear",
			"address=%s reason=\"whoever sees the network sees the tokens\" "
			"action=\"set tls_certificate, or listen on 127.0.0.1 behind a "
			"proxy with TLS\"",
			address);
}

/* Gives connections over which nothing comes little time. */
static void http_hurry(struct http *http)
{
	static const enum http_phase phases[] = { HTTP_PHASE_NEW, HTTP_PHASE_IDLE };

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
		if (http->timeout_ns[phases[i]] > HTTP_DRAIN_IDLE_NS)
			http->timeout_ns[phases[i]] = HTTP_DRAIN_IDLE_NS;
}

void http_set_config(struct http *http, const struct config *config)
{
	http->config = config;
	http->timeout_ns[HTTP_PHASE_NEW] = config->header_timeout_ns;
	http->timeout_ns[HTTP_PHASE_IDLE] = config->idle_timeout_ns;
	http->timeout_ns[HTTP_PHASE_HEAD] = config->header_timeout_ns;
	http->timeout_ns[HTTP_PHASE_BODY] = config->body_timeout_ns;
	http->timeout_ns[HTTP_PHASE_SWALLOW] = config->body_timeout_ns;
	http->timeout_ns[HTTP_PHASE_SEND] = config->body_timeout_ns;
	http->body_rate_min = config->body_rate_min;
	http->timeout_ns[HTTP_PHASE_LINGER] = HTTP_LINGER_NS;
	http->timeout_ns[HTTP_PHASE_HALF] = HTTP_HALF_NS;
	http->timeout_ns[HTTP_PHASE_TURN] = HTTP_TURN_NS;
	http->timeout_ns[HTTP_PHASE_LOAD] = CLOCK_NEVER;
	if (http->is_draining)
		http_hurry(http);
	http_conns_touch(http);
}

static unsigned int http_reserve_of(unsigned int max_connections)
{
	unsigned int part = max_connections / HTTP_RESERVE_PART;

	if (part < HTTP_RESERVE_MIN)
		return HTTP_RESERVE_MIN;
	return part < HTTP_RESERVE_MAX ? part : HTTP_RESERVE_MAX;
}

/* Limits connections so that descriptors are left for what serves them. */
static void http_limit_connections(struct http *http, const struct config *config)
{
	unsigned int max =
		http->models.endpoint ? HTTP_ADMIN_CONNECTIONS : config->max_connections;
	struct rlimit limit;
	rlim_t most;

	http->max_connections = max;
	http->reserve = http_reserve_of(max);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return;
	most = limit.rlim_cur - limit.rlim_cur / HTTP_FDS_KEPT_PART;
	if (max + http->reserve <= most)
		return;
	http->reserve = http_reserve_of((unsigned int)most);
	http->max_connections =
		most > http->reserve ? (unsigned int)most - http->reserve : 1;
	if (max <= http->max_connections)
		return;
	log_event(LOG_LEVEL_WARNING, "http_limited",
	          "max_connections=%u connections=%u descriptors=%llu action=\"raise "
	          "LimitNOFILE= or ulimit -n\"",
	          max, http->max_connections, (unsigned long long)limit.rlim_cur);
}

/* libmicrohttpd wants to know a certificate, or who knows one. Nobody is asked: tls_begin() has
 * given the session its own. */
static int http_on_certificate(gnutls_session_t session, const gnutls_datum_t *names,
                               int n_names, const gnutls_pk_algorithm_t *algorithms,
                               int n_algorithms, gnutls_pcert_st **certificates,
                               unsigned int *n_certificates, gnutls_privkey_t *key)
{
	(void)session;
	(void)names;
	(void)n_names;
	(void)algorithms;
	(void)n_algorithms;
	(void)certificates;
	(void)n_certificates;
	(void)key;
	return -1;
}

/* @options: of a daemon without TLS. */
static struct MHD_Daemon *http_start_with(struct http *http, unsigned int flags,
                                          struct MHD_OptionItem *options)
{
	char priorities[] = TLS_PRIORITIES;
	const struct MHD_OptionItem secure[] = {
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, priorities },
		{ MHD_OPTION_HTTPS_CERT_CALLBACK, 0,
		  (void *)(intptr_t)http_on_certificate },
		{ MHD_OPTION_ARRAY, 0, options },
		{ MHD_OPTION_END, 0, NULL },
	};

	return MHD_start_daemon(flags, 0, NULL, NULL, http_handler_run, http,
	                        MHD_OPTION_EXTERNAL_LOGGER, http_on_log, http,
	                        MHD_OPTION_ARRAY, flags & MHD_USE_TLS ? secure : options,
	                        MHD_OPTION_END);
}

static int http_start_daemon(struct http *http, const struct config *config,
                             int listen_fd)
{
	struct MHD_OptionItem options[] = {
		{ MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL },
		{ MHD_OPTION_CONNECTION_LIMIT,
		  (intptr_t)(http->max_connections + http->reserve), NULL },
		{ MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		  http->models.endpoint || config->proxy_protocol != CONFIG_PROXY_NO
		          ? 0
		          : (intptr_t)config->max_connections_per_address,
		  NULL },
		{ MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		  (intptr_t)http->connection_memory_bytes, NULL },
		{ MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)http_on_connection, http },
		{ MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)http_handler_on_completed,
		  http },
		{ MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)http_handler_on_line, http },
		{ MHD_OPTION_END, 0, NULL },
	};
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;

	if (http->models.gate->tls)
		flags |= MHD_USE_TLS;
	http->daemon = http_start_with(http, flags, options);
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
	ev_prepare_init(&http->prepare, http_on_prepare);
	http->prepare.data = http;
	ev_prepare_start(http->loop, &http->prepare);
	ev_idle_init(&http->again, http_on_again);
	ev_timer_init(&http->deaf, http_on_deaf, HTTP_DEAF_S, HTTP_DEAF_S);
	http->deaf.data = http;
	/* The first run puts the listener into libmicrohttpd's epoll set. */
	http_conns_want_run(http);
}

int http_new(struct http **ret_http, struct ev_loop *loop, const struct config *config,
             const struct http_models *models, int listen_fd, struct err *err)
{
	struct http *http = calloc(1, sizeof(*http));
	char address[128];
	int r;

	if (!http) {
		close_fd(&listen_fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	http->loop = loop;
	http->models = *models;
	http_limit_connections(http, config);
	http->connection_memory_bytes =
		config->connection_memory_bytes + HTTP_WIRE_SPARE_BYTES;
	http_conns_init(http, &http_deadline_lateness);
	http_turn_init(http);
	http_events_init(http);
	for (unsigned int i = 0; i < HTTP_PHASE_COUNT; i++)
		http->timeout_ns[i] = CLOCK_NEVER;
	http_set_config(http, config);
	MHD_set_panic_func(http_on_panic, NULL);
	http->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	r = http->gone_fd < 0 ? -errno : http_start_daemon(http, config, listen_fd);
	if (r < 0) {
		close_fd(&listen_fd);
		close_fd(&http->gone_fd);
		http_events_fini(http);
		free(http);
		return err_set(err, r, "the HTTP endpoint does not start: %s",
		               strerror(-r));
	}
	http_start_watchers(http);
	log_event(LOG_LEVEL_NOTICE,
	          http->models.endpoint ? "admin_listening" : "listening", "address=%s",
	          listen_describe(listen_fd, address, sizeof(address)));
	http_look_open(http, listen_fd);
	*ret_http = http;
	return 0;
}

void http_set_access(struct http *http, struct access_log *access)
{
	http->access = access;
}

void http_leave(struct http *http)
{
	http->is_leaving = true;
	http_events_end(http);
}

void http_drain(struct http *http, void (*on_idle)(void *context), void *context)
{
	MHD_socket listen_fd = MHD_quiesce_daemon(http->daemon);

	if (listen_fd != MHD_INVALID_SOCKET)
		(void)close(listen_fd);
	http->is_draining = true;
	http_events_end(http);
	http->on_idle = on_idle;
	http->on_idle_context = context;
	http_hurry(http);
	http_conns_touch(http);
	http_conns_want_run(http);
}

void http_free(struct http *http)
{
	struct http_conn *conn;

	if (!http)
		return;
	if (!http->is_draining)
		http_drain(http, NULL, NULL);
	http_conns_tick(http);
	for (unsigned int phase = 0; phase < HTTP_PHASE_GONE; phase++)
		while ((conn = TAILQ_FIRST(&http->conns.phases[phase])))
			http_conn_hang_up(conn);
	/* The daemon must not stop with a suspended connection: these runs resume all. */
	for (int i = 0; i < HTTP_FREE_ROUNDS && http->conns.n_connections > 0; i++)
		(void)MHD_run(http->daemon);
	MHD_stop_daemon(http->daemon);
	http_recv_fini();
	ev_io_stop(http->loop, &http->daemon_io);
	ev_io_stop(http->loop, &http->gone_io);
	ev_timer_stop(http->loop, &http->deaf);
	http_conns_fini(http);
	http_turn_fini(http);
	http_events_fini(http);
	ev_prepare_stop(http->loop, &http->prepare);
	ev_idle_stop(http->loop, &http->again);
	close_fd(&http->gone_fd);
	for (size_t i = 0; i < METRICS_FORMAT_COUNT; i++)
		http_page_unref(http->pages[i]);
	free(http);
}

bool http_is_ready(const struct http *http)
{
	bool is_ready = false;

	free(http_meta_ready(http, &is_ready));
	return is_ready;
}

unsigned int http_connections(const struct http *http)
{
	return http->conns.n_connections;
}

json_t *http_to_json(const struct http *http)
{
	return json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s?}", "connections",
	                 (int)http->conns.n_connections, "accepted_total",
	                 (json_int_t)http->conns.n_accepted, "expired_total",
	                 (json_int_t)http->conns.n_expired, "evicted_total",
	                 (json_int_t)(http->conns.n_evicted + http->turns.n_refused),
	                 "refused_total", (json_int_t)http->conns.n_refused, "runs_total",
	                 (json_int_t)http->conns.n_runs, "status_2xx_total",
	                 (json_int_t)http->answers.n_by_class[2], "status_4xx_total",
	                 (json_int_t)http->answers.n_by_class[4], "status_5xx_total",
	                 (json_int_t)http->answers.n_by_class[5], "open",
	                 http->is_open ? HTTP_OPEN "; " HTTP_OPEN_REMEDY : NULL);
}
