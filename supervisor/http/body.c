/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The body of a request on its way: into the request's place in the arena, or dropped. The ends
 * of a large body come by libmicrohttpd, in the order in which they were sent, and what is
 * between them comes straight from the socket (recv.c). Both are counted here alike, for the
 * limits of rate and size.
 */
#include "supervisor/http/conn.h"

/* Bytes of an unwanted body that are read to keep the connection. */
#define HTTP_SWALLOW_BYTES ((uint64_t)1024 * 1024)
/* Bytes of it that are read at once. */
#define HTTP_DROP_BYTES ((size_t)64 * 1024)

/* Nobody else's until http_body_came(). */
static char http_body_dropped[HTTP_DROP_BYTES];

static void http_body_note(struct http_conn *conn, size_t bytes)
{
	struct http_body *body = &conn->body;

	body->received_bytes += bytes;
	http_measure_body(conn, bytes);
}

uint64_t http_body_left(const struct http_conn *conn)
{
	uint64_t announced = conn->ask.body_bytes;

	return announced == UINT64_MAX ? UINT64_MAX
	                               : announced - conn->body.received_bytes;
}

enum MHD_Result http_body_swallow(struct http_conn *conn)
{
	struct http_body *body = &conn->body;

	body->swallow_bytes = body->received_bytes + HTTP_SWALLOW_BYTES;
	http_conn_enter(conn, HTTP_PHASE_SWALLOW);
	return MHD_YES;
}

enum MHD_Result http_body_refuse(struct http_conn *conn)
{
	uint64_t left = http_body_left(conn);

	http_conn_release(conn);
	if (left != UINT64_MAX && left > HTTP_SWALLOW_BYTES)
		return http_answer_linger(conn);
	return http_body_swallow(conn);
}

/* More of a body has come that is no model's: dropped, but for what repository.c reads of it. */
static enum MHD_Result http_body_drop(struct http_conn *conn, const char *data,
                                      size_t bytes)
{
	if (conn->refusal.status == 0 && http_repository_counts(conn))
		(void)http_repository_take(conn, data, bytes);
	if (conn->body.received_bytes <= conn->body.swallow_bytes)
		return MHD_YES;
	if (conn->refusal.status == 0)
		(void)request_refuse(&conn->refusal, 413, 0,
		                     "this request takes no such body");
	return http_answer_linger(conn);
}

enum MHD_Result http_body_take(struct http_conn *conn, const char *data, size_t bytes)
{
	http_body_note(conn, bytes);
	if (conn->phase == HTTP_PHASE_SWALLOW)
		return http_body_drop(conn, data, bytes);
	if (conn->phase != HTTP_PHASE_BODY)
		return conn->phase == HTTP_PHASE_LINGER ? MHD_YES : MHD_NO;
	if (request_append(conn->request, data, bytes, &conn->refusal) != 0)
		return http_body_refuse(conn);
	return MHD_YES;
}

bool http_body_is_aside(const struct http_conn *conn)
{
	uint64_t aside_bytes = http_wire_aside_bytes(&conn->wire);

	/* The reader may be at a later request, and libmicrohttpd may have bytes that it
	 * has not handed on. */
	return aside_bytes > 0 && conn->wire.n_heads == conn->n_done + 1 &&
	       http_body_left(conn) == aside_bytes + 1;
}

void *http_body_place(struct http_conn *conn, size_t most, size_t *ret_bytes)
{
	void *at;

	if (conn->phase == HTTP_PHASE_BODY) {
		if (request_room(conn->request, most, &at, ret_bytes, &conn->refusal) ==
		    0)
			return at;
		(void)http_body_refuse(conn);
	}
	if (conn->phase != HTTP_PHASE_SWALLOW)
		return NULL;
	*ret_bytes = most < HTTP_DROP_BYTES ? most : HTTP_DROP_BYTES;
	return http_body_dropped;
}

void http_body_came(struct http_conn *conn, size_t bytes)
{
	http_body_note(conn, bytes);
	if (conn->phase == HTTP_PHASE_BODY)
		request_came(conn->request, bytes);
	else
		(void)http_body_drop(conn, http_body_dropped, bytes);
}

void http_body_forget(struct http_conn *conn)
{
	struct http_body *body = &conn->body;

	*body = (struct http_body){ 0 };
}
