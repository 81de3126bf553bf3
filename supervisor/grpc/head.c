/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the head of a call asks for. gRPC's own fields are read here; who asks, by which name, and
 * how much it may have is for gate/, which gets the fields as those of a request over HTTP.
 */
#include <stdlib.h>
#include <string.h>

#include "supervisor/grpc/conn.h"
#include "supervisor/wire/head.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define SERVICE     "/inference.GRPCInferenceService/"

static const struct {
	const char *path;
	enum http_route_kind kind; /* the same, in HTTP's words */
} methods[GRPC_METHOD_COUNT] = {
	[GRPC_METHOD_NONE] = { "", HTTP_ROUTE_NONE },
	[GRPC_METHOD_INFER] = { SERVICE "ModelInfer", HTTP_ROUTE_INFER },
	[GRPC_METHOD_SERVER_LIVE] = { SERVICE "ServerLive", HTTP_ROUTE_LIVE },
	[GRPC_METHOD_SERVER_READY] = { SERVICE "ServerReady", HTTP_ROUTE_READY },
	[GRPC_METHOD_MODEL_READY] = { SERVICE "ModelReady", HTTP_ROUTE_MODEL_READY },
	[GRPC_METHOD_SERVER_METADATA] = { SERVICE "ServerMetadata", HTTP_ROUTE_SERVER },
	[GRPC_METHOD_MODEL_METADATA] = { SERVICE "ModelMetadata", HTTP_ROUTE_MODEL },
	[GRPC_METHOD_INDEX] = { SERVICE "RepositoryIndex", HTTP_ROUTE_INDEX },
	[GRPC_METHOD_LOAD] = { SERVICE "RepositoryModelLoad", HTTP_ROUTE_LOAD },
	[GRPC_METHOD_UNLOAD] = { SERVICE "RepositoryModelUnload", HTTP_ROUTE_UNLOAD },
	[GRPC_METHOD_HEALTH] = { "/grpc.health.v1.Health/Check", HTTP_ROUTE_READY },
};

struct permit_place grpc_place(const struct grpc *grpc)
{
	return (struct permit_place){
		.gate = grpc->models.gate,
		.models = grpc->models.list,
		.config = grpc->config,
		.has_admin = grpc->models.has_admin,
		.is_local = grpc->is_local,
		.is_guarded = grpc->is_guarded,
	};
}

/* Collecting */

static uint16_t grpc_head_keep(struct grpc_head *head, struct pb_text text)
{
	size_t at = head->used;

	memcpy(head->text + at, text.data, text.bytes);
	head->text[at + text.bytes] = '\0';
	head->used += text.bytes + 1;
	return (uint16_t)at;
}

void grpc_head_init(struct grpc_head *head)
{
	head->used = head->n_fields = 0;
	head->is_too_much = false;
}

void grpc_head_add(struct grpc_head *head, struct pb_text name, struct pb_text value)
{
	size_t n = head->n_fields;

	if (n == GRPC_FIELDS_MAX ||
	    name.bytes + value.bytes + 2 > sizeof(head->text) - head->used)
		head->is_too_much = true;
	if (head->is_too_much)
		return;
	head->fields[n].name = grpc_head_keep(head, name);
	head->fields[n].value = grpc_head_keep(head, value);
	head->fields[n].value_bytes = (uint16_t)value.bytes;
	head->n_fields++;
}

/* The last value of the field @name; "": there is none. */
static const char *grpc_head_find(const struct grpc_head *head, const char *name)
{
	for (size_t i = head->n_fields; i-- > 0;)
		if (strcmp(head->text + head->fields[i].name, name) == 0)
			return head->text + head->fields[i].value;
	return "";
}

const char *grpc_head_path(const struct grpc_call *call)
{
	if (call->method == GRPC_METHOD_NONE && call->head)
		return grpc_head_find(call->head, ":path");
	return methods[call->method].path;
}

/* Reading */

/* Passes the fields on as those of a request over HTTP. */
static void grpc_head_translate(const struct grpc_head *from, struct http_head *to)
{
	for (size_t i = 0; i < from->n_fields; i++) {
		const char *name = from->text + from->fields[i].name;
		const char *value = from->text + from->fields[i].value;

		if (strcmp(name, ":authority") == 0)
			name = "host";
		if (*name != ':')
			(void)http_head_add(to, name, strlen(name), value,
			                    from->fields[i].value_bytes);
	}
}

