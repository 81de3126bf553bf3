/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/http_conn.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "supervisor/http_meta.h"

/* Of a streamed answer that is handed to libmicrohttpd at once. */
#define HTTP_STREAM_BLOCK 32768

void http_conn_enter(struct http_conn *conn, enum http_phase phase)
{
	struct http *http = conn->http;

	TAILQ_REMOVE(&http->phases[conn->phase], conn, link);
	conn->phase = phase;
	conn->deadline_ns = phase == HTTP_PHASE_WORKING ?
				    CLOCK_NEVER :
				    clock_now_ns() + http->timeout_ns[phase];
	/* One timeout per list: the tail is always the latest. */
	TAILQ_INSERT_TAIL(&http->phases[phase], conn, link);
}

static void http_conn_resume(struct http_conn *conn)
{
	if (!conn->is_suspended)
		return;
	conn->is_suspended = false;
	MHD_resume_connection(conn->connection);
	conn->http->must_run = true;
}

static enum MHD_Result http_conn_suspend(struct http_conn *conn)
{
	conn->is_suspended = true;
	MHD_suspend_connection(conn->connection);
	return MHD_YES;
}

static void http_conn_release(struct http_conn *conn)
{
	struct request *request = conn->request;

	conn->request = NULL;
	if (request)
		request_release(request);
}

void http_conn_hang_up(struct http_conn *conn)
{
	conn->is_gone = true;
	http_conn_release(conn);
	http_conn_resume(conn);
}

/* Responses */

static enum MHD_Result http_conn_queue(struct http_conn *conn, unsigned int status,
				       struct MHD_Response *response)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	if (conn->http->is_draining)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	conn->http->n_by_class[status / 100 % 6]++;
	http_conn_enter(conn, HTTP_PHASE_WORKING);
	result = MHD_queue_response(conn->connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Takes @body, malloc'ed; NULL: out of memory, the connection closes. */
static enum MHD_Result http_conn_answer(struct http_conn *conn, unsigned int status,
					const char *content_type, char *body)
{
	struct MHD_Response *response;

	if (!body)
		return MHD_NO;
	response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
	if (response)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
					      content_type);
	else
		free(body);
	return http_conn_queue(conn, status, response);
}

static enum MHD_Result http_conn_json(struct http_conn *conn, unsigned int status, char *body)
{
	return http_conn_answer(conn, status, "application/json", body);
}

/* An error of our own. @extra, when not NULL, is one more header and its value. */
static enum MHD_Result http_conn_error(struct http_conn *conn, unsigned int status,
				       const char *text, const char *extra,
				       const char *value)
{
	char *body = http_meta_error(text);
	struct MHD_Response *response;

	if (!body)
		return MHD_NO;
	response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
	if (!response) {
		free(body);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				      "application/json");
	if (extra)
		(void)MHD_add_response_header(response, extra, value);
	return http_conn_queue(conn, status, response);
}

static enum MHD_Result http_conn_refuse(struct http_conn *conn,
					const struct request_refusal *refusal)
{
	char seconds[16];

	if (refusal->retry_after_s == 0)
		return http_conn_error(conn, refusal->status, refusal->err.text, NULL, NULL);
	(void)snprintf(seconds, sizeof(seconds), "%u", refusal->retry_after_s);
	return http_conn_error(conn, refusal->status, refusal->err.text,
			       MHD_HTTP_HEADER_RETRY_AFTER, seconds);
}

/* The answer of a loader */

static void http_conn_free_part(void *context)
{
	request_part_free(context);
}

/* Header fields that the engine may not set: the connection is ours. */
static bool http_field_is_ours(struct proto_text name)
{
	static const char *const ours[] = {
		"connection", "content-length", "transfer-encoding", "date",
		"keep-alive", "upgrade",        "trailer",           "moult-generation",
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (proto_text_equals(name, ours[i]))
			return true;
	return false;
}

static bool http_field_copy(char *text, size_t size, struct proto_text from)
{
	if (from.bytes == 0 || from.bytes >= size)
		return false;
	for (size_t i = 0; i < from.bytes; i++) {
		unsigned char c = (unsigned char)from.data[i];

		/* The loader is not trusted to keep out of the next header. */
		if (c < 0x20 || c == 0x7f)
			return false;
	}
	memcpy(text, from.data, from.bytes);
	text[from.bytes] = '\0';
	return true;
}

static void http_conn_add_head(struct MHD_Response *response, const struct request *request)
{
	struct proto_field field;
	struct proto_head head;
	char name[128];
	char value[1024];

	if (request_answer_head(request, &head) == 0) {
		while (proto_head_next(&head, &field) == 1)
			if (!http_field_is_ours(field.name) &&
			    http_field_copy(name, sizeof(name), field.name) &&
			    http_field_copy(value, sizeof(value), field.value))
				(void)MHD_add_response_header(response, name, value);
	}
	if (request->generation > 0) {
		(void)snprintf(value, sizeof(value), "%llu",
			       (unsigned long long)request->generation);
		(void)MHD_add_response_header(response, "moult-generation", value);
	}
	if (request->retry_after_s > 0) {
		(void)snprintf(value, sizeof(value), "%u", request->retry_after_s);
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, value);
	}
}

