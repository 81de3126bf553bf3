/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is done with a request. Its head decides what it asks for: which path, which
 * model, whether its body is wanted, and by whom. A request for inference is begun at its
 * model then; the supervisor's own answers come when the request has come whole
 * (http_handler_late()).
 *
 * libmicrohttpd lets a response be queued in the first call of its handler for a request,
 * which costs the connection, and in the last one, never between. So even an early answer
 * is given late: the body is read and dropped first. A large body is not waited for: its
 * answer goes past libmicrohttpd (http_answer_raw()).
 *
 * A request that waits for its answer is not suspended at once: suspending costs two
 * epoll_ctl(2) and an empty recv(2), and a fast model answers within a round or two of
 * the loop. libmicrohttpd asks again in every MHD_run() for as long as there is no
 * response.
 */
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"
#include "supervisor/http/conn.h"
#include "supervisor/http/meta.h"
#include "supervisor/wire/head.h"

/* Looks at a request that waits before its connection is suspended. */
#define HTTP_LOOKS_MAX 6

/* Takes @body. */
static enum MHD_Result http_answer_health(struct http_conn *conn, bool is_ready,
                                          char *body)
{
	if (is_ready)
		return http_answer_json(conn, 200, body);
	(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S, "not ready");
	return http_answer_json(conn, 503, body);
}

static enum MHD_Result http_answer_ready(struct http_conn *conn)
{
	bool is_ready = false;
	char *body = http_meta_ready(conn->http, &is_ready);

	return http_answer_health(conn, is_ready, body);
}

static enum MHD_Result http_answer_metrics(struct http_conn *conn)
{
	const char *accept =
		MHD_lookup_connection_value(conn->connection, MHD_HEADER_KIND,
	                                    MHD_HTTP_HEADER_ACCEPT);
	enum metrics_format format = metrics_format_of(accept);

	return http_answer_page(conn, metrics_content_type(format),
	                        http_metrics_page(conn->http, format));
}

static bool http_handler_shows(const void *context, const char *model)
{
	return http_permit_shows(context, model);
}

static enum MHD_Result http_answer_index(struct http_conn *conn)
{
	const struct http_models *models = &conn->http->models;
	struct http_meta_index_of of = {
		.models = models->list,
		.repository = models->repository,
		.shows = http_handler_shows,
		.context = conn,
	};

	if (!http_repository_index(conn, &of.only_ready))
		return http_answer_refusal(conn);
	return http_answer_json(conn, 200, http_meta_index(&of));
}

/* Answers with what @make says of the model and its tensors. */
static enum MHD_Result http_answer_about(struct http_conn *conn,
                                         const struct model *model,
                                         char *(*make)(const struct model *model,
                                                       const struct declared_view *view))
{
	struct declared_view view;

	if (model_tensors(model, &view))
		return http_answer_json(conn, 200, make(model, &view));
	(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S,
	                     "model '%s' tells its inputs and outputs itself, and has "
	                     "not been loaded yet",
	                     model_name(model));
	return http_answer_refusal(conn);
}

/* Makes the supervisor's own answers. @model: of a route that names one. */
static enum MHD_Result http_answer_meta(struct http_conn *conn, struct model *model)
{
	struct model *const *models = conn->http->models.list;

	switch (conn->ask.route.kind) {
	case HTTP_ROUTE_SERVER:
		return http_answer_json(conn, 200, http_meta_server());
	case HTTP_ROUTE_LIVE:
		return http_answer_json(conn, 200, strdup("{\"live\":true}"));
	case HTTP_ROUTE_READY:
		return http_answer_ready(conn);
	case HTTP_ROUTE_METRICS:
		return http_answer_metrics(conn);
	case HTTP_ROUTE_STATS:
		return http_answer_json(conn, 200, http_meta_stats(models, model));
	case HTTP_ROUTE_INDEX:
		return http_answer_index(conn);
	case HTTP_ROUTE_MODEL:
		return http_answer_about(conn, model, http_meta_model);
	case HTTP_ROUTE_MODEL_READY:
		return http_answer_health(conn, model_is_ready(model),
		                          http_meta_model_ready(model));
	case HTTP_ROUTE_MODEL_CONFIG:
		return http_answer_about(conn, model, http_meta_model_config);
	case HTTP_ROUTE_REPOSITORY:
		(void)request_refuse(&conn->refusal, 501, 0,
		                     "repositories have no names here: leave the name "
		                     "out of the path");
		return http_answer_refusal(conn);
	case HTTP_ROUTE_FRONT:
		return http_answer_front(conn);
	case HTTP_ROUTE_EVENTS:
		return http_answer_events(conn);
	case HTTP_ROUTE_NONE:
	case HTTP_ROUTE_LOAD:
	case HTTP_ROUTE_UNLOAD:
	case HTTP_ROUTE_INFER:
	case HTTP_ROUTE_HOSTED:
	case HTTP_ROUTE_COUNT:
		break;
	}
	return MHD_NO;
}

