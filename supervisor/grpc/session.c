/* SPDX-License-Identifier: Apache-2.0 */

/*
 * libnghttp2's callbacks, and the two ways into that library: bytes that came, and output that
 * is wanted. Its own limits stand against floods of PING, SETTINGS, RST_STREAM and CONTINUATION;
 * ours are the calls at once, the size of a head, the output that waits, what a connection may get
 * wrong, and the windows, which are given back as bytes come because a message has its place in an
 * arena that is bounded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"
#include "supervisor/gate/tls.h"
#include "supervisor/grpc/conn.h"

/* Calls at once on one connection. */
#define SESSION_CALLS 128
/* What a client may send ahead, of one message and of all on a connection. */
#define SESSION_WINDOW      (1024 * 1024)
#define SESSION_CONN_WINDOW (4 * 1024 * 1024)
/* Reads in a row from one connection, so that others get their turn. */
#define SESSION_READS 4
/* Pieces of output in a row to one connection. */
#define SESSION_WRITES 16
/* Frames that may wait for a client: one that reads none is read no further. */
#define SESSION_WAITING 1024

static struct pb_text session_text(const uint8_t *data, size_t bytes)
{
	return (struct pb_text){ data, bytes };
}

/* Callbacks */

static int session_on_begin(nghttp2_session *session, const nghttp2_frame *frame,
                            void *context)
{
	struct grpc_call *call;

	if (frame->hd.type != NGHTTP2_HEADERS ||
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	call = grpc_call_new(context, frame->hd.stream_id);
	if (!call)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	grpc_head_init(call->head);
	(void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
	return 0;
}

static struct grpc_call *session_call(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

static int session_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_bytes, const uint8_t *value,
                             size_t value_bytes, uint8_t flags, void *context)
{
	struct grpc_call *call = session_call(session, frame->hd.stream_id);

	(void)flags;
	(void)context;
	/* Trailers of a client say nothing. */
	if (call && call->phase == GRPC_PHASE_HEAD)
		grpc_head_add(call->head, session_text(name, name_bytes),
		              session_text(value, value_bytes));
	return 0;
}

static int session_on_frame(nghttp2_session *session, const nghttp2_frame *frame,
                            void *context)
{
	struct grpc_call *call;

	(void)context;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	call = session_call(session, frame->hd.stream_id);
	if (!call)
		return 0;
	if (call->phase == GRPC_PHASE_HEAD)
		grpc_call_begin(call);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		grpc_call_end(call);
	return 0;
}

static int session_on_data(nghttp2_session *session, uint8_t flags, int32_t stream,
                           const uint8_t *data, size_t bytes, void *context)
{
	struct grpc_call *call = session_call(session, stream);

	(void)flags;
	(void)context;
	if (call)
		grpc_call_data(call, session_text(data, bytes));
	return 0;
}

/* Of a call that is answered, the client need not send the rest (RFC 9113, 8.1). */
static int session_on_sent(nghttp2_session *session, const nghttp2_frame *frame,
                           void *context)
{
	const struct grpc_call *call = session_call(session, frame->hd.stream_id);

	(void)context;
	if (call && !call->has_ended && frame->hd.type == NGHTTP2_HEADERS &&
	    frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE,
		                                frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* A client that makes us end its calls pays for none of them, and there may be any number of
 * those in a second, whatever may be at once: so there is a bound for what it gets wrong.
 * libnghttp2 has one for calls that the client ends itself. */
static void session_note_fault(struct grpc_conn *conn)
{
	if (!conn->is_calmed && !grpc_conn_bears_fault(conn))
		(void)nghttp2_session_terminate_session(conn->session,
		                                        NGHTTP2_ENHANCE_YOUR_CALM);
}

static int session_on_invalid(nghttp2_session *session, const nghttp2_frame *frame,
                              int code, void *context)
{
	(void)session;
	(void)frame;
	(void)code;
	session_note_fault(context);
	return 0;
}

static int session_on_close(nghttp2_session *session, int32_t stream, uint32_t code,
                            void *context)
{
	struct grpc_call *call = session_call(session, stream);

	if (code != NGHTTP2_NO_ERROR && code != NGHTTP2_CANCEL)
		session_note_fault(context);
	if (call)
		grpc_call_over(call);
	return 0;
}

int grpc_session_init(nghttp2_session_callbacks **ret_callbacks,
                      nghttp2_option **ret_options)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		return -ENOMEM;
	if (nghttp2_option_new(ret_options)) {
		nghttp2_session_callbacks_del(callbacks);
		return -ENOMEM;
	}
	/* Nobody asks for priorities. */
	nghttp2_option_set_no_closed_streams(*ret_options, 1);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks,
	                                                        session_on_begin);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, session_on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, session_on_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks,
	                                                             session_on_invalid);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks,
	                                                          session_on_data);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, session_on_sent);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
	                                                       session_on_close);
	*ret_callbacks = callbacks;
	return 0;
}

/* Connections */

static void session_close(struct grpc_conn *conn)
{
	struct tls *tls = conn->grpc->models.gate->tls;
	struct grpc_call *call;

	grpc_conn_unwatch(conn);
	while ((call = TAILQ_FIRST(&conn->calls)))
		grpc_call_over(call);
	grpc_io_fini(&conn->io, tls);
	grpc_conn_free(conn);
}

