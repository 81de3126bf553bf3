/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Everything that is sent. An answer that a loader gave whole goes from the response
 * arena into the socket without a copy; one that comes in parts is copied once, into
 * libmicrohttpd's chunk.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "shared/cleanup.h"
#include "supervisor/http/access_log.h"
#include "supervisor/http/conn.h"
#include "supervisor/http/meta.h"
#include "supervisor/traffic/queue.h"

/* Bytes of a streamed answer that are handed to libmicrohttpd at once. */
#define HTTP_STREAM_BLOCK 32768
/* Longer headers of an answer are dropped: a loader gives none of them. */
#define HTTP_NAME_MAX  1024
#define HTTP_VALUE_MAX (PROTO_HEAD_MAX + 1)
/* Part of a connection's memory that the headers of an answer may take: the request's lie there,
 * too. */
#define HTTP_HEAD_PART 2
/* Of an answer past libmicrohttpd. */
#define HTTP_RAW_FIELDS_MAX 160

static void http_add(struct MHD_Response *response, const char *name, const char *value)
{
	/* Without memory for a header the answer goes out without it. */
	(void)MHD_add_response_header(response, name, value);
}

static void http_add_number(struct MHD_Response *response, const char *name,
                            unsigned long long number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", number);
	http_add(response, name, text);
}

