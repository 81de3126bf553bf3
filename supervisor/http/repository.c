/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models that are loaded and unloaded over HTTP: bodies as Triton's extension model_repository has
 * them, and connections that wait, suspended, for what the supervisor does (model/repository.h).
 * That call has a deadline of its own, so the phase needs none.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/http/conn.h"
#include "supervisor/model/repository.h"

/* A body says yes and no, and little else. */
#define HTTP_REPOSITORY_BODY_MAX ((size_t)64 * 1024)

bool http_repository_counts(const struct http_conn *conn)
{
	return conn->ask.route.kind == HTTP_ROUTE_INDEX ||
	       conn->ask.route.kind == HTTP_ROUTE_LOAD ||
	       conn->ask.route.kind == HTTP_ROUTE_UNLOAD;
}

bool http_repository_take(struct http_conn *conn, const char *data, size_t bytes)
{
	struct http_loading *loading = &conn->loading;
	char *body;

	if (bytes > HTTP_REPOSITORY_BODY_MAX - loading->body_bytes) {
		(void)request_refuse(
			&conn->refusal, 413, 0,
			"the body is larger than %zu bytes: models come from "
			"files here, and none from a request",
			HTTP_REPOSITORY_BODY_MAX);
		return false;
	}
	body = realloc(loading->body, loading->body_bytes + bytes);
	if (!body) {
		(void)request_refuse(&conn->refusal, 503, HTTP_RETRY_S, "out of memory");
		return false;
	}
	memcpy(body + loading->body_bytes, data, bytes);
	loading->body = body;
	loading->body_bytes += bytes;
	return true;
}

/* Returns the body, a new reference; an empty one is an empty object. NULL, with a refusal. */
static json_t *http_repository_body(struct http_conn *conn)
{
	const struct http_loading *loading = &conn->loading;
	json_error_t error;
	json_t *body;

	if (loading->body_bytes == 0)
		return json_object();
	body = json_loadb(loading->body, loading->body_bytes, JSON_REJECT_DUPLICATES,
	                  &error);
	if (!json_is_object(body)) {
		(void)request_refuse(&conn->refusal, 400, 0,
		                     "the body is no JSON object: %.200s",
		                     body ? "send {} or nothing" : error.text);
		json_decref(body);
		return NULL;
	}
	return body;
}

/* Looks for the member @name, a bool. False, with a refusal. */
static bool http_repository_flag(struct http_conn *conn, const json_t *object,
                                 const char *name, bool *ret_flag)
{
	const json_t *member = json_object_get(object, name);

	*ret_flag = json_is_true(member);
	if (!member || json_is_boolean(member))
		return true;
	(void)request_refuse(&conn->refusal, 400, 0, "%s must be true or false", name);
	return false;
}

bool http_repository_index(struct http_conn *conn, bool *ret_only_ready)
{
	json_t *body = http_repository_body(conn);
	bool is_good = body && http_repository_flag(conn, body, "ready", ret_only_ready);

	json_decref(body);
	return is_good;
}

/* Whether @name may be among the parameters. What would change a model is refused: files are the
 * truth that a restart goes by, too. */
static bool http_repository_parameter(struct http_conn *conn, const char *name)
{
	if (conn->ask.route.kind == HTTP_ROUTE_UNLOAD &&
	    strcmp(name, "unload_dependents") == 0)
		return true; /* no model here has any */
	if (conn->ask.route.kind == HTTP_ROUTE_LOAD &&
	    (strcmp(name, "config") == 0 || strncmp(name, "file:", 5) == 0))
		(void)request_refuse(
			&conn->refusal, 400, 0,
			"parameters: '%.100s' is not taken: change the files "
			"that the model comes from, and load it",
			name);
	else
		(void)request_refuse(&conn->refusal, 400, 0,
		                     "parameters: '%.100s' is not known", name);
	return false;
}

static bool http_repository_check(struct http_conn *conn)
{
	json_t *body = http_repository_body(conn);
	json_t *parameters = json_object_get(body, "parameters");
	bool is_good = body;
	bool flag;
	const char *name;
	json_t *value;

	if (parameters && !json_is_object(parameters)) {
		(void)request_refuse(&conn->refusal, 400, 0,
		                     "parameters must be a JSON object");
		is_good = false;
	}
	json_object_foreach(parameters, name, value) is_good =
		is_good && http_repository_parameter(conn, name);
	is_good = is_good &&
	          http_repository_flag(conn, parameters, "unload_dependents", &flag);
	json_decref(body);
	return is_good;
}

static void http_repository_on_done(void *context, const struct request_refusal *refusal)
{
	struct http_conn *conn = context;
	struct http_loading *loading = &conn->loading;

	loading->call = NULL;
	loading->is_done = true;
	if (refusal)
		(void)request_refuse(&conn->refusal, refusal->status,
		                     refusal->retry_after_s, "%s", refusal->err.text);
	http_conns_tick(conn->http);
	http_conn_enter(conn, HTTP_PHASE_SWALLOW);
	http_conn_resume(conn);
}

/* @call has begun, if there is anything to wait for. */
static enum MHD_Result http_repository_wait(struct http_conn *conn,
                                            struct repository_call *call)
{
	struct http_loading *loading = &conn->loading;

	loading->call = call;
	if (!call)
		return http_answer_json(conn, 200, strdup(""));
	http_conn_enter(conn, HTTP_PHASE_LOAD);
	http_conn_suspend(conn);
	return MHD_YES;
}

enum MHD_Result http_repository_run(struct http_conn *conn)
{
	const struct repository *repository = conn->http->models.repository;
	const struct repository_ask ask = {
		.verb = conn->ask.route.kind == HTTP_ROUTE_LOAD ? REPOSITORY_LOAD
		                                                : REPOSITORY_UNLOAD,
		.model = conn->ask.route.model,
		.on_done = http_repository_on_done,
		.context = conn,
	};
	struct repository_call *call = NULL;

	if (conn->loading.is_done)
		return http_answer_json(conn, 200, strdup(""));
	if (!http_repository_check(conn) ||
	    repository->begin(repository->context, &ask, &call, &conn->refusal) != 0)
		return http_answer_refusal(conn);
	return http_repository_wait(conn, call);
}

void http_repository_forget(struct http_conn *conn)
{
	struct http_loading *loading = &conn->loading;

	if (loading->call)
		conn->http->models.repository->drop(loading->call);
	free(loading->body);
	*loading = (struct http_loading){ .call = NULL };
}
