/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Heads of requests: a row for each header that means something here, and one for each
 * reason to refuse a head.
 */
#include "supervisor/wire/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/clock.h"
#include "supervisor/traffic/request.h"

#define COUNT(rows)    (sizeof(rows) / sizeof((rows)[0]))
#define TEXT_OF(macro) TEXT(macro)
#define TEXT(value)    #value

static const struct http_head_refusal refusals[HTTP_HEAD_FAULT_COUNT] = {
	[HTTP_HEAD_UNREAD] = { 500, true,
	                       "the request was not read as it must be; see "
	                       "moultd's log" },
	[HTTP_HEAD_TOO_MUCH] = { 431, true,
	                         "the request has more than " TEXT_OF(
					 PROTO_CLIENT_FIELDS_MAX) " headers, or "
	                                                          "longer ones than "
	                                                          "fit" },
	[HTTP_HEAD_BAD_EXPECT] = { 417, false,
	                           "the only expectation that is met is "
	                           "100-continue" },
	/* After CONNECT a client takes what follows for a tunnel. */
	[HTTP_HEAD_CONNECT] = { 501, true, "the request's method is not implemented" },
	[HTTP_HEAD_BAD_METHOD] = { 501, false,
	                           "the request's method is not implemented" },
	/* Who takes the answer for a handshake sends what is no HTTP. */
	[HTTP_HEAD_WEBSOCKET] = { 501, true,
	                          "moult serves no WebSocket, and hands no connection "
	                          "over to another protocol: use requests, and answers "
	                          "that are streamed, or let clients reach the "
	                          "application's own server for that path" },
	[HTTP_HEAD_BAD_TARGET] = { 400, false,
	                           "the request's target is neither a path nor "
	                           "http://HOST/PATH" },
	[HTTP_HEAD_NOT_FOUND] = { 404, false,
	                          "there is no such path: moult-http(7) lists "
	                          "them" },
	[HTTP_HEAD_NOT_ALLOWED] = { 405, false,
	                            "the path takes another method: the "
	                            "header Allow names it" },
	[HTTP_HEAD_BAD_TIMEOUT] = { 400, false,
	                            REQUEST_TIMEOUT_HEADER
	                            " must be one number of milliseconds, from 1 "
	                            "to " TEXT_OF(HTTP_TIMEOUT_MAX_MS) },
};

const struct http_head_refusal *http_head_refusal(enum http_head_fault fault)
{
	return &refusals[fault];
}

bool http_head_has_route(enum http_head_fault fault)
{
	return fault == HTTP_HEAD_GOOD || fault == HTTP_HEAD_NOT_FOUND ||
	       fault == HTTP_HEAD_NOT_ALLOWED || fault == HTTP_HEAD_BAD_METHOD;
}

/* Headers */

static void head_read_encoding(struct http_head *head, struct proto_text value)
{
	head->is_encoded =
		value.bytes != 8 || strncasecmp(value.data, "identity", 8) != 0;
}

static void head_read_length(struct http_head *head, struct proto_text value)
{
	head->length_bytes = strtoull(value.data, NULL, 10);
}

static void head_read_expect(struct http_head *head, struct proto_text value)
{
	head->is_bad_expect =
		head->has_continue || strcasecmp(value.data, "100-continue") != 0;
	head->has_continue = true;
}

static void head_read_json_length(struct http_head *head, struct proto_text value)
{
	head->json_bytes = strtoull(value.data, NULL, 10);
}

static void head_read_timeout(struct http_head *head, struct proto_text value)
{
	size_t digits = strspn(value.data, "0123456789");
	uint64_t timeout_ms = strtoull(value.data, NULL, 10);

	/* Twice is once too often: who wrote the other one goes by that. */
	head->is_bad_timeout = head->is_bad_timeout || head->timeout_ns != CLOCK_NEVER ||
	                       digits == 0 || digits != value.bytes || timeout_ms == 0 ||
	                       timeout_ms > HTTP_TIMEOUT_MAX_MS;
	if (!head->is_bad_timeout)
		head->timeout_ns = timeout_ms * CLOCK_NS_PER_MS;
}

static void head_read_connection(struct http_head *head, struct proto_text value)
{
	if (head->n_connection == HTTP_CONNECTION_MAX)
		head->is_too_much = true;
	else
		head->connection[head->n_connection++] = value;
}

static bool head_is_named(struct proto_text list, struct proto_text name)
{
	const char *end = list.data + list.bytes;

	for (const char *one = list.data; one < end;) {
		const char *comma = memchr(one, ',', (size_t)(end - one));
		const char *next = comma ? comma : end;
		const char *last = next;

		while (one < last && strchr(" \t", *one))
			one++;
		while (last > one && strchr(" \t", last[-1]))
			last--;
		if ((size_t)(last - one) == name.bytes &&
		    strncasecmp(one, name.data, name.bytes) == 0)
			return true;
		one = next + 1;
	}
	return false;
}

