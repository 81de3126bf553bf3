/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The listener on the loop. Connections count with those of the endpoint for HTTP: together they
 * are no more than max_connections when one is accepted here. A drained endpoint tells its
 * clients to go, and calls on_idle when the last connection is gone.
 */
#include "supervisor/grpc/grpc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/cleanup.h"
#include "shared/log.h"
#include "supervisor/gate/tls.h"
#include "supervisor/grpc/conn.h"
#include "supervisor/http/http.h"
#include "supervisor/gate/listen.h"
#include "supervisor/metrics/metrics.h"

/* Clients that are accepted in a round. */
#define GRPC_ACCEPTS 32
/* Clients that are told to go for others, at once. */
#define GRPC_LEAVING 32
#define GRPC_SWEEP_S 0.5
/* Seconds until a listener that found no descriptor is looked after. */
#define GRPC_DEAF_S 0.5

/* Clients */

/* Makes room for a connection: tells the one to go that has been idle for longest. Room for the
 * next ones is on its way where some are leaving, so that a crowd at the door drives nobody out
 * who works. */
static void grpc_make_room(struct grpc *grpc)
{
	struct grpc_conn *idle = NULL;
	struct grpc_conn *conn;
	unsigned int n_leaving = 0;

	TAILQ_FOREACH (conn, &grpc->conns.list, link) {
		n_leaving += conn->is_leaving;
		if (conn->n_calls == 0 && !conn->is_leaving &&
		    (!idle || conn->since_ns < idle->since_ns))
			idle = conn;
	}
	if (idle && n_leaving < GRPC_LEAVING)
		grpc_conn_leave(idle, false);
}

static bool grpc_has_room(struct grpc *grpc, const struct client_address *address)
{
	const struct config *config = grpc->config;
	unsigned int most = config->max_connections_per_address;
	unsigned int all =
		grpc->conns.n_connections + http_connections(grpc->models.http);

	if (all >= config->max_connections)
		grpc_make_room(grpc);
	return all < config->max_connections &&
	       (most == 0 || grpc_conns_of(grpc, address) < most);
}

/* Serves who has connected over @fd, or closes it. A client whose proxy is about to name it counts
 * once it is named. */
static void grpc_accept(struct grpc *grpc, int fd)
{
	struct client_address address = { { 0 } };
	struct peer *peer;
	bool is_good = peer_new(&peer, grpc->config, fd) == 0;
	struct peer_end end = { fd, peer };

	if (is_good && !peer_is_unknown(peer))
		(void)peer_client(end, &address);
	if (peer && peer->state == PEER_REFUSED)
		grpc_conn_refuse_peer(grpc, end);
	else if (is_good && grpc_has_room(grpc, &address)) {
		grpc_session_open(grpc, fd, peer, &address);
		return;
	} else {
		grpc_conn_refuse(grpc);
	}
	peer_free(peer);
	close_fd(&fd);
}

static void grpc_on_client(struct ev_loop *loop, ev_io *io, int revents)
{
	struct grpc *grpc = io->data;

	(void)revents;
	for (int i = 0; i < GRPC_ACCEPTS; i++) {
		int fd = accept4(grpc->listen_fd, NULL, NULL,
		                 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
			log_event(LOG_LEVEL_WARNING, "grpc_no_descriptors",
			          "connections=%u action=\"clients wait to be accepted\"",
			          grpc->conns.n_connections);
			ev_io_stop(loop, &grpc->listener);
			ev_timer_again(loop, &grpc->deaf);
		}
		if (fd < 0)
			return;
		grpc_accept(grpc, fd);
	}
}

static void grpc_on_deaf(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct grpc *grpc = timer->data;

	(void)revents;
	ev_timer_stop(loop, timer);
	if (grpc->listen_fd >= 0)
		ev_io_start(loop, &grpc->listener);
}

/* Rounds of the loop */

static void grpc_on_sweep(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	grpc_deadline_sweep(timer->data);
}

/* Runs before the pump's prepare watcher, which has the lowest priority. */
static void grpc_on_flush(struct ev_loop *loop, ev_prepare *prepare, int revents)
{
	struct grpc *grpc = prepare->data;

	(void)revents;
	grpc_session_flush(grpc);
	if (grpc->conns.n_connections > 0) {
		if (!ev_is_active(&grpc->sweep))
			ev_timer_again(loop, &grpc->sweep);
		return;
	}
	ev_timer_stop(loop, &grpc->sweep);
	if (grpc->on_idle) {
		void (*on_idle)(void *context) = grpc->on_idle;

		/* on_idle() may free the endpoint. */
		grpc->on_idle = NULL;
		on_idle(grpc->on_idle_context);
	}
}

/* Birth and death */

static void grpc_start_watchers(struct grpc *grpc)
{
	ev_io_init(&grpc->listener, grpc_on_client, grpc->listen_fd, EV_READ);
	grpc->listener.data = grpc;
	ev_io_start(grpc->loop, &grpc->listener);
	ev_init(&grpc->deaf, grpc_on_deaf);
	grpc->deaf.repeat = GRPC_DEAF_S;
	grpc->deaf.data = grpc;
	ev_init(&grpc->sweep, grpc_on_sweep);
	grpc->sweep.repeat = GRPC_SWEEP_S;
	grpc->sweep.data = grpc;
	ev_prepare_init(&grpc->flush, grpc_on_flush);
	grpc->flush.data = grpc;
	ev_prepare_start(grpc->loop, &grpc->flush);
}

