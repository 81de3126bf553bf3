/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connections, the calls on them, and two lists through which work comes to the end of a round
 * of the loop: calls that a part of an answer has come for, and connections that have output.
 * So answers that come together are sent together, and nothing is freed in a callback.
 */
#include <stdlib.h>
#include <string.h>

#include "supervisor/grpc/conn.h"

/* Faults of a client that are borne at once, and how many are forgiven in a second. These are
 * libnghttp2's own figures for calls that a client ends. */
#define CONN_FAULTS      1000
#define CONN_FORGIVEN_NS (CLOCK_NS_PER_SEC / 33)

void grpc_conns_init(struct grpc *grpc)
{
	struct grpc_conns *conns = &grpc->conns;

	TAILQ_INIT(&conns->list);
	TAILQ_INIT(&conns->dirty);
	TAILQ_INIT(&conns->ready);
}

/* Connections */

struct grpc_conn *grpc_conn_new(struct grpc *grpc, const struct grpc_io *io,
                                const struct client_address *address)
{
	struct grpc_conn *conn = calloc(1, sizeof(*conn));
	struct grpc_conns *conns = &grpc->conns;

	if (!conn)
		return NULL;
	conn->grpc = grpc;
	conn->io = *io;
	conn->address = *address;
	conn->since_ns = clock_now_ns();
	TAILQ_INIT(&conn->calls);
	if (nghttp2_session_server_new2(&conn->session, grpc->callbacks, conn,
	                                grpc->options)) {
		free(conn);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&conns->list, conn, link);
	conns->n_connections++;
	conns->n_accepted++;
	return conn;
}

void grpc_conn_free(struct grpc_conn *conn)
{
	struct grpc_conns *conns = &conn->grpc->conns;

	grpc_conn_clean(conn);
	nghttp2_session_del(conn->session);
	TAILQ_REMOVE(&conns->list, conn, link);
	conns->n_connections--;
	free(conn);
}

void grpc_conn_watch(struct grpc_conn *conn,
                     void (*on_io)(struct ev_loop *loop, ev_io *io, int revents),
                     void (*on_later)(struct ev_loop *loop, ev_timer *timer, int revents))
{
	ev_timer_init(&conn->later, on_later, 0., 0.);
	conn->later.data = conn;
	ev_io_init(&conn->readable, on_io, conn->io.fd, EV_READ);
	conn->readable.data = conn;
	ev_io_start(conn->grpc->loop, &conn->readable);
	ev_io_init(&conn->writable, on_io, conn->io.fd, EV_WRITE);
	conn->writable.data = conn;
}

void grpc_conn_unwatch(struct grpc_conn *conn)
{
	ev_io_stop(conn->grpc->loop, &conn->readable);
	ev_io_stop(conn->grpc->loop, &conn->writable);
	ev_timer_stop(conn->grpc->loop, &conn->later);
}

void grpc_conn_read_later(struct grpc_conn *conn)
{
	ev_timer_start(conn->grpc->loop, &conn->later);
}

void grpc_conn_set_deaf(struct grpc_conn *conn, bool is_deaf)
{
	if (conn->is_deaf == is_deaf)
		return;
	conn->is_deaf = is_deaf;
	if (is_deaf) {
		ev_io_stop(conn->grpc->loop, &conn->readable);
	} else {
		ev_io_start(conn->grpc->loop, &conn->readable);
		grpc_conn_read_later(conn);
	}
}

bool grpc_conn_bears_fault(struct grpc_conn *conn)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t forgiven = (now_ns - conn->fault_ns) / CONN_FORGIVEN_NS;

	if (conn->n_faults <= forgiven) {
		conn->n_faults = 0;
		conn->fault_ns = now_ns;
	} else {
		conn->n_faults -= (unsigned int)forgiven;
		conn->fault_ns += forgiven * CONN_FORGIVEN_NS;
	}
	conn->is_calmed = ++conn->n_faults > CONN_FAULTS;
	return !conn->is_calmed;
}

void grpc_conn_touch(struct grpc_conn *conn)
{
	struct grpc_conns *conns = &conn->grpc->conns;

	if (conn->is_dirty)
		return;
	conn->is_dirty = true;
	TAILQ_INSERT_TAIL(&conns->dirty, conn, dirty);
}

void grpc_conn_clean(struct grpc_conn *conn)
{
	struct grpc_conns *conns = &conn->grpc->conns;

	if (!conn->is_dirty)
		return;
	conn->is_dirty = false;
	TAILQ_REMOVE(&conns->dirty, conn, dirty);
}

void grpc_conn_kill(struct grpc_conn *conn)
{
	conn->is_dead = true;
	grpc_conn_touch(conn);
}

void grpc_conn_expire(struct grpc_conn *conn)
{
	struct grpc_conns *conns = &conn->grpc->conns;

	conns->n_expired++;
	grpc_conn_kill(conn);
}

void grpc_conn_refuse(struct grpc *grpc)
{
	struct grpc_conns *conns = &grpc->conns;

	conns->n_refused++;
}

void grpc_conn_refuse_peer(struct grpc *grpc, struct peer_end end)
{
	struct grpc_conns *conns = &grpc->conns;

	grpc_conn_refuse(grpc);
	peer_log(end, &conns->said_ns);
}