/* RFC 6455 4.1. Other protocols are offers, which RFC 9110 7.8 lets a server ignore. */
static void head_read_upgrade(struct http_head *head, struct proto_text value)
{
	head->is_websocket |= head_is_named(value, proto_text_of("websocket"));
}

/* A proxy may have dropped the field Upgrade, which was for the next connection alone. */
static void head_read_handshake(struct http_head *head, struct proto_text value)
{
	(void)value;
	head->is_websocket = true;
}

static void head_read_coding(struct http_head *head, struct proto_text value)
{
	(void)value;
	head->is_chunked = true;
}

static void head_read_authorization(struct http_head *head, struct proto_text value)
{
	head->authorization = value;
	head->n_authorizations++;
}

#define NAME(text)                                                                       \
	{                                                                                \
		text, sizeof(text) - 1                                                   \
	}

static const struct head_row {
	struct proto_text name;
	bool is_ours; /* an engine has no use for it: its body is not chunked any more */
	void (*read)(struct http_head *head, struct proto_text value);
} head_rows[] = {
	{ NAME("authorization"), false, head_read_authorization },
	{ NAME("connection"), true, head_read_connection },
	{ NAME("content-encoding"), false, head_read_encoding },
	{ NAME("content-length"), false, head_read_length },
	{ NAME("expect"), true, head_read_expect },
	{ NAME("inference-header-content-length"), false, head_read_json_length },
	{ NAME("keep-alive"), true, NULL },
	{ NAME("moult-timeout-ms"), false, head_read_timeout },
	{ NAME("sec-websocket-key"), false, head_read_handshake },
	{ NAME("te"), true, NULL },
	{ NAME("trailer"), true, NULL },
	{ NAME("transfer-encoding"), true, head_read_coding },
	{ NAME("upgrade"), true, head_read_upgrade },
};

/* Returns true for headers that an engine has no use for. */
static bool head_note(struct http_head *head, const struct proto_field *field)
{
	for (size_t i = 0; i < COUNT(head_rows); i++) {
		const struct head_row *row = &head_rows[i];

		if (row->name.bytes != field->name.bytes ||
		    memcmp(row->name.data, field->name.data, row->name.bytes) != 0)
			continue;
		if (row->read)
			row->read(head, field->value);
		return row->is_ours;
	}
	return false;
}

bool http_head_add(struct http_head *head, const char *name, size_t name_bytes,
                   const char *value, size_t value_bytes)
{
	struct proto_field field = {
		.name = { head->names, name_bytes },
		.value = { value ? value : "", value_bytes },
	};

	/* White space that the strict reader could not take back any more. */
	while (field.value.bytes > 0 &&
	       strchr(" \t", field.value.data[field.value.bytes - 1]))
		field.value.bytes--;
	head->is_too_much = head->is_too_much ||
	                    head->n_fields == PROTO_CLIENT_FIELDS_MAX ||
	                    name_bytes > head->names_left;
	if (head->is_too_much)
		return false;
	for (size_t i = 0; i < name_bytes; i++)
		head->names[i] = name[i] >= 'A' && name[i] <= 'Z'
		                         ? (char)(name[i] + 'a' - 'A')
		                         : name[i];
	if (head_note(head, &field))
		return !head->is_too_much;
	head->fields[head->n_fields++] = field;
	head->names += name_bytes;
	head->names_left -= name_bytes;
	return true;
}

void http_head_drop(struct http_head *head, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < head->n_fields; i++)
		if (!proto_text_equals(head->fields[i].name, name))
			head->fields[n++] = head->fields[i];
	head->n_fields = n;
}

void http_head_set_length(struct http_head *head, uint64_t bytes)
{
	head->length_bytes = bytes;
	(void)snprintf(head->length, sizeof(head->length), "%llu",
	               (unsigned long long)bytes);
	for (size_t i = 0; i < head->n_fields; i++)
		if (proto_text_equals(head->fields[i].name, "content-length"))
			head->fields[i].value = proto_text_of(head->length);
}

void http_head_add_client(struct http_head *head, const char *client)
{
	if (*client)
		head->fields[head->n_fields++] = (struct proto_field){
			.name = proto_text_of(PROTO_CLIENT_FIELD),
			.value = proto_text_of(client),
		};
}