static void grpc_say_listening(const struct grpc *grpc)
{
	const struct gate *gate = grpc->models.gate;
	char address[128];

	(void)listen_describe(grpc->listen_fd, address, sizeof(address));
	log_event(LOG_LEVEL_NOTICE, "grpc_listening", "address=%s", address);
	if (!listen_is_local(grpc->listen_fd) && !gate->tls)
		log_event(LOG_LEVEL_WARNING, "grpc_open",
		          "address=%s reason=\"%s\" action=\"set tokens and "
		          "tls_certificate, or listen on 127.0.0.1 behind a proxy that "
		          "asks "
		          "who comes\"",
		          address,
		          gate->tokens
		                  ? "whoever sees the network sees the tokens"
		                  : "whoever reaches this address may use every model");
}

int grpc_new(struct grpc **ret_grpc, struct ev_loop *loop, const struct config *config,
             const struct grpc_models *models, int listen_fd, struct err *err)
{
	struct grpc *grpc = calloc(1, sizeof(*grpc));

	if (!grpc || grpc_session_init(&grpc->callbacks, &grpc->options) < 0) {
		close_fd(&listen_fd);
		free(grpc);
		return err_set(err, -ENOMEM, "out of memory");
	}
	grpc->loop = loop;
	grpc->models = *models;
	grpc->config = config;
	grpc->listen_fd = listen_fd;
	grpc->is_local = listen_is_local(listen_fd);
	grpc->is_guarded = grpc->is_local && !listen_is_unix(listen_fd) &&
	                   !models->gate->tls && !models->gate->tokens;
	grpc_conns_init(grpc);
	grpc_start_watchers(grpc);
	grpc_say_listening(grpc);
	*ret_grpc = grpc;
	return 0;
}

void grpc_set_access(struct grpc *grpc, struct access_log *access)
{
	grpc->access = access;
}

void grpc_set_config(struct grpc *grpc, const struct config *config)
{
	grpc->config = config;
}

void grpc_drain(struct grpc *grpc, void (*on_idle)(void *context), void *context)
{
	struct grpc_conn *conn;

	ev_io_stop(grpc->loop, &grpc->listener);
	ev_timer_stop(grpc->loop, &grpc->deaf);
	close_fd(&grpc->listen_fd);
	grpc->is_draining = true;
	grpc->on_idle = on_idle;
	grpc->on_idle_context = context;
	TAILQ_FOREACH (conn, &grpc->conns.list, link)
		grpc_conn_leave(conn, false);
}

void grpc_free(struct grpc *grpc)
{
	if (!grpc)
		return;
	ev_io_stop(grpc->loop, &grpc->listener);
	ev_timer_stop(grpc->loop, &grpc->deaf);
	ev_timer_stop(grpc->loop, &grpc->sweep);
	ev_prepare_stop(grpc->loop, &grpc->flush);
	grpc_session_close_all(grpc);
	close_fd(&grpc->listen_fd);
	nghttp2_session_callbacks_del(grpc->callbacks);
	nghttp2_option_del(grpc->options);
	free(grpc);
}

/* What it tells */

json_t *grpc_to_json(const struct grpc *grpc)
{
	json_t *codes = json_object();

	for (enum grpc_code i = GRPC_OK; i < GRPC_CODE_COUNT; i++)
		if (grpc->answers.n_by_code[i] > 0)
			(void)json_object_set_new(codes, grpc_code_name(i),
			                          json_integer((json_int_t)grpc->answers
			                                               .n_by_code[i]));
	return json_pack("{s:i,s:i,s:I,s:I,s:I,s:o}", "connections",
	                 (int)grpc->conns.n_connections, "calls",
	                 (int)grpc->conns.n_calls, "accepted_total",
	                 (json_int_t)grpc->conns.n_accepted, "expired_total",
	                 (json_int_t)grpc->conns.n_expired, "refused_total",
	                 (json_int_t)grpc->conns.n_refused, "answers_total", codes);
}

void grpc_add_metrics(const struct grpc *grpc, struct metrics *metrics)
{
	metrics_put_one(metrics, METRICS_GRPC_CONNECTIONS, grpc->conns.n_connections);
	metrics_put_one(metrics, METRICS_GRPC_ACCEPTED, grpc->conns.n_accepted);
	metrics_put_one(metrics, METRICS_GRPC_EXPIRED, grpc->conns.n_expired);
	metrics_put_one(metrics, METRICS_GRPC_REFUSED, grpc->conns.n_refused);
	metrics_put_one(metrics, METRICS_GRPC_CALLS, grpc->conns.n_calls);
	metrics_begin(metrics, METRICS_GRPC_RESPONSES);
	for (enum grpc_code i = GRPC_OK; i < GRPC_CODE_COUNT; i++) {
		const struct metrics_label label = { "code", grpc_code_name(i) };

		if (strcmp(label.value, "UNKNOWN") != 0)
			metrics_put(metrics, &label, 1, grpc->answers.n_by_code[i]);
	}
}