unsigned int grpc_conns_of(const struct grpc *grpc, const struct client_address *address)
{
	static const struct client_address nobody;
	const struct grpc_conn *conn;
	unsigned int n = 0;

	if (memcmp(address, &nobody, sizeof(nobody)) == 0)
		return 0;
	TAILQ_FOREACH (conn, &grpc->conns.list, link)
		n += memcmp(&conn->address, address, sizeof(*address)) == 0;
	return n;
}

bool grpc_conn_name(struct grpc_conn *conn)
{
	unsigned int most = conn->grpc->config->max_connections_per_address;

	return !peer_client(grpc_io_end(&conn->io), &conn->address) || most == 0 ||
	       grpc_conns_of(conn->grpc, &conn->address) <= most;
}

void grpc_conn_leave(struct grpc_conn *conn, bool is_final)
{
	if (!conn->is_leaving)
		conn->left_ns = clock_now_ns();
	conn->is_leaving = true;
	conn->is_final = is_final;
	if (is_final)
		(void)nghttp2_submit_goaway(
			conn->session, NGHTTP2_FLAG_NONE,
			nghttp2_session_get_last_proc_stream_id(conn->session),
			NGHTTP2_NO_ERROR, NULL, 0);
	else
		(void)nghttp2_submit_shutdown_notice(conn->session);
	grpc_conn_touch(conn);
}

void grpc_conn_set_stuck(struct grpc_conn *conn, bool is_stuck, bool has_moved)
{
	if (!is_stuck) {
		conn->stuck_ns = 0;
		ev_io_stop(conn->grpc->loop, &conn->writable);
		return;
	}
	if (has_moved || conn->stuck_ns == 0)
		conn->stuck_ns = clock_now_ns();
	ev_io_start(conn->grpc->loop, &conn->writable);
}

/* Calls */

struct grpc_call *grpc_call_new(struct grpc_conn *conn, int32_t stream)
{
	struct grpc_conns *conns = &conn->grpc->conns;
	struct grpc_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->head = malloc(sizeof(*call->head));
	if (!call->head) {
		free(call);
		return NULL;
	}
	call->conn = conn;
	call->stream = stream;
	call->begun_ns = call->since_ns = clock_now_ns();
	call->timeout_ns = CLOCK_NEVER;
	TAILQ_INSERT_TAIL(&conn->calls, call, link);
	conn->n_calls++;
	conn->has_asked = true;
	conns->n_calls++;
	return call;
}

void grpc_call_free(struct grpc_call *call)
{
	struct grpc_conn *conn = call->conn;
	struct grpc_conns *conns = &conn->grpc->conns;

	if (call->is_ready)
		TAILQ_REMOVE(&conns->ready, call, ready);
	TAILQ_REMOVE(&conn->calls, call, link);
	conn->n_calls--;
	conns->n_calls--;
	conn->since_ns = clock_now_ns();
	free(call->head);
	free(call);
	/* The last one of a connection that is to leave. */
	grpc_conn_touch(conn);
}

void grpc_call_enter(struct grpc_call *call, enum grpc_phase phase)
{
	call->phase = phase;
	call->since_ns = clock_now_ns();
}

void grpc_call_reset(struct grpc_call *call)
{
	struct grpc_conns *conns = &call->conn->grpc->conns;

	conns->n_expired++;
	(void)nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE,
	                                call->stream, NGHTTP2_CANCEL);
	grpc_conn_touch(call->conn);
}

void grpc_call_on_part(struct request *request, void *context)
{
	struct grpc_call *call = context;
	struct grpc_conns *conns = &call->conn->grpc->conns;

	(void)request;
	if (call->is_ready)
		return;
	call->is_ready = true;
	TAILQ_INSERT_TAIL(&conns->ready, call, ready);
}

struct grpc_call *grpc_call_next_ready(struct grpc *grpc)
{
	struct grpc_conns *conns = &grpc->conns;
	struct grpc_call *call = TAILQ_FIRST(&conns->ready);

	if (!call)
		return NULL;
	TAILQ_REMOVE(&conns->ready, call, ready);
	call->is_ready = false;
	return call;
}

void grpc_call_set_ended(struct grpc_call *call)
{
	call->has_ended = true;
}

void grpc_call_drop_head(struct grpc_call *call)
{
	free(call->head);
	call->head = NULL;
}

void grpc_call_set_method(struct grpc_call *call, enum grpc_method method,
                          enum http_route_kind kind)
{
	call->method = method;
	(void)http_route_make(&call->route, kind, proto_text_of(""), proto_text_of(""));
	split_init(&call->split, method == GRPC_METHOD_INFER);
}

void grpc_call_set_timeout(struct grpc_call *call, uint64_t timeout_ns)
{
	call->timeout_ns = timeout_ns;
}

bool grpc_call_set_model(struct grpc_call *call, struct pb_text model,
                         struct pb_text version)
{
	const struct proto_text texts[] = {
		{ (const char *)model.data, model.bytes },
		{ (const char *)version.data, version.bytes },
	};

	if (pb_is_utf8(model) && pb_is_utf8(version) &&
	    http_route_make(&call->route, call->route.kind, texts[0], texts[1]))
		return true;
	(void)request_refuse(&call->refusal, 404, 0, "there is no model of such a name");
	return false;
}

void grpc_call_receive(struct grpc_call *call, size_t bytes)
{
	call->received_bytes += bytes;
}

void grpc_call_take(struct grpc_call *call, struct request *request)
{
	call->request = request;
}

void grpc_call_release(struct grpc_call *call)
{
	struct request *request = call->request;

	call->request = NULL;
	if (request)
		request_release(request);
}