static bool grpc_head_read_timeout(struct grpc_call *call, const struct http_head *http)
{
	const char *text = grpc_head_find(call->head, "grpc-timeout");
	uint64_t timeout_ns = CLOCK_NEVER;

	if (http->is_bad_timeout || (*text && grpc_read_timeout(text, &timeout_ns) < 0)) {
		(void)request_refuse(
			&call->refusal, 400, 0, "%s",
			*text ? "grpc-timeout must be up to eight digits and "
				"one of H, M, S, m, u, n"
			      : http_head_refusal(HTTP_HEAD_BAD_TIMEOUT)->text);
		return false;
	}
	grpc_call_set_timeout(call, timeout_ns < http->timeout_ns ? timeout_ns
	                                                          : http->timeout_ns);
	return true;
}

/* What gate/ says about who asks. The route says nothing of a model yet. */
static bool grpc_head_admit(struct grpc_call *call, struct http_head *http)
{
	struct grpc *grpc = call->conn->grpc;
	struct permit_place place = grpc_place(grpc);
	enum http_route_kind kind = call->route.kind;

	place.is_local = place.is_local && !peer_is_named(call->conn->io.peer);
	http_head_aim(http, &call->route);
	if (kind == HTTP_ROUTE_LIVE || kind == HTTP_ROUTE_READY)
		measure_skip(&call->measure);
	else if (!measure_request(&call->measure, grpc->models.gate->clients,
	                          grpc->config, grpc_io_end(&call->conn->io), http,
	                          &call->refusal))
		return false;
	permit_identify(&call->permission, &place, http);
	return permit_is_operator(&place, http, kind, &call->refusal) &&
	       permit_is_called_right(&call->permission, &place, http, "POST",
	                              &call->refusal);
}

static enum grpc_method grpc_head_method(const struct grpc_head *head)
{
	const char *path = grpc_head_find(head, ":path");

	for (enum grpc_method i = GRPC_METHOD_NONE + 1; i < GRPC_METHOD_COUNT; i++)
		if (strcmp(methods[i].path, path) == 0)
			return i;
	return GRPC_METHOD_NONE;
}

/* Whether it is gRPC at all; a status of HTTP in *ret_status if not. */
static bool grpc_head_is_grpc(const struct grpc_head *head, unsigned int *ret_status)
{
	const char *type = grpc_head_find(head, "content-type");
	static const char grpc[] = "application/grpc";

	if (strcmp(grpc_head_find(head, ":method"), "POST") != 0)
		*ret_status = 405;
	else if (strncmp(type, grpc, strlen(grpc)) != 0 ||
	         !strchr("+;", type[strlen(grpc)]))
		*ret_status = 415;
	return *ret_status == 0;
}

static bool grpc_head_look(struct grpc_call *call)
{
	const char *encoding = grpc_head_find(call->head, "grpc-encoding");

	if (call->head->is_too_much)
		return request_refuse(
			       &call->refusal, 431, 0,
			       "the call has more than %d header fields, or more than "
			       "%d bytes of them",
			       GRPC_FIELDS_MAX, GRPC_HEAD_BYTES) == 0;
	if (call->method == GRPC_METHOD_NONE)
		return request_refuse(
			       &call->refusal, 501, 0,
			       "there is no method '%.200s': moult-http(7) lists those "
			       "that are served",
			       grpc_head_find(call->head, ":path")) == 0;
	if (*encoding && strcmp(encoding, "identity") != 0)
		return request_refuse(&call->refusal, 501, 0,
		                      "messages are taken as they are, not compressed "
		                      "(grpc-encoding: %.50s)",
		                      encoding) == 0;
	return true;
}

bool grpc_head_read(struct grpc_call *call, unsigned int *ret_status)
{
	enum grpc_method method = grpc_head_method(call->head);
	char names[GRPC_HEAD_BYTES];
	struct http_head http;

	*ret_status = 0;
	grpc_call_set_method(call, method, methods[method].kind);
	if (!call->head->is_too_much && !grpc_head_is_grpc(call->head, ret_status))
		return false;
	if (!grpc_head_look(call))
		return false;
	http_head_init(&http, names, sizeof(names));
	grpc_head_translate(call->head, &http);
	return grpc_head_admit(call, &http) && grpc_head_read_timeout(call, &http);
}