/* The body */

/* Answers conn->refusal: at once, after the body, or past libmicrohttpd. */
static enum MHD_Result http_handler_refuse(struct http_conn *conn)
{
	const struct http_ask *ask = &conn->ask;
	bool is_first = conn->phase == HTTP_PHASE_NEW || conn->phase == HTTP_PHASE_HEAD;

	http_conn_release(conn);
	if (is_first && (ask->has_continue || conn->must_close)) {
		/* libmicrohttpd does not wait for the body, and so it ends the connection. */
		http_conn_must_close(conn);
		return http_answer_refusal(conn);
	}
	/* At the limit of requests, no body is waited for. */
	if (is_first && ask->body_bytes > 0 &&
	    conn->http->conns.n_busy >= conn->http->max_connections)
		return http_answer_linger(conn);
	return http_body_refuse(conn);
}

/* Refuses a request for which there is no room: 503, and the connection ends. */
static enum MHD_Result http_handler_turn_away(struct http_conn *conn)
{
	(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S,
	                     "all connections are taken (max_connections)");
	http_conn_must_close(conn);
	if (conn->ask.has_continue || conn->ask.body_bytes == 0)
		return http_answer_refusal(conn);
	return http_answer_linger(conn);
}

static enum MHD_Result http_handler_upload(struct http_conn *conn, const char *data,
                                           size_t *bytes)
{
	enum MHD_Result result = http_body_take(conn, data, *bytes);

	*bytes = 0;
	if (http_body_is_aside(conn))
		http_conn_read_on(conn);
	return result;
}

/* The head */

static enum MHD_Result http_handler_refuse_head(struct http_conn *conn,
                                                enum http_head_fault fault)
{
	const struct http_head_refusal *refusal = http_head_refusal(fault);

	(void)request_refuse(&conn->refusal, refusal->status, 0, "%s", refusal->text);
	if (refusal->must_close)
		http_conn_must_close(conn);
	return http_handler_refuse(conn);
}

static enum MHD_Result http_handler_infer(struct http_conn *conn, const char *method,
                                          struct http_head *head)
{
	bool is_hosted = conn->ask.route.kind == HTTP_ROUTE_HOSTED;
	struct request_start start = {
		.is_hosted = is_hosted,
		.method = proto_text_of(method),
		.target = proto_text_of(conn->ask.path),
		.fields = head->fields,
		.n_fields = head->n_fields,
		.body_bytes = conn->ask.body_bytes,
		.json_bytes = is_hosted ? UINT64_MAX : head->json_bytes,
		.is_encoded = !is_hosted && head->is_encoded,
		.timeout_ns = head->timeout_ns,
		.on_part = http_conn_on_part,
		.context = conn,
	};
	struct model *model = http_permit_model(conn);
	struct request *request;

	if (is_hosted) {
		http_head_add_client(head, http_conn_client(conn));
		start.n_fields = head->n_fields;
	}
	if (model && !is_hosted && model_config(model)->route) {
		(void)request_refuse(&conn->refusal, 400, 0,
		                     "model '%s' has routes (%.200s), and takes no "
		                     "inference",
		                     conn->ask.route.model, model_config(model)->route);
		return http_handler_refuse(conn);
	}
	if (model && head->is_bad_timeout)
		return http_handler_refuse_head(conn, HTTP_HEAD_BAD_TIMEOUT);
	if (!model || model_begin(model, &start, &request, &conn->refusal) != 0)
		return http_handler_refuse(conn);
	http_conn_take(conn, request);
	return MHD_YES;
}

