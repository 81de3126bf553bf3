/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A strict reader of the bytes of one connection: where each request begins and ends, by
 * RFC 9112 and RFC 9110 alone. The reader runs before libmicrohttpd, which is lenient in
 * ways that others are not, and leaves to it only what means the same to everybody. Pure:
 * no connection, no system call, no allocation.
 *
 * Bytes are rewritten in place and never become more. Taken out are empty lines before a
 * request, white space behind values, chunk extensions, trailers, and what follows a
 * request that ends its connection. White space within the values that libmicrohttpd
 * reads becomes one space. Behind other values, white space may stay where a read ended
 * in it; head.c takes it off.
 *
 * A large body goes past libmicrohttpd, all but its ends: Content-Length then says what
 * is left of it, and the reader is told of the bytes between (http_wire_aside_bytes()).
 * Nothing else changes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/field.h"

/* Bytes of a method, a version, a name, or the value of a field that is read here. */
#define HTTP_WIRE_TEXT_MAX 320
/* Memory of libmicrohttpd for a connection that no head of a request gets: it is for the rest, such
 * as the answer's head. */
#define HTTP_WIRE_SPARE_BYTES 1024

enum http_wire_fault {
	HTTP_WIRE_GOOD,
	HTTP_WIRE_BAD_LINE,
	HTTP_WIRE_BAD_METHOD,
	HTTP_WIRE_LONG_METHOD,
	HTTP_WIRE_BAD_TARGET,
	HTTP_WIRE_LONG_TARGET,
	HTTP_WIRE_BAD_VERSION,
	HTTP_WIRE_OTHER_VERSION,
	HTTP_WIRE_BARE,
	HTTP_WIRE_FOLDED,
	HTTP_WIRE_BAD_NAME,
	HTTP_WIRE_BAD_VALUE,
	HTTP_WIRE_LONG_VALUE,
	HTTP_WIRE_LONG_HEAD,
	HTTP_WIRE_MANY_FIELDS,
	HTTP_WIRE_NO_HOST,
	HTTP_WIRE_TWO_HOSTS,
	HTTP_WIRE_BAD_HOST,
	HTTP_WIRE_BAD_LENGTH,
	HTTP_WIRE_LARGE_LENGTH,
	HTTP_WIRE_TWO_LENGTHS,
	HTTP_WIRE_BOTH_LENGTHS,
	HTTP_WIRE_OLD_CHUNKS,
	HTTP_WIRE_TWO_CODINGS,
	HTTP_WIRE_BAD_CODING,
	HTTP_WIRE_OTHER_CODING,
	HTTP_WIRE_BAD_CHUNK,
	HTTP_WIRE_LARGE_CHUNK,
	HTTP_WIRE_LONG_TRAILERS,
	HTTP_WIRE_FAULT_COUNT
};

/* What values of headers say: value.c. */
struct http_wire_values {
	unsigned int n_hosts;
	unsigned int n_lengths;
	uint64_t length_bytes;
	bool is_chunked;
	bool has_close;
	bool has_keep_alive;
};

struct http_wire {
	unsigned int state;  /* private, as is the rest up to fault */
	unsigned int field;  /* whose value is being read */
	size_t memory_bytes; /* of a connection */
	size_t limit_bytes;  /* of that, what a head may take */
	size_t cost_bytes;   /* that it takes so far */
	size_t line_bytes;   /* of a chunk's line, of all trailers */
	size_t text_bytes;
	unsigned int n_fields;
	unsigned int n_lines; /* empty, before a request */
	bool is_head;         /* the method is known, and is HEAD */
	bool is_old;          /* HTTP/1.0 */
	bool has_value;
	bool has_space; /* after a part of the value */
	struct http_wire_values values;
	uint64_t left_bytes;  /* of a body, a chunk, as far as libmicrohttpd sees it */
	uint64_t aside_bytes; /* of the body, before its last byte, that it does not */
	bool has_aside;       /* the shown length is not that of the body */
	char text[HTTP_WIRE_TEXT_MAX];

	enum http_wire_fault fault; /* once set, nothing more is read */
	uint64_t n_heads;           /* heads that came whole, without a fault */
	uint64_t n_ended;           /* requests that came whole */
	bool holds_space;           /* the next read must begin with one */
	bool is_over;               /* no other request is read */
};

/* @memory_bytes: what libmicrohttpd has for a connection. */
void http_wire_init(struct http_wire *wire, size_t memory_bytes);

/* Reads on. @data begins with a space if wire->holds_space; the rest has just arrived.
 * Returns how many bytes at @data are for libmicrohttpd. With wire->fault set these end
 * before the request that is at fault, or are none when a part of it was handed on
 * before. */
size_t http_wire_read(struct http_wire *wire, char *data, size_t bytes);

/* How many of @bytes the next read may bring at most: what goes past libmicrohttpd does not
 * come with what does not. 0: http_wire_aside_bytes() come next. */
size_t http_wire_most(const struct http_wire *wire, size_t bytes);
/* The length of a body that is being read and that Content-Length does not say any more; 0:
 * there is none. */
uint64_t http_wire_length_bytes(const struct http_wire *wire);
/* Bytes of the body that come next, and are not for libmicrohttpd; 0: none. */
uint64_t http_wire_aside_bytes(const struct http_wire *wire);
/* So many of them have come. */
void http_wire_pass_aside(struct http_wire *wire, size_t bytes);

/* The status of the answer. */
unsigned int http_wire_status(enum http_wire_fault fault);
/* For the client: what is wrong, and what to send instead. */
const char *http_wire_reason(enum http_wire_fault fault);