static void http_add_retry_after(struct MHD_Response *response, unsigned int seconds)
{
	if (seconds > 0)
		http_add_number(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
}

/* Counts a request for inference for the model that it names, also when it never got
 * there. */
static void http_count_infer(const struct http_conn *conn, unsigned int status)
{
	struct model *model;

	if (conn->request) {
		stats_note_response(&conn->request->queue->stats, status);
		return;
	}
	model = model_find(conn->http->models.list, conn->ask.route.model);
	if (model)
		model_note_response(model, status);
}

void http_answer_note(struct http_conn *conn, unsigned int status)
{
	struct http_sending *sending = &conn->sending;
	const struct http_ask *ask = &conn->ask;

	if (!conn->http->access || sending->is_noted ||
	    (status == 0 && ask->begun_ns == 0))
		return;
	sending->is_noted = true;
	access_log_note(conn->http->access,
	                &(struct access_log_entry){
				.end = http_conn_end(conn),
				.method = ask->method,
				.target = ask->begun_ns ? ask->target : NULL,
				.model = ask->route.kind == HTTP_ROUTE_NONE
	                                         ? ""
	                                         : ask->route.model,
				.status = status,
				.token = conn->permission.name,
				.received_bytes = conn->body.received_bytes,
				.took_ns = ask->begun_ns ? clock_now_ns() - ask->begun_ns
	                                                 : 0,
				.generation =
					conn->request ? conn->request->generation : 0,
			});
}

static void http_count(struct http_conn *conn, unsigned int status)
{
	struct http_answers *answers = &conn->http->answers;

	http_answer_note(conn, status);
	answers->n_by_class[status / 100 < 6 ? status / 100 : 0]++;
	/* Another method asks for no inference. */
	if ((conn->ask.route.kind == HTTP_ROUTE_INFER && !conn->ask.allow) ||
	    conn->ask.route.kind == HTTP_ROUTE_HOSTED)
		http_count_infer(conn, status);
}

/* An answer, or a part of it, goes out now: from @lane's arena, if that is not NULL. */
static void http_send_from(struct http_conn *conn, struct lane *lane)
{
	struct http_sending *sending = &conn->sending;

	sending->lane = lane;
	http_conn_enter(conn, HTTP_PHASE_SEND);
	if (lane)
		http_conns_watch_readers(conn->http);
}

/* Takes @response, which http_count() has seen. */
static enum MHD_Result http_queue(struct http_conn *conn, unsigned int status,
                                  struct MHD_Response *response)
{
	struct http_sending *sending = &conn->sending;
	enum MHD_Result result;

	sending->has_said_close =
		conn->http->is_draining || conn->http->is_leaving || conn->must_close;
	if (sending->has_said_close)
		http_add(response, MHD_HTTP_HEADER_CONNECTION, "close");
	http_send_from(conn, sending->lane);
	http_conns_want_output(conn->http);
	result = MHD_queue_response(conn->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result http_answer_made(struct http_conn *conn, unsigned int status,
                                 struct MHD_Response *response)
{
	if (conn->permission.challenge)
		http_add(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
		         conn->permission.challenge);
	http_count(conn, status);
	return http_queue(conn, status, response);
}

enum MHD_Result http_answer_json(struct http_conn *conn, unsigned int status, char *body)
{
	struct http_sending *sending = &conn->sending;
	struct MHD_Response *response;

	if (!body)
		return MHD_NO;
	sending->answer_bytes = strlen(body);
	response = MHD_create_response_from_buffer(sending->answer_bytes, body,
	                                           MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(body);
		return MHD_NO;
	}
	http_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	if (conn->refusal.status > 0)
		http_add_retry_after(response, conn->refusal.retry_after_s);
	if (conn->ask.allow)
		http_add(response, MHD_HTTP_HEADER_ALLOW, conn->ask.allow);
	return http_answer_made(conn, status, response);
}

enum MHD_Result http_answer_refusal(struct http_conn *conn)
{
	return http_answer_json(conn, conn->refusal.status,
	                        http_meta_error(conn->refusal.err.text));
}

/* libmicrohttpd asks for a plain pointer and only reads there. */
static void *http_plain(const void *memory)
{
	union {
		const void *in;
		void *out;
	} pointer = { .in = memory };

	return pointer.out;
}

static void http_on_page_sent(void *context)
{
	http_page_unref(context);
}

enum MHD_Result http_answer_page(struct http_conn *conn, const char *content_type,
                                 struct http_page *page)
{
	struct http_sending *sending = &conn->sending;
	struct MHD_Response *response;
	const char *text;

	if (!page)
		return MHD_NO;
	text = http_page_text(page, &sending->answer_bytes);
	response = MHD_create_response_from_buffer_with_free_callback_cls(
		sending->answer_bytes, http_plain(text), http_on_page_sent, page);
	if (!response) {
		http_page_unref(page);
		return MHD_NO;
	}
	http_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	http_add(response, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT);
	http_count(conn, 200);
	return http_queue(conn, 200, response);
}

/* Sends what is the last of @conn. A client whose socket has no room, or whose handshake is not
 * over, gets nothing. */
static void http_send_last(struct http_conn *conn, const char *answer, size_t bytes)
{
	if (!conn->session) {
		(void)send(conn->fd, answer, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	if (gnutls_record_send(conn->session, answer, bytes) == (ssize_t)bytes)
		(void)gnutls_bye(conn->session, GNUTLS_SHUT_WR);
}

/* Prints the header fields of some refusals. Returns @text, of HTTP_RAW_FIELDS_MAX bytes. */
static const char *http_print_fields(const struct http_conn *conn, char *text)
{
	const char *challenge = conn->permission.challenge;
	unsigned int seconds = conn->refusal.retry_after_s;

	*text = '\0';
	if (seconds > 0)
		(void)snprintf(text, HTTP_RAW_FIELDS_MAX, "Retry-After: %u\r\n", seconds);
	else if (challenge)
		(void)snprintf(text, HTTP_RAW_FIELDS_MAX, "WWW-Authenticate: %s\r\n",
		               challenge);
	return text;
}

void http_answer_raw(struct http_conn *conn)
{
	unsigned int status = conn->refusal.status;
	FREE char *body = http_meta_error(conn->refusal.err.text);
	FREE char *answer = NULL;
	/* RFC 9110 9.3.2. The reader may be at a later request than one that has begun. */
	bool is_head = *conn->ask.method
	                       ? strcmp(conn->ask.method, MHD_HTTP_METHOD_HEAD) == 0
	                       : conn->wire.is_head;
	char fields[HTTP_RAW_FIELDS_MAX];
	int bytes;

	http_count(conn, status);
	if (!body)
		return;
	bytes = asprintf(
		&answer,
		"HTTP/1.1 %u %s\r\nConnection: close\r\n%s"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		status, MHD_get_reason_phrase_for(status),
		http_print_fields(conn, fields), strlen(body), is_head ? "" : body);
	if (bytes < 0) {
		answer = NULL;
		return;
	}
	http_send_last(conn, answer, (size_t)bytes);
}

/* Closing at once would make the client's kernel throw the answer away. */
enum MHD_Result http_answer_linger(struct http_conn *conn)
{
	http_conn_release(conn);
	http_answer_raw(conn);
	(void)shutdown(conn->fd, SHUT_WR);
	http_conn_enter(conn, HTTP_PHASE_LINGER);
	return MHD_YES;
}

void http_answer_fault(struct http_conn *conn)
{
	enum http_wire_fault fault = conn->wire.fault;

	if (conn->n_done != conn->wire.n_ended || conn->phase > HTTP_PHASE_SWALLOW)
		return;
	(void)request_refuse(&conn->refusal, http_wire_status(fault), 0, "%s",
	                     http_wire_reason(fault));
	(void)http_answer_linger(conn);
}

/* The answer of a loader */

static bool http_is_name(struct proto_text name, const char *other)
{
	return name.bytes == strlen(other) &&
	       strncasecmp(name.data, other, name.bytes) == 0;
}

/* The length that the loader's head gives the body; UINT64_MAX: none. */
static uint64_t http_length_of(const struct request *request)
{
	struct proto_field field;
	struct proto_head head;
	char text[24];

	if (request_answer_head(request, &head) == 0)
		while (proto_head_next(&head, &field) == 1)
			if (http_is_name(field.name, MHD_HTTP_HEADER_CONTENT_LENGTH) &&
			    field.value.bytes > 0 && field.value.bytes < 19) {
				memcpy(text, field.value.data, field.value.bytes);
				text[field.value.bytes] = '\0';
				return text[strspn(text, "0123456789")] == '\0'
				               ? strtoull(text, NULL, 10)
				               : UINT64_MAX;
			}
	return UINT64_MAX;
}

/* Header fields that an engine may not set: the connection is ours. */
static bool http_field_is_ours(struct proto_text name)
{
	static const char *const ours[] = {
		"connection", "content-length",    "date",
		"keep-alive", "moult-generation",  "proxy-connection",
		"trailer",    "transfer-encoding", "upgrade",
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (http_is_name(name, ours[i]))
			return true;
	return false;
}

/* Copies @from, which is all characters that @is true for, and terminates it. */
static bool http_copy(char *text, size_t size, struct proto_text from,
                      bool (*is)(unsigned char c))
{
	if (from.bytes == 0 || from.bytes >= size)
		return false;
	for (size_t i = 0; i < from.bytes; i++)
		if (!is((unsigned char)from.data[i]))
			return false;
	memcpy(text, from.data, from.bytes);
	text[from.bytes] = '\0';
	return true;
}

/* Adds the loader's headers, which are not trusted to keep out of the next one or the
 * body. */
static void http_add_head(struct MHD_Response *response, const struct request *request)
{
	char name[HTTP_NAME_MAX];
	char value[HTTP_VALUE_MAX];
	struct proto_field field;
	struct proto_head head;

	if (request_answer_head(request, &head) == 0)
		while (proto_head_next(&head, &field) == 1)
			if (!http_field_is_ours(field.name) &&
			    http_copy(name, sizeof(name), field.name, field_is_token) &&
			    http_copy(value, sizeof(value), field.value, field_is_value))
				http_add(response, name, value);
	if (request->generation > 0)
		http_add_number(response, "moult-generation", request->generation);
	http_add_retry_after(response, request->retry_after_s);
}

static void http_on_part_sent(void *context)
{
	request_part_free(context);
}

/* The part that is being sent, or the next one. NULL: the loader has given none yet, or
 * will give none. */
static struct request_part *http_part_of(struct http_conn *conn)
{
	struct http_sending *sending = &conn->sending;

	if (sending->part)
		return sending->part;
	sending->part = request_take_part(conn->request);
	sending->part_sent = 0;
	/* Each part has its own time to be sent. */
	if (sending->part)
		http_send_from(conn, sending->part->lane);
	return sending->part;
}

static void http_drop_part(struct http_conn *conn)
{
	struct http_sending *sending = &conn->sending;

	request_part_free(sending->part);
	sending->part = NULL;
	sending->part_sent = 0;
	sending->lane = NULL;
}

/* The next bytes of an answer that comes in parts. */
static ssize_t http_on_read(void *context, uint64_t position, char *buffer, size_t size)
{
	struct http_conn *conn = context;
	struct http_sending *sending = &conn->sending;

	(void)position;
	while (conn->request) {
		struct request_part *part = http_part_of(conn);
		size_t bytes;
		bool is_last;

		if (!part && conn->request->is_broken)
			break;
		if (!part) {
			http_conn_wait(conn);
			http_conn_suspend(conn);
			return 0;
		}
		bytes = part->body_bytes - sending->part_sent;
		if (bytes > 0) {
			if (bytes > size)
				bytes = size;
			memcpy(buffer, (const char *)part->body + sending->part_sent,
			       bytes);
			sending->part_sent += bytes;
			return (ssize_t)bytes;
		}
		is_last = part->is_last;
		http_drop_part(conn);
		if (is_last)
			return MHD_CONTENT_READER_END_OF_STREAM;
	}
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result http_answer_stream(struct http_conn *conn,
                                          struct request_part *part)
{
	struct http_sending *sending = &conn->sending;
	/* Of a body that is shorter the end is cut off, visibly; more is not sent. */
	struct MHD_Response *response =
		MHD_create_response_from_callback(http_length_of(conn->request),
	                                          HTTP_STREAM_BLOCK, http_on_read, conn,
	                                          NULL);

	sending->part = part;
	sending->part_sent = 0;
	sending->lane = part->lane;
	if (!response)
		return MHD_NO;
	http_add_head(response, conn->request);
	http_count(conn, conn->request->status);
	return http_queue(conn, conn->request->status, response);
}

/* libmicrohttpd asks for no body of an answer to HEAD. */
static ssize_t http_on_no_body(void *context, uint64_t position, char *buffer,
                               size_t size)
{
	(void)context;
	(void)position;
	(void)buffer;
	(void)size;
	return MHD_CONTENT_READER_END_OF_STREAM;
}

/* RFC 9110 9.3.2, 15.4.5: an answer of which no client takes a body. */
static bool http_is_bare(const struct http_conn *conn)
{
	return conn->request->is_hosted &&
	       (strcmp(conn->ask.method, MHD_HTTP_METHOD_HEAD) == 0 ||
	        conn->request->status == MHD_HTTP_NO_CONTENT ||
	        conn->request->status == MHD_HTTP_NOT_MODIFIED);
}

/* Answers without a body, and with the length that the application gives for what GET would
 * bring. Where the length is not known, the connection ends: libmicrohttpd would send the end of a
 * chunked body, which the client takes for the beginning of the next answer. */
static enum MHD_Result http_answer_bare(struct http_conn *conn, struct request_part *part)
{
	struct request *request = conn->request;
	bool is_head = strcmp(conn->ask.method, MHD_HTTP_METHOD_HEAD) == 0;
	uint64_t length = http_length_of(request);
	unsigned int status = request->status;
	struct MHD_Response *response;

	/* An application that answers HEAD without a body says nothing about its length. */
	if (length == UINT64_MAX && !is_head)
		length = 0;
	else if (length == UINT64_MAX && part->is_last && part->body_bytes > 0)
		length = part->body_bytes;
	response =
		MHD_create_response_from_callback(length == UINT64_MAX ? MHD_SIZE_UNKNOWN
	                                                               : length,
	                                          HTTP_STREAM_BLOCK, http_on_no_body,
	                                          NULL, NULL);
	request_part_free(part);
	if (!response)
		return MHD_NO;
	if (length == UINT64_MAX)
		(void)MHD_set_response_options(response,
		                               MHD_RF_HTTP_1_0_COMPATIBLE_STRICT,
		                               MHD_RO_END);
	http_add_head(response, request);
	http_count(conn, status);
	http_conn_release(conn);
	return http_queue(conn, status, response);
}

/* Answers 502: libmicrohttpd would close the connection without a word. */
static enum MHD_Result http_answer_large_head(struct http_conn *conn,
                                              struct request_part *part)
{
	size_t bytes = conn->request->answer_head_bytes;

	request_part_free(part);
	http_conn_release(conn);
	(void)request_refuse(
		&conn->refusal, 502, 0,
		"the application's answer has %zu bytes of header fields, "
		"and %zu fit: shorten them, or make connection_memory larger",
		bytes, conn->http->connection_memory_bytes / HTTP_HEAD_PART);
	return http_answer_refusal(conn);
}

/* Whether the one part that the answer has is not as long as the application says. */
static bool http_is_odd(const struct request *request, const struct request_part *part)
{
	uint64_t length = request->is_hosted ? http_length_of(request) : UINT64_MAX;

	return length != UINT64_MAX && length != part->body_bytes;
}

enum MHD_Result http_answer_request(struct http_conn *conn)
{
	struct http_sending *sending = &conn->sending;
	struct request *request = conn->request;
	struct request_part *part = request_take_part(request);
	unsigned int status = request->status;
	struct MHD_Response *response;

	if (!part)
		return MHD_NO; /* broken before it began */
	if (request->is_hosted &&
	    request->answer_head_bytes >
	            conn->http->connection_memory_bytes / HTTP_HEAD_PART)
		return http_answer_large_head(conn, part);
	if (http_is_bare(conn))
		return http_answer_bare(conn, part);
	if (!part->is_last || http_is_odd(request, part))
		return http_answer_stream(conn, part);
	response = MHD_create_response_from_buffer_with_free_callback_cls(
		part->body_bytes, http_plain(part->body), http_on_part_sent, part);
	if (!response) {
		request_part_free(part);
		return MHD_NO;
	}
	http_add_head(response, request);
	sending->lane = part->lane;
	http_count(conn, status);
	http_conn_release(conn);
	return http_queue(conn, status, response);
}

void http_answer_forget(struct http_conn *conn)
{
	struct http_sending *sending = &conn->sending;

	http_drop_part(conn);
	sending->is_noted = false;
	sending->has_said_close = false;
	sending->answer_bytes = 0;
}
