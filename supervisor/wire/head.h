/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the head of a request asks for, and what of it goes on to an engine. Pure: no
 * models, no connection. Where the request ends is for wire.h to say.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/proto.h"
#include "supervisor/wire/route.h"

/* Milliseconds that a client may say it waits: a day. */
#define HTTP_TIMEOUT_MAX_MS 86400000
/* Fields named Connection, at most. */
#define HTTP_CONNECTION_MAX 8

enum http_head_fault {
	HTTP_HEAD_GOOD,
	HTTP_HEAD_UNREAD, /* the strict reader does not know it */
	HTTP_HEAD_TOO_MUCH,
	HTTP_HEAD_BAD_EXPECT,
	HTTP_HEAD_CONNECT,
	HTTP_HEAD_BAD_METHOD,
	HTTP_HEAD_WEBSOCKET, /* to what is hosted */
	HTTP_HEAD_BAD_TARGET,
	HTTP_HEAD_NOT_FOUND,
	HTTP_HEAD_NOT_ALLOWED,
	HTTP_HEAD_BAD_TIMEOUT, /* of no account but for inference */
	HTTP_HEAD_FAULT_COUNT
};

struct http_head_refusal {
	unsigned int status;
	bool must_close; /* the connection, after the answer */
	const char *text;
};

struct http_head {
	struct proto_field fields[PROTO_FIELDS_MAX]; /* for an engine */
	size_t n_fields;
	char *names; /* room for names in lower case */
	size_t names_left;
	bool is_too_much;
	bool is_chunked;
	bool has_continue;
	struct proto_text connection[HTTP_CONNECTION_MAX]; /* fields of that name */
	size_t n_connection;
	struct proto_text authorization; /* the last of them */
	size_t n_authorizations;
	bool is_bad_expect;
	bool is_websocket;
	bool is_bad_timeout;
	bool is_encoded;
	uint64_t length_bytes;
	char length
		[24]; /* the same as a field's value, once http_head_set_length() is called */
	uint64_t json_bytes; /* UINT64_MAX: not said */
	uint64_t timeout_ns; /* CLOCK_NEVER: not said */

	/* http_head_read() */
	const char *path;  /* in the target */
	const char *allow; /* the methods that the path takes, when this one is not */
	struct http_route route;
};

/* @names, of @size bytes, is borrowed for as long as the fields are in use. */
void http_head_init(struct http_head *head, char *names, size_t size);
/* Adds a header, borrowed; @value is terminated, or NULL. False: there is no room. */
bool http_head_add(struct http_head *head, const char *name, size_t name_bytes,
                   const char *value, size_t value_bytes);
/* Takes the fields @name, in lower case, from what an engine gets. */
void http_head_drop(struct http_head *head, const char *name);
/* The body's length, where Content-Length does not say it any more. */
void http_head_set_length(struct http_head *head, uint64_t bytes);
/* Adds PROTO_CLIENT_FIELD, borrowed; once, and for an engine that hosts. */
void http_head_add_client(struct http_head *head, const char *client);
/* Says what is asked for, where that is not read from a request line. */
void http_head_aim(struct http_head *head, const struct http_route *route);
/* Reads the request line, all headers having been added. Returns the first fault. */
enum http_head_fault http_head_read(struct http_head *head,
                                    const struct http_hosting *hosting,
                                    const char *method, const char *target);

/* True: the request line was read so far that the route says what is asked for. */
bool http_head_has_route(enum http_head_fault fault);
/* What to answer. */
const struct http_head_refusal *http_head_refusal(enum http_head_fault fault);
