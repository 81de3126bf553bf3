/* SPDX-License-Identifier: Apache-2.0 */

/* Bodies, chunks and trailers. Sections are those of RFC 9112. */

#include "shared/hex.h"
#include "supervisor/wire/steps.h"

/* 7.1.1: the length of extensions should be limited. */
#define HTTP_WIRE_CHUNK_LINE_MAX 512
#define HTTP_WIRE_TRAILERS_MAX   8192

/* Keeps what is left of a body or a chunk. True: that was all. */
static bool wire_take_left(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = cursor->end - cursor->at;

	if (bytes > wire->left_bytes)
		bytes = (size_t)wire->left_bytes;
	wire_keep(cursor, bytes);
	wire->left_bytes -= bytes;
	return wire->left_bytes == 0;
}

void wire_body(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (wire_take_left(wire, cursor))
		wire_end_request(wire);
}

/* 7.1: the line ends, an extension begins, or there is white space before one. */
static void wire_end_size(struct http_wire *wire, struct wire_cursor *cursor)
{
	char c = cursor->data[cursor->at];

	if (c == '\r') {
		wire_keep(cursor, 1);
		wire->state = WIRE_SIZE_LF;
	} else if (c == ';') {
		cursor->at++;
		wire->state = WIRE_EXTENSION;
	} else if (wire_is_space(c)) {
		cursor->at++;
		wire->state = WIRE_SIZE_SPACE;
	} else {
		wire_fail(wire, c == '\n' ? HTTP_WIRE_BARE : HTTP_WIRE_BAD_CHUNK);
	}
}

void wire_size(struct http_wire *wire, struct wire_cursor *cursor)
{
	int digit = hex_value(cursor->data[cursor->at]);

	if (++wire->line_bytes > HTTP_WIRE_CHUNK_LINE_MAX) {
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	} else if (digit >= 0) {
		if (wire->left_bytes > INT64_MAX / 16)
			wire_fail(wire, HTTP_WIRE_LARGE_CHUNK);
		wire->left_bytes = wire->left_bytes * 16 + (uint64_t)digit;
		wire_keep(cursor, 1);
	} else if (wire->line_bytes == 1) {
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	} else {
		wire_end_size(wire, cursor);
	}
}

void wire_size_space(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (++wire->line_bytes > HTTP_WIRE_CHUNK_LINE_MAX ||
	    cursor->data[cursor->at] == '\r')
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	else
		wire_end_size(wire, cursor);
}

/* 7.1.1: unknown extensions must be ignored. */
void wire_extension(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, wire_is_value);

	wire->line_bytes += bytes;
	cursor->at += bytes;
	if (wire->line_bytes > HTTP_WIRE_CHUNK_LINE_MAX)
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	else if (cursor->at < cursor->end && cursor->data[cursor->at] == '\r')
		wire_end_size(wire, cursor);
	else if (cursor->at < cursor->end)
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
}

void wire_size_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, wire->left_bytes > 0 ? WIRE_CHUNK : WIRE_TRAILER);
	wire->line_bytes = 0;
}

void wire_chunk(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (wire_take_left(wire, cursor))
		wire->state = WIRE_CHUNK_CR;
}

void wire_chunk_cr(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (cursor->data[cursor->at] != '\r') {
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
		return;
	}
	wire_keep(cursor, 1);
	wire->state = WIRE_CHUNK_LF;
}

void wire_chunk_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_SIZE);
}

/* Trailers. 7.1.2: they may be discarded. */

void wire_trailer(struct http_wire *wire, struct wire_cursor *cursor)
{
	char c = cursor->data[cursor->at];

	if (c == '\r') {
		wire_keep(cursor, 1);
		wire->state = WIRE_BODY_LF;
	} else if (wire_is_space(c)) {
		wire_fail(wire, HTTP_WIRE_FOLDED);
	} else if (!wire_is_token((unsigned char)c)) {
		wire_fail(wire, HTTP_WIRE_BAD_NAME);
	} else {
		wire->state = WIRE_TRAILER_NAME;
	}
}

static void wire_drop_trailer(struct http_wire *wire, struct wire_cursor *cursor,
                              size_t bytes)
{
	cursor->at += bytes;
	wire->line_bytes += bytes;
	if (wire->line_bytes > HTTP_WIRE_TRAILERS_MAX)
		wire_fail(wire, HTTP_WIRE_LONG_TRAILERS);
}

void wire_trailer_name(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_drop_trailer(wire, cursor, wire_span(cursor, wire_is_token));
	if (cursor->at == cursor->end)
		return;
	if (cursor->data[cursor->at] != ':')
		wire_fail(wire, HTTP_WIRE_BAD_NAME);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER_VALUE;
}

void wire_trailer_value(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_drop_trailer(wire, cursor, wire_span(cursor, wire_is_value));
	if (cursor->at == cursor->end)
		return;
	if (cursor->data[cursor->at] != '\r')
		wire_fail(wire, HTTP_WIRE_BAD_VALUE);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER_LF;
}

void wire_trailer_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (cursor->data[cursor->at] != '\n')
		wire_fail(wire, HTTP_WIRE_BARE);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER;
}

void wire_body_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_BODY_LF);
	if (wire->fault == HTTP_WIRE_GOOD)
		wire_end_request(wire);
}