/* The next bytes of an answer that comes in parts. */
static ssize_t http_conn_read(void *context, uint64_t position, char *buffer, size_t size)
{
	struct http_conn *conn = context;
	bool is_last;
	size_t bytes;

	(void)position;
	for (;;) {
		if (conn->is_gone || !conn->request)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if (!conn->part)
			conn->part = request_take_part(conn->request);
		if (!conn->part && conn->request->is_broken)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if (!conn->part) {
			(void)http_conn_suspend(conn);
			return 0;
		}
		bytes = conn->part->body_bytes - conn->part_sent;
		if (bytes > size)
			bytes = size;
		memcpy(buffer, (const char *)conn->part->body + conn->part_sent, bytes);
		conn->part_sent += bytes;
		if (bytes > 0)
			return (ssize_t)bytes;
		is_last = conn->part->is_last;
		request_part_free(conn->part);
		conn->part = NULL;
		conn->part_sent = 0;
		if (is_last)
			return MHD_CONTENT_READER_END_OF_STREAM;
	}
}

static enum MHD_Result http_conn_answer_request(struct http_conn *conn)
{
	struct request *request = conn->request;
	struct request_part *part = request_take_part(request);
	unsigned int status = request->status;
	struct MHD_Response *response;

	if (!part)
		return MHD_NO; /* broken before it began */
	if (!part->is_last) {
		conn->part = part;
		conn->part_sent = 0;
		response = MHD_create_response_from_callback(
			MHD_SIZE_UNKNOWN, HTTP_STREAM_BLOCK, http_conn_read, conn, NULL);
		if (!response)
			return MHD_NO;
		http_conn_add_head(response, request);
		return http_conn_queue(conn, status, response);
	}
	/* Straight from where the loader wrote it; given back once it is sent. */
	response = MHD_create_response_from_buffer_with_free_callback_cls(
		part->body_bytes, (void *)(uintptr_t)part->body, http_conn_free_part, part);
	if (!response) {
		request_part_free(part);
		return MHD_NO;
	}
	http_conn_add_head(response, request);
	http_conn_release(conn);
	return http_conn_queue(conn, status, response);
}

static void http_conn_on_part(struct request *request, void *context)
{
	struct http_conn *conn = context;

	(void)request;
	conn->has_answer = true;
	http_conn_resume(conn);
}

/* The head of a request */

struct field_walk {
	struct proto_field fields[PROTO_FIELDS_MAX];
	size_t n;
	char *scratch;
	size_t scratch_left;
	bool is_too_much;
	bool has_length;
	bool has_encoding;
};

static enum MHD_Result http_conn_on_field(void *context, enum MHD_ValueKind kind,
					  const char *name, const char *value)
{
	struct field_walk *walk = context;
	size_t bytes = strlen(name);

	(void)kind;
	if (walk->n == PROTO_FIELDS_MAX || bytes > walk->scratch_left) {
		walk->is_too_much = true;
		return MHD_NO;
	}
	for (size_t i = 0; i < bytes; i++)
		walk->scratch[i] = (char)tolower((unsigned char)name[i]);
	walk->fields[walk->n++] = (struct proto_field){
		.name = { walk->scratch, bytes },
		.value = proto_text_of(value ? value : ""),
	};
	if (bytes == 14 && memcmp(walk->scratch, "content-length", 14) == 0)
		walk->has_length = true;
	if (bytes == 17 && memcmp(walk->scratch, "transfer-encoding", 17) == 0)
		walk->has_encoding = true;
	walk->scratch += bytes;
	walk->scratch_left -= bytes;
	return MHD_YES;
}