/* Reads what a proxy says first. False: nothing else can be read. */
static bool session_read_peer(struct grpc_conn *conn)
{
	struct peer *peer = conn->io.peer;
	int r = grpc_io_read_peer(&conn->io);

	if (r == -EAGAIN || r == -EINTR)
		return false;
	if (r == 0 && peer->state == PEER_KNOWN && !grpc_conn_name(conn))
		peer_refuse(peer, "max_connections_per_address are open");
	if (r == 0 && peer->state == PEER_KNOWN)
		return true;
	if (r == 0)
		grpc_conn_refuse_peer(conn->grpc, grpc_io_end(&conn->io));
	grpc_conn_kill(conn);
	return false;
}

/* Whether as much waits for the client as may wait. */
static bool session_is_full(const struct grpc_conn *conn)
{
	return nghttp2_session_get_outbound_queue_size(conn->session) > SESSION_WAITING;
}

static void session_read(struct grpc_conn *conn)
{
	struct grpc *grpc = conn->grpc;

	if (peer_is_unknown(conn->io.peer) && !session_read_peer(conn))
		return;
	for (int i = 0; i < SESSION_READS && !session_is_full(conn); i++) {
		ssize_t n = grpc_io_read(&conn->io, grpc->input, sizeof(grpc->input));

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0 ||
		    nghttp2_session_mem_recv(conn->session, grpc->input, (size_t)n) < 0) {
			grpc_conn_kill(conn);
			return;
		}
		grpc_conn_touch(conn);
	}
	/* GnuTLS may hold bytes that the socket does not show any more. An event that is fed from
	 * a callback would come before those of all others. */
	if (grpc_io_has_input(&conn->io))
		grpc_conn_read_later(conn);
}

static void session_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	struct grpc_conn *conn = io->data;

	(void)loop;
	if (revents & EV_READ && !conn->is_dead)
		session_read(conn);
	if (revents & EV_WRITE)
		grpc_conn_touch(conn);
}

static void session_on_later(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct grpc_conn *conn = timer->data;

	(void)loop;
	(void)revents;
	if (!conn->is_dead && !conn->is_deaf)
		session_read(conn);
}

void grpc_session_open(struct grpc *grpc, int fd, struct peer *peer,
                       const struct client_address *address)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, SESSION_CALLS },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, SESSION_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
		  GRPC_HEAD_BYTES + 32 * GRPC_FIELDS_MAX },
		/* Nothing is ordered by them, so that no tree of them is kept (RFC 9218). */
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
	};
	struct grpc_conn *conn;
	struct grpc_io io;

	if (grpc_io_init(&io, fd, peer, grpc->models.gate->tls) < 0)
		return;
	conn = grpc_conn_new(grpc, &io, address);
	if (!conn) {
		grpc_io_fini(&io, grpc->models.gate->tls);
		return;
	}
	(void)nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
	                              sizeof(settings) / sizeof(settings[0]));
	(void)nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
	                                            SESSION_CONN_WINDOW);
	grpc_conn_watch(conn, session_on_io, session_on_later);
	grpc_conn_touch(conn);
}

/* Output */

/* Gathers what libnghttp2 has to send. Bytes; 0: nothing; -errno. */
static ssize_t session_gather(struct grpc_conn *conn)
{
	struct grpc *grpc = conn->grpc;
	size_t used = 0;

	/* A frame has 16 KiB and its head at the most, as no client is asked for more. */
	while (sizeof(grpc->output) - used >= GRPC_IO_BYTES / 2) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(conn->session, &data);

		if (n < 0 || (size_t)n > sizeof(grpc->output) - used)
			return -EIO;
		if (n == 0)
			break;
		memcpy(grpc->output + used, data, (size_t)n);
		used += (size_t)n;
	}
	return (ssize_t)used;
}

/* Sends what there is room for. 0, or -errno: the connection is at its end. */
static int session_send(struct grpc_conn *conn)
{
	size_t kept = conn->io.rest_bytes - conn->io.rest_sent;
	int r = grpc_io_flush(&conn->io);
	bool has_moved = conn->io.rest_bytes - conn->io.rest_sent < kept;
	ssize_t n = 1;

	for (int i = 0; r == 0 && n > 0 && i < SESSION_WRITES; i++) {
		n = session_gather(conn);
		if (n < 0)
			return (int)n;
		if (n > 0)
			r = grpc_io_write(&conn->io, conn->grpc->output, (size_t)n);
		has_moved = true;
	}
	if (r < 0)
		return r;
	/* Where there is more than one turn's worth, the socket is asked again. */
	grpc_conn_set_stuck(conn, r == 1 || n > 0, has_moved);
	grpc_conn_set_deaf(conn, session_is_full(conn));
	return 0;
}

/* Whether the connection is over: both sides have said that they want no more, or the client was
 * told what it got wrong. Calls may be left then, and there is no way to answer them. */
static bool session_is_over(const struct grpc_conn *conn)
{
	return conn->io.rest_bytes == 0 && !nghttp2_session_want_read(conn->session) &&
	       !nghttp2_session_want_write(conn->session);
}

void grpc_session_flush(struct grpc *grpc)
{
	struct grpc_call *call;
	struct grpc_conn *conn;

	while ((call = grpc_call_next_ready(grpc)))
		if (call->phase == GRPC_PHASE_WAIT)
			grpc_reply_request(call);
	while ((conn = TAILQ_FIRST(&grpc->conns.dirty))) {
		grpc_conn_clean(conn);
		if (conn->is_dead || session_send(conn) < 0 || session_is_over(conn))
			session_close(conn);
	}
}

void grpc_session_close_all(struct grpc *grpc)
{
	struct grpc_conn *conn;

	while ((conn = TAILQ_FIRST(&grpc->conns.list)))
		session_close(conn);
}