static enum MHD_Result http_handler_on_field(void *context, enum MHD_ValueKind kind,
                                             const char *name, size_t name_bytes,
                                             const char *value, size_t value_bytes)
{
	(void)kind;
	return http_head_add(context, name, name_bytes, value, value_bytes) ? MHD_YES
	                                                                    : MHD_NO;
}

/* A model hosts the paths of the section that serves, until another one does. */
static const char *http_handler_hosted(const void *context, size_t index,
                                       const char **ret_prefixes)
{
	const struct model *model = ((struct model *const *)context)[index];
	const struct config_model *section = model ? model_config(model) : NULL;

	*ret_prefixes = section && section->route ? section->route : "";
	return model ? model_name(model) : NULL;
}

/* Reads what the request asks for. */
static enum http_head_fault http_handler_read(struct http_conn *conn,
                                              struct http_head *head, const char *method,
                                              const char *version)
{
	struct http_ask *ask = &conn->ask;
	bool is_old = strcmp(version, MHD_HTTP_VERSION_1_0) == 0;
	enum http_head_fault fault;
	const struct http_hosting hosting = { http_handler_hosted,
		                              conn->http->models.list,
		                              conn->http->models.endpoint != NULL };

	(void)snprintf(ask->method, sizeof(ask->method), "%s", method);
	http_head_init(head, conn->http->names, sizeof(conn->http->names));
	(void)MHD_get_connection_values_n(conn->connection, MHD_HEADER_KIND,
	                                  http_handler_on_field, head);
	/* The reader may be at a later request. */
	if (http_wire_length_bytes(&conn->wire) > 0 &&
	    conn->wire.n_heads == conn->n_done + 1)
		http_head_set_length(head, http_wire_length_bytes(&conn->wire));
	ask->body_bytes = head->is_chunked ? UINT64_MAX : head->length_bytes;
	/* RFC 9110 10.1.1: HTTP/1.0 has no 100. */
	ask->has_continue = head->has_continue && ask->body_bytes > 0 && !is_old;
	/* The strict reader knows the head when libmicrohttpd got it there. */
	if (conn->wire.n_heads <= conn->n_done) {
		log_event(LOG_LEVEL_ERR, "http_unread",
		          "error=\"libmicrohttpd reads past moultd's recv(), which must "
		          "see all that it reads\"");
		return HTTP_HEAD_UNREAD;
	}
	fault = http_head_read(head, &hosting, method, ask->target);
	ask->path = head->path;
	ask->allow = head->allow;
	ask->route = head->route;
	return fault;
}

/* Begins a request whose head has come. */
static enum MHD_Result http_handler_begin(struct http_conn *conn, const char *method,
                                          const char *version)
{
	const struct http_ask *ask = &conn->ask;
	struct http_head head;
	enum http_head_fault fault = http_handler_read(conn, &head, method, version);
	bool is_infer = ask->route.kind == HTTP_ROUTE_INFER ||
	                ask->route.kind == HTTP_ROUTE_HOSTED;

	/* Who may not ask is not told what there is. */
	if (http_head_has_route(fault) &&
	    (!http_measure(conn, &head) || !http_permit(conn, &head)))
		return http_handler_refuse(conn);
	if (fault != HTTP_HEAD_GOOD)
		return http_handler_refuse_head(conn, fault);
	/* Only inference and bodies take a place; the rest is answered at once. */
	if ((is_infer || ask->body_bytes > 0) &&
	    conn->http->conns.n_busy >= conn->http->max_connections &&
	    !http_deadline_evict_body(conn->http))
		return http_handler_turn_away(conn);
	return is_infer ? http_handler_infer(conn, method, &head)
	                : http_body_swallow(conn);
}

/* After the body */

static enum MHD_Result http_handler_late(struct http_conn *conn)
{
	struct model *model = NULL;
	enum MHD_Result result;
	uint64_t began_ns;

	if (conn->ask.route.kind == HTTP_ROUTE_LOAD ||
	    conn->ask.route.kind == HTTP_ROUTE_UNLOAD)
		return http_repository_run(conn);
	if (conn->ask.route.model[0] && conn->ask.route.kind != HTTP_ROUTE_REPOSITORY) {
		model = http_permit_model(conn);
		if (!model)
			return http_answer_refusal(conn);
	}
	if (!http_turn_counts(conn))
		return http_answer_meta(conn, model);
	if (http_turn_wait(conn))
		return MHD_YES;
	began_ns = clock_spent_ns();
	result = http_answer_meta(conn, model);
	http_turn_charge(conn, clock_spent_ns() - began_ns);
	return result;
}