static uint64_t http_conn_body_bytes(const struct field_walk *walk)
{
	for (size_t i = 0; i < walk->n; i++)
		if (proto_text_equals(walk->fields[i].name, "content-length"))
			return strtoull(walk->fields[i].value.data, NULL, 10);
	return walk->has_encoding ? UINT64_MAX : 0;
}

static enum MHD_Result http_conn_begin_infer(struct http_conn *conn, struct model *model,
					     const char *method)
{
	struct http *http = conn->http;
	struct field_walk walk = {
		.scratch = http->scratch,
		.scratch_left = sizeof(http->scratch),
	};
	struct request_start start = {
		.method = proto_text_of(method),
		.target = proto_text_of(conn->target),
		.on_part = http_conn_on_part,
		.context = conn,
	};
	struct request_refusal refusal;

	(void)MHD_get_connection_values(conn->connection, MHD_HEADER_KIND,
					http_conn_on_field, &walk);
	if (walk.is_too_much)
		return http_conn_error(conn, 431, "the request has too many headers", NULL,
				       NULL);
	if (walk.has_length && walk.has_encoding)
		return http_conn_error(conn, 400,
				       "the request has both Content-Length and "
				       "Transfer-Encoding; send one of them",
				       MHD_HTTP_HEADER_CONNECTION, "close");
	start.fields = walk.fields;
	start.n_fields = walk.n;
	start.body_bytes = http_conn_body_bytes(&walk);
	if (model_begin(model, &start, &conn->request, &refusal) != 0)
		return http_conn_refuse(conn, &refusal);
	return MHD_YES;
}

static enum MHD_Result http_conn_meta(struct http_conn *conn, const struct model *model)
{
	const struct http_models *models = &conn->http->models;
	bool is_ready = true;
	json_t *endpoint;
	char *body;

	switch (conn->route.kind) {
	case HTTP_ROUTE_SERVER:
		return http_conn_json(conn, 200, http_meta_server());
	case HTTP_ROUTE_LIVE:
		return http_conn_json(conn, 200, strdup("{\"live\":true}"));
	case HTTP_ROUTE_READY:
		body = http_meta_ready(models, &is_ready);
		return http_conn_json(conn, is_ready ? 200 : 503, body);
	case HTTP_ROUTE_METRICS:
		endpoint = http_to_json(conn->http);
		body = http_meta_metrics(models, endpoint);
		json_decref(endpoint);
		return http_conn_answer(conn, 200, "text/plain; version=0.0.4", body);
	case HTTP_ROUTE_STATS:
		return http_conn_json(conn, 200, http_meta_stats(models, model));
	case HTTP_ROUTE_INDEX:
		return http_conn_json(conn, 200, http_meta_index(models));
	case HTTP_ROUTE_MODEL:
		return http_conn_json(conn, 200, http_meta_model(model));
	case HTTP_ROUTE_MODEL_READY:
		return http_conn_json(conn, model_is_ready(model) ? 200 : 503,
				      http_meta_model_ready(model));
	case HTTP_ROUTE_MODEL_CONFIG:
		return http_conn_json(conn, 200, http_meta_model_config(model));
	case HTTP_ROUTE_REPOSITORY:
		return http_conn_error(conn, 501,
				       "models are loaded from the configuration; use "
				       "moultctl reload",
				       NULL, NULL);
	case HTTP_ROUTE_NONE:
	case HTTP_ROUTE_INFER:
	case HTTP_ROUTE_COUNT:
		break;
	}
	return http_conn_error(conn, 404, "Not Found", NULL, NULL);
}

/* The model that the route names; false: an error is queued in *ret_result. */
static bool http_conn_find_model(struct http_conn *conn, struct model **ret_model,
				 enum MHD_Result *ret_result)
{
	const struct http_models *models = &conn->http->models;
	const struct http_route *route = &conn->route;
	char text[256];

	*ret_model = NULL;
	if (route->model[0] == '\0')
		return true;
	*ret_model = models->find(models->context, route->model);
	if (*ret_model && (route->version[0] == '\0' ||
			   strcmp(route->version, model_config(*ret_model)->version) == 0))
		return true;
	if (*ret_model)
		(void)snprintf(text, sizeof(text), "model '%s' has version '%s', not '%s'",
			       route->model, model_config(*ret_model)->version,
			       route->version);
	else
		(void)snprintf(text, sizeof(text), "there is no model '%s'", route->model);
	*ret_result = http_conn_error(conn, 404, text, NULL, NULL);
	return false;
}