void http_head_init(struct http_head *head, char *names, size_t size)
{
	head->n_fields = 0;
	head->names = names;
	head->names_left = size;
	head->is_too_much = head->is_chunked = head->has_continue = false;
	head->is_bad_expect = head->is_bad_timeout = head->is_encoded = false;
	head->is_websocket = false;
	head->n_connection = 0;
	head->n_authorizations = 0;
	head->authorization = (struct proto_text){ "", 0 };
	head->length_bytes = 0;
	head->json_bytes = UINT64_MAX;
	head->timeout_ns = CLOCK_NEVER;
	head->path = head->allow = NULL;
	head->route = (struct http_route){ .kind = HTTP_ROUTE_NONE };
}

void http_head_aim(struct http_head *head, const struct http_route *route)
{
	head->route = *route;
}

/* The request line */

static bool head_is_get(const char *method)
{
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* RFC 9110 9.1, 15.6.2: a method that no resource has is answered 501, one that others
 * have 405. */
static bool head_knows_method(const char *method)
{
	static const char *const known[] = { "POST",  "PUT",   "DELETE",
		                             "PATCH", "TRACE", "OPTIONS" };

	for (size_t i = 0; i < COUNT(known); i++)
		if (strcmp(method, known[i]) == 0)
			return true;
	return head_is_get(method);
}

/* RFC 9112 3.2.2: an absolute target, as in a request to a proxy, must be taken as well;
 * its host counts in place of Host. False: the target is not absolute. */
static bool head_read_absolute(struct http_head *head, const char *target)
{
	struct proto_text host;

	if (strncasecmp(target, "http://", 7) == 0)
		target += 7;
	else if (strncasecmp(target, "https://", 8) == 0)
		target += 8;
	else
		return false;
	host = (struct proto_text){ target, strcspn(target, "/?") };
	if (host.bytes == 0 || memchr(target, '@', host.bytes))
		return false;
	head->path = target[host.bytes] == '/' ? target + host.bytes : "/";
	for (size_t i = 0; i < head->n_fields; i++)
		if (proto_text_equals(head->fields[i].name, "host"))
			head->fields[i].value = host;
	return true;
}

/* RFC 9110 7.6.1: what the field Connection names is of the connection, too. */
static void head_drop_named(struct http_head *head)
{
	size_t n = 0;

	for (size_t i = 0; i < head->n_fields; i++) {
		struct proto_text name = head->fields[i].name;
		bool is_named = false;

		for (size_t j = 0; j < head->n_connection; j++)
			is_named |= head_is_named(head->connection[j], name);
		if (!is_named || proto_text_equals(name, "host"))
			head->fields[n++] = head->fields[i];
	}
	head->n_fields = n;
}

/* RFC 9112 3.2. */
static enum http_head_fault head_read_target(struct http_head *head,
                                             const struct http_hosting *hosting,
                                             const char *method, const char *target)
{
	bool is_post = strcmp(method, "POST") == 0;

	head->path = target;
	if (strcmp(target, "*") == 0 && strcmp(method, "OPTIONS") == 0) {
		head->allow = "GET, HEAD, POST, OPTIONS";
		head->route = http_route_parse("/v2");
		return HTTP_HEAD_GOOD;
	}
	if (target[0] != '/' && !head_read_absolute(head, target))
		return head_knows_method(method) ? HTTP_HEAD_BAD_TARGET
		                                 : HTTP_HEAD_BAD_METHOD;
	head->route = http_route_find(hosting, head->path);
	if (head->route.kind == HTTP_ROUTE_HOSTED) {
		if (head->is_websocket && head_is_get(method))
			return HTTP_HEAD_WEBSOCKET;
		head_drop_named(head);
		return HTTP_HEAD_GOOD;
	}
	/* Only an application may have methods of its own. */
	if (!head_knows_method(method)) {
		head->route = (struct http_route){ .kind = HTTP_ROUTE_NONE };
		return HTTP_HEAD_BAD_METHOD;
	}
	if (head->route.kind == HTTP_ROUTE_NONE)
		return HTTP_HEAD_NOT_FOUND;
	if (head->route.is_post ? is_post : head_is_get(method))
		return HTTP_HEAD_GOOD;
	head->allow = head->route.is_post ? "POST" : "GET, HEAD";
	return HTTP_HEAD_NOT_ALLOWED;
}

enum http_head_fault http_head_read(struct http_head *head,
                                    const struct http_hosting *hosting,
                                    const char *method, const char *target)
{
	if (head->is_too_much)
		return HTTP_HEAD_TOO_MUCH;
	if (head->is_bad_expect)
		return HTTP_HEAD_BAD_EXPECT;
	if (strcmp(method, "CONNECT") == 0)
		return HTTP_HEAD_CONNECT;
	return head_read_target(head, hosting, method, target);
}