/* A browser that has no token yet gets a page that asks for one. */
static enum MHD_Result http_handler_say_no(struct http_conn *conn)
{
	return conn->ask.route.kind == HTTP_ROUTE_FRONT && conn->permission.challenge
	               ? http_answer_closed_front(conn)
	               : http_answer_refusal(conn);
}

static enum MHD_Result http_handler_submit(struct http_conn *conn)
{
	http_conn_wait(conn);
	if (model_submit(conn->request, &conn->refusal) == 0)
		return MHD_YES;
	http_conn_release(conn);
	return http_answer_refusal(conn);
}

static enum MHD_Result http_handler_look(struct http_conn *conn)
{
	struct http_ask *ask = &conn->ask;

	if (conn->has_answer)
		return http_answer_request(conn);
	if (++ask->looks >= HTTP_LOOKS_MAX)
		http_conn_suspend(conn);
	return MHD_YES;
}

/* Callbacks of libmicrohttpd */

enum MHD_Result http_handler_run(void *context, struct MHD_Connection *connection,
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
		return http_handler_upload(conn, upload_data, upload_data_size);
	switch (conn->phase) {
	case HTTP_PHASE_NEW:
	case HTTP_PHASE_HEAD:
		return http_handler_begin(conn, method, version);
	case HTTP_PHASE_BODY:
		return http_handler_submit(conn);
	case HTTP_PHASE_SWALLOW:
		return conn->refusal.status ? http_handler_say_no(conn)
		                            : http_handler_late(conn);
	case HTTP_PHASE_WAIT:
	case HTTP_PHASE_HALF:
		return http_handler_look(conn);
	case HTTP_PHASE_IDLE:
	case HTTP_PHASE_LINGER:
	case HTTP_PHASE_SEND:
	case HTTP_PHASE_TURN:
	case HTTP_PHASE_LOAD:
	case HTTP_PHASE_GONE:
	case HTTP_PHASE_COUNT:
		break;
	}
	return MHD_NO;
}

static void http_handler_forget(struct http_conn *conn)
{
	struct http_ask *ask = &conn->ask;

	http_answer_forget(conn);
	http_permit_forget(conn);
	http_body_forget(conn);
	http_conn_forget(conn);
	http_turn_forget(conn);
	http_repository_forget(conn);
	http_events_forget(conn);
	*ask = (struct http_ask){ .target = ask->target,
		                  .target_size = ask->target_size };
}

void http_handler_on_completed(void *context, struct MHD_Connection *connection,
                               void **request_context,
                               enum MHD_RequestTerminationCode code)
{
	struct http_conn *conn = *request_context;
	bool has_said_close;

	(void)context;
	(void)connection;
	(void)code;
	if (!conn)
		return;
	*request_context = NULL;
	has_said_close = conn->sending.has_said_close;
	http_answer_note(conn, 0);
	http_handler_forget(conn);
	http_conn_next(conn);
	/* The fault came behind this request. */
	if (conn->wire.fault != HTTP_WIRE_GOOD && !has_said_close)
		http_answer_fault(conn);
}

void http_handler_on_closed(struct http_conn *conn)
{
	http_handler_forget(conn);
	free(conn->ask.target);
	http_conn_free(conn);
}

void *http_handler_on_line(void *context, const char *uri,
                           struct MHD_Connection *connection)
{
	struct http_conn *conn =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
			->socket_context;
	size_t size = strlen(uri) + 1;
	struct http_ask *ask;

	(void)context;
	if (!conn)
		return NULL;
	ask = &conn->ask;
	ask->begun_ns = conn->http->conns.now_ns;
	/* The first head's time runs from the connection, others' from here. */
	if (conn->phase == HTTP_PHASE_IDLE)
		http_conn_enter(conn, HTTP_PHASE_HEAD);
	if (size > ask->target_size) {
		char *target = realloc(ask->target, size);

		if (!target)
			return NULL;
		ask->target = target;
		ask->target_size = size;
	}
	/* A copy: libmicrohttpd decodes its own in place. */
	memcpy(ask->target, uri, size);
	return conn;
}
