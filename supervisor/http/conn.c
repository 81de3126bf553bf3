/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One connection. libmicrohttpd lets a response be queued in the first call of its
 * handler for a request, which costs the connection, and in the last one, never between.
 * So even an early answer is given late: the body is read and dropped first. A large body
 * is not waited for: its answer goes past libmicrohttpd (http_answer_raw()).
 *
 * A request that waits for its answer is not suspended at once: suspending costs two
 * epoll_ctl(2) and an empty recv(2), and a fast model answers within a round or two of
 * the loop. libmicrohttpd asks again in every MHD_run() for as long as there is no
 * response.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/http/conn.h"

/* Looks at a request that waits before its connection is suspended. */
#define HTTP_LOOKS_MAX 6
/* Bytes of an unwanted body that are read to keep the connection. */
#define HTTP_SWALLOW_BYTES ((uint64_t)1024 * 1024)

void http_conn_resume(struct http_conn *conn)
{
	conn->http->must_run = true;
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

static void http_conn_release(struct http_conn *conn)
{
	struct request *request = conn->request;

	conn->request = NULL;
	if (request)
		request_release(request);
}

void http_conn_forget(struct http_conn *conn)
{
	request_part_free(conn->part);
	conn->part = NULL;
	conn->part_sent = 0;
	conn->lane = NULL;
	http_conn_release(conn);
	conn->has_answer = false;
	conn->has_continue = false;
	conn->must_close = false;
	conn->has_said_close = false;
	http_turn_forget(conn);
	conn->looks = 0;
	conn->begun_ns = 0;
	conn->method[0] = '\0';
	conn->is_noted = false;
	conn->body_bytes = 0;
	conn->received_bytes = 0;
	conn->answer_bytes = 0;
	conn->refusal.status = 0;
	conn->route.kind = HTTP_ROUTE_NONE;
	conn->allow = NULL;
}

void http_conn_hang_up(struct http_conn *conn)
{
	http_conn_enter(conn, HTTP_PHASE_GONE);
	http_conn_release(conn);
	/* libmicrohttpd sees the hang-up and closes; a suspended one must be woken. */
	(void)shutdown(conn->fd, SHUT_RDWR);
	http_conn_resume(conn);
}

/* libmicrohttpd takes a short read for the end of what there is, and its epoll set is
 * edge-triggered: the end of a stream that came along with the last bytes would never be
 * seen. shutdown(2) makes another edge; unread bytes stay readable. */
static void http_conn_show_end(const struct http_conn *conn)
{
	(void)shutdown(conn->fd, SHUT_RD);
}

void http_conn_half_close(struct http_conn *conn)
{
	conn->is_half_closed = true;
	if (conn->phase == HTTP_PHASE_WAIT)
		http_conn_enter(conn, HTTP_PHASE_HALF);
	else if (conn->phase < HTTP_PHASE_WAIT)
		http_conn_show_end(conn);
}

void http_conn_on_part(struct request *request, void *context)
{
	struct http_conn *conn = context;

	(void)request;
	conn->has_answer = true;
	http_conn_resume(conn);
}

/* The body */

enum MHD_Result http_conn_swallow(struct http_conn *conn)
{
	conn->swallow_bytes = conn->received_bytes + HTTP_SWALLOW_BYTES;
	http_conn_enter(conn, HTTP_PHASE_SWALLOW);
	return MHD_YES;
}

/* Answers a client that keeps sending what nobody wants, and gives it a moment to read:
 * closing at once would make its kernel throw the answer away. */
static enum MHD_Result http_conn_linger(struct http_conn *conn, unsigned int status,
                                        const char *text)
{
	http_conn_release(conn);
	http_answer_raw(conn, status, text);
	(void)shutdown(conn->fd, SHUT_WR);
	http_conn_enter(conn, HTTP_PHASE_LINGER);
	return MHD_YES;
}

void http_conn_on_fault(struct http_conn *conn)
{
	enum http_wire_fault fault = conn->wire.fault;

	if (conn->n_done == conn->wire.n_ended && conn->phase <= HTTP_PHASE_SWALLOW)
		(void)http_conn_linger(conn, http_wire_status(fault),
		                       http_wire_reason(fault));
}

enum MHD_Result http_conn_refuse(struct http_conn *conn)
{
	bool is_first = conn->phase == HTTP_PHASE_NEW || conn->phase == HTTP_PHASE_HEAD;

	http_conn_release(conn);
	if (is_first && (conn->has_continue || conn->must_close)) {
		/* libmicrohttpd does not wait for the body, and so it ends the connection. */
		conn->must_close = true;
		return http_answer_refusal(conn);
	}
	/* At the limit of requests, no body is waited for. */
	if (is_first && conn->body_bytes > 0 &&
	    conn->http->n_busy >= conn->http->max_connections)
		return http_conn_linger(conn, conn->refusal.status,
		                        conn->refusal.err.text);
	if (conn->body_bytes != UINT64_MAX &&
	    conn->body_bytes - conn->received_bytes > HTTP_SWALLOW_BYTES)
		return http_conn_linger(conn, conn->refusal.status,
		                        conn->refusal.err.text);
	return http_conn_swallow(conn);
}

enum MHD_Result http_conn_turn_away(struct http_conn *conn)
{
	(void)request_refuse(&conn->refusal, 503, 1,
	                     "all connections are taken (max_connections)");
	conn->must_close = true;
	if (conn->has_continue || conn->body_bytes == 0)
		return http_answer_refusal(conn);
	return http_conn_linger(conn, conn->refusal.status, conn->refusal.err.text);
}

static enum MHD_Result http_conn_upload(struct http_conn *conn, const char *data,
                                        size_t *bytes)
{
	size_t n = *bytes;

	*bytes = 0;
	conn->received_bytes += n;
	switch (conn->phase) {
	case HTTP_PHASE_BODY:
		if (request_append(conn->request, data, n, &conn->refusal) != 0)
			return http_conn_refuse(conn);
		return MHD_YES;
	case HTTP_PHASE_SWALLOW:
		if (conn->received_bytes <= conn->swallow_bytes)
			return MHD_YES;
		if (conn->refusal.status == 0)
			(void)request_refuse(&conn->refusal, 413, 0,
			                     "this request takes no such body");
		return http_conn_linger(conn, conn->refusal.status,
		                        conn->refusal.err.text);
	case HTTP_PHASE_LINGER:
		return MHD_YES;
	case HTTP_PHASE_NEW:
	case HTTP_PHASE_IDLE:
	case HTTP_PHASE_HEAD:
	case HTTP_PHASE_WAIT:
	case HTTP_PHASE_HALF:
	case HTTP_PHASE_SEND:
	case HTTP_PHASE_TURN:
	case HTTP_PHASE_GONE:
	case HTTP_PHASE_COUNT:
		break;
	}
	return MHD_NO;
}

/* After the body */

static enum MHD_Result http_conn_submit(struct http_conn *conn)
{
	http_conn_enter(conn, conn->is_half_closed ? HTTP_PHASE_HALF : HTTP_PHASE_WAIT);
	if (model_submit(conn->request, &conn->refusal) == 0)
		return MHD_YES;
	http_conn_release(conn);
	return http_answer_refusal(conn);
}

static enum MHD_Result http_conn_look(struct http_conn *conn)
{
	if (conn->has_answer)
		return http_answer_request(conn);
	if (++conn->looks >= HTTP_LOOKS_MAX)
		http_conn_suspend(conn);
	return MHD_YES;
}

enum MHD_Result http_conn_handle(void *context, struct MHD_Connection *connection,
                                 const char *url, const char *method, const char *version,
                                 const char *upload_data, size_t *upload_data_size,
                                 void **request_context)
{
	struct http_conn *conn = *request_context;

	(void)context;
	(void)connection;
	(void)url;
	if (!conn)
		return MHD_NO; /* there was no memory for it */
	if (*upload_data_size > 0)
		return http_conn_upload(conn, upload_data, upload_data_size);
	switch (conn->phase) {
	case HTTP_PHASE_NEW:
	case HTTP_PHASE_HEAD:
		return http_begin(conn, method, version);
	case HTTP_PHASE_BODY:
		return http_conn_submit(conn);
	case HTTP_PHASE_SWALLOW:
		return conn->refusal.status ? http_answer_refusal(conn)
		                            : http_begin_late(conn);
	case HTTP_PHASE_WAIT:
	case HTTP_PHASE_HALF:
		return http_conn_look(conn);
	case HTTP_PHASE_IDLE:
	case HTTP_PHASE_LINGER:
	case HTTP_PHASE_SEND:
	case HTTP_PHASE_TURN:
	case HTTP_PHASE_GONE:
	case HTTP_PHASE_COUNT:
		break;
	}
	return MHD_NO;
}

void http_conn_on_completed(void *context, struct MHD_Connection *connection,
                            void **request_context, enum MHD_RequestTerminationCode code)
{
	struct http_conn *conn = *request_context;
	bool has_said_close;

	(void)context;
	(void)connection;
	(void)code;
	if (!conn)
		return;
	*request_context = NULL;
	has_said_close = conn->has_said_close;
	http_access_note(conn, 0);
	http_conn_forget(conn);
	conn->n_done++;
	http_conn_enter(conn, HTTP_PHASE_IDLE);
	if (conn->is_half_closed)
		http_conn_show_end(conn);
	/* The fault came behind this request. */
	if (conn->wire.fault != HTTP_WIRE_GOOD && !has_said_close)
		http_conn_on_fault(conn);
}

void *http_conn_on_line(void *context, const char *uri, struct MHD_Connection *connection)
{
	struct http_conn *conn =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			->socket_context;
	size_t size = strlen(uri) + 1;

	(void)context;
	if (!conn)
		return NULL;
	conn->begun_ns = conn->http->now_ns;
	/* The first head's time runs from the connection, others' from here. */
	if (conn->phase == HTTP_PHASE_IDLE)
		http_conn_enter(conn, HTTP_PHASE_HEAD);
	if (size > conn->target_size) {
		char *target = realloc(conn->target, size);

		if (!target)
			return NULL;
		conn->target = target;
		conn->target_size = size;
	}
	/* A copy: libmicrohttpd decodes its own in place. */
	memcpy(conn->target, uri, size);
	return conn;
}
