/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The strict reader from the inside, for the files of wire/ only:
 *
 *	value.c  the values that say where a request ends, or whether it may
 *	aside.c  what of a large body libmicrohttpd sees
 *	wire.c   all else, and the loop over all states
 *
 * One state per place in a request, and one function per state, which takes at least one
 * byte or finds a fault.
 */

#include <string.h>

#include "supervisor/wire/wire.h"

enum {
	WIRE_LINE, /* before a request: empty lines */
	WIRE_LINE_LF,
	WIRE_METHOD,
	WIRE_TARGET,
	WIRE_VERSION,
	WIRE_VERSION_LF,
	WIRE_FIELD, /* a header's first byte, or the head's end */
	WIRE_NAME,
	WIRE_VALUE,
	WIRE_VALUE_LF,
	WIRE_HEAD_LF,
	WIRE_BODY,
	WIRE_SIZE, /* of a chunk */
	WIRE_SIZE_SPACE,
	WIRE_EXTENSION,
	WIRE_SIZE_LF,
	WIRE_CHUNK,
	WIRE_CHUNK_CR,
	WIRE_CHUNK_LF,
	WIRE_TRAILER,
	WIRE_TRAILER_NAME,
	WIRE_TRAILER_VALUE,
	WIRE_TRAILER_LF,
	WIRE_BODY_LF,
	WIRE_END, /* nothing more will be read */
	WIRE_COUNT
};

/* Fields whose value is read here. */
enum {
	FIELD_OTHER,
	FIELD_HOST,
	FIELD_COOKIE,
	FIELD_LENGTH,
	FIELD_CODING,
	FIELD_CONNECTION,
	FIELD_EXPECT
};

/* A call: bytes before @at were read, bytes before @out are kept. */
struct wire_cursor {
	char *data;
	size_t at;
	size_t end;
	size_t out;
	size_t begin; /* @out where the request began, if it did in this call */
	size_t floor; /* @out where the value began, if it did in this call */
};

static inline void wire_keep(struct wire_cursor *cursor, size_t bytes)
{
	if (cursor->out != cursor->at)
		memmove(cursor->data + cursor->out, cursor->data + cursor->at, bytes);
	cursor->out += bytes;
	cursor->at += bytes;
}

static inline void wire_fail(struct http_wire *wire, enum http_wire_fault fault)
{
	if (wire->fault == HTTP_WIRE_GOOD)
		wire->fault = fault;
}

static inline bool wire_is_space(char c)
{
	return c == ' ' || c == '\t';
}

static inline bool wire_is_target(unsigned char c)
{
	return c > ' ' && c < 0x7f && c != '#';
}

static inline size_t wire_span(const struct wire_cursor *cursor,
                               bool (*is)(unsigned char c))
{
	size_t at = cursor->at;

	while (at < cursor->end && is((unsigned char)cursor->data[at]))
		at++;
	return at - cursor->at;
}

/* Adds to wire->text, which always has room for a NUL. */
static inline bool wire_note(struct http_wire *wire, const char *data, size_t bytes,
                             size_t most)
{
	if (bytes > most - wire->text_bytes)
		return false;
	memcpy(wire->text + wire->text_bytes, data, bytes);
	wire->text_bytes += bytes;
	wire->text[wire->text_bytes] = '\0';
	return true;
}

static inline void wire_forget(struct http_wire *wire)
{
	wire->text_bytes = 0;
	wire->text[0] = '\0';
}

/* value.c */

/* Returns one of FIELD_...; @name in any case. */
unsigned int wire_field_of(const char *name);
/* Reads wire->text, the whole value of wire->field. */
void wire_read_value(struct http_wire *wire);
/* Finds faults that only a whole head shows. */
void wire_check_head(struct http_wire *wire);

/* aside.c */

/* Prints the Content-Length that libmicrohttpd is to see in place of the one that was read; 0:
 * that one stays. */
size_t wire_show_length(const struct http_wire *wire, char *text, size_t size);