/* Answers everything but a good infer request; *ret_model is set for that one. */
static bool http_conn_answered(struct http_conn *conn, const char *method,
			       struct model **ret_model, enum MHD_Result *ret_result)
{
	bool is_post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
	bool is_get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 ||
		      strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;

	if (conn->route.kind == HTTP_ROUTE_NONE)
		*ret_result = http_conn_error(conn, 404, "Not Found", NULL, NULL);
	else if (conn->route.is_post ? !is_post : !is_get)
		*ret_result = http_conn_error(conn, 405, "Method Not Allowed",
					      MHD_HTTP_HEADER_ALLOW,
					      conn->route.is_post ? "POST" : "GET, HEAD");
	else if (http_conn_find_model(conn, ret_model, ret_result)) {
		if (conn->route.kind == HTTP_ROUTE_INFER)
			return false;
		*ret_result = http_conn_meta(conn, *ret_model);
	}
	return true;
}

/* A response that is queued now costs the connection: libmicrohttpd does not read on. So
 * only an infer request that is refused is answered before its end has been read. */
static enum MHD_Result http_conn_begin(struct http_conn *conn, const char *method)
{
	enum MHD_Result result;
	struct model *model;

	http_conn_enter(conn, HTTP_PHASE_BODY);
	conn->route = http_route_parse(conn->target ? conn->target : "");
	if (conn->route.kind != HTTP_ROUTE_INFER)
		return MHD_YES;
	if (http_conn_answered(conn, method, &model, &result))
		return result;
	return http_conn_begin_infer(conn, model, method);
}

/* The body and after */

static enum MHD_Result http_conn_upload(struct http_conn *conn, const char *data,
					size_t *bytes)
{
	if (conn->request &&
	    request_append(conn->request, data, *bytes, &conn->refusal) != 0) {
		/* The answer has to wait for the end of the body; its bytes are dropped. */
		conn->refused_status = conn->refusal.status;
		http_conn_release(conn);
	}
	*bytes = 0;
	return MHD_YES;
}

static enum MHD_Result http_conn_end(struct http_conn *conn, const char *method)
{
	enum MHD_Result result;
	struct model *model;

	if (conn->route.kind != HTTP_ROUTE_INFER &&
	    http_conn_answered(conn, method, &model, &result))
		return result;
	if (conn->refused_status)
		return http_conn_refuse(conn, &conn->refusal);
	if (conn->is_gone || !conn->request)
		return MHD_NO;
	if (conn->has_answer)
		return http_conn_answer_request(conn);
	if (!conn->is_submitted) {
		http_conn_enter(conn, HTTP_PHASE_WORKING);
		if (model_submit(conn->request, &conn->refusal) != 0) {
			http_conn_release(conn);
			return http_conn_refuse(conn, &conn->refusal);
		}
		conn->is_submitted = true;
	}
	return http_conn_suspend(conn);
}

enum MHD_Result http_conn_handle(void *context, struct MHD_Connection *connection,
				 const char *url, const char *method, const char *version,
				 const char *upload_data, size_t *upload_data_size,
				 void **request_context)
{
	struct http_conn *conn = *request_context;

	(void)context;
	(void)url;
	(void)version;
	if (!conn) {
		conn = MHD_get_connection_info(connection,
					       MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			       ->socket_context;
		if (!conn)
			return MHD_NO; /* there was no memory for it */
		*request_context = conn;
		return http_conn_begin(conn, method);
	}
	if (*upload_data_size > 0)
		return http_conn_upload(conn, upload_data, upload_data_size);
	return http_conn_end(conn, method);
}

void http_conn_on_completed(void *context, struct MHD_Connection *connection,
			    void **request_context, enum MHD_RequestTerminationCode code)
{
	struct http_conn *conn = *request_context;

	(void)context;
	(void)connection;
	(void)code;
	if (!conn)
		return;
	*request_context = NULL;
	http_conn_release(conn);
	request_part_free(conn->part);
	conn->part = NULL;
	free(conn->target);
	conn->target = NULL;
	conn->is_submitted = conn->has_answer = false;
	conn->refused_status = 0;
	http_conn_enter(conn, HTTP_PHASE_IDLE);
}

void *http_conn_on_line(void *context, const char *uri, struct MHD_Connection *connection)
{
	struct http_conn *conn =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			->socket_context;

	(void)context;
	if (conn) {
		free(conn->target);
		/* libmicrohttpd unescapes its own copy in place. */
		conn->target = strdup(uri);
		http_conn_enter(conn, HTTP_PHASE_HEAD);
	}
	return NULL;
}
