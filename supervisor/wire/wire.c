/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Request lines, headers, bodies, and the loop over all states. Sections are those of RFC 9112
 * where no other is named. Where the RFC leaves a choice between mending and refusing,
 * the reader refuses: what one reader mends another takes for something else. Heads are
 * counted in what libmicrohttpd needs for them (wire_pay()), so that it never runs out of
 * memory and into an answer of its own.
 */
#include <assert.h>

#include "shared/hex.h"
#include "shared/proto.h"
#include "supervisor/wire/steps.h"

/* Bytes; nobody implements a longer method. */
#define HTTP_WIRE_METHOD_MAX 32
/* 2.2: at least one empty line should be ignored. */
#define HTTP_WIRE_LINES_MAX 4
/* 7.1.1: the length of extensions should be limited. */
#define HTTP_WIRE_CHUNK_LINE_MAX 512
#define HTTP_WIRE_TRAILERS_MAX   8192
/* Memory of libmicrohttpd for one header, argument or cookie beside its text: 56 bytes in
 * a pool that rounds to 16. */
#define HTTP_WIRE_ENTRY_BYTES 64

static void wire_pay(struct http_wire *wire, size_t bytes)
{
	wire->cost_bytes += bytes;
	if (wire->cost_bytes > wire->limit_bytes)
		wire_fail(wire, wire->state <= WIRE_TARGET ? HTTP_WIRE_LONG_TARGET
		                                           : HTTP_WIRE_LONG_HEAD);
}

/* The request line */

static void wire_begin(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_forget(wire);
	wire->state = WIRE_METHOD;
	wire->cost_bytes = 0;
	wire->n_fields = wire->n_lines = 0;
	wire->has_aside = false;
	wire->values = (struct http_wire_values){ 0 };
	cursor->begin = cursor->out;
}

static void wire_line(struct http_wire *wire, struct wire_cursor *cursor)
{
	cursor->begin = cursor->out;
	if (cursor->data[cursor->at] == '\r') {
		cursor->at++;
		wire->state = WIRE_LINE_LF;
		if (++wire->n_lines > HTTP_WIRE_LINES_MAX)
			wire_fail(wire, HTTP_WIRE_BAD_LINE);
		return;
	}
	wire_begin(wire, cursor);
}

static void wire_feed(struct http_wire *wire, struct wire_cursor *cursor,
                      unsigned int state)
{
	if (cursor->data[cursor->at] != '\n') {
		wire_fail(wire, HTTP_WIRE_BARE);
		return;
	}
	wire_keep(cursor, 1);
	wire->state = state;
}

static void wire_end_request(struct http_wire *wire)
{
	wire->n_ended++;
	wire->is_head = false;
	/* 9.6: nothing after a request with "close" may be processed. */
	wire->is_over =
		wire->values.has_close || (wire->is_old && !wire->values.has_keep_alive);
	wire->state = wire->is_over ? WIRE_END : WIRE_LINE;
}

static void wire_method(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, field_is_token);

	if (!wire_note(wire, cursor->data + cursor->at, bytes, HTTP_WIRE_METHOD_MAX)) {
		wire_fail(wire, HTTP_WIRE_LONG_METHOD);
		return;
	}
	wire_pay(wire, bytes + 1);
	wire_keep(cursor, bytes);
	if (cursor->at == cursor->end)
		return;
	if (wire->text_bytes == 0 || cursor->data[cursor->at] != ' ') {
		wire_fail(wire, HTTP_WIRE_BAD_METHOD);
		return;
	}
	wire->is_head = strcmp(wire->text, "HEAD") == 0;
	wire_keep(cursor, 1);
	wire_forget(wire);
	wire->has_value = false;
	wire->state = WIRE_TARGET;
}

/* Pays for a query or a cookie: libmicrohttpd makes an entry of each of its parts. */
static void wire_pay_parts(struct http_wire *wire, const char *data, size_t bytes,
                           const char *between)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n += data[i] == between[0] || data[i] == between[1];
	wire_pay(wire, bytes + n * HTTP_WIRE_ENTRY_BYTES);
}

static void wire_target(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, wire_is_target);

	wire_pay_parts(wire, cursor->data + cursor->at, bytes, "?&");
	wire->has_value = wire->has_value || bytes > 0;
	wire_keep(cursor, bytes);
	if (cursor->at == cursor->end)
		return;
	if (!wire->has_value || cursor->data[cursor->at] != ' ') {
		wire_fail(wire, HTTP_WIRE_BAD_TARGET);
		return;
	}
	wire_keep(cursor, 1);
	wire->state = WIRE_VERSION;
}

/* 2.3: HTTP-version = "HTTP" "/" DIGIT "." DIGIT, in this case. */
static enum http_wire_fault wire_read_version(struct http_wire *wire)
{
	const char *text = wire->text;

	if (wire->text_bytes != 8 || strncmp(text, "HTTP/", 5) != 0 || text[5] < '0' ||
	    text[5] > '9' || text[6] != '.' || text[7] < '0' || text[7] > '9')
		return HTTP_WIRE_BAD_VERSION;
	if (text[5] != '1')
		return HTTP_WIRE_OTHER_VERSION;
	wire->is_old = text[7] == '0';
	return HTTP_WIRE_GOOD;
}

static void wire_version(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, wire_is_target);
	enum http_wire_fault fault;

	if (!wire_note(wire, cursor->data + cursor->at, bytes, HTTP_WIRE_METHOD_MAX)) {
		wire_fail(wire, HTTP_WIRE_BAD_VERSION);
		return;
	}
	wire_keep(cursor, bytes);
	if (cursor->at == cursor->end)
		return;
	fault = wire_read_version(wire);
	if (fault == HTTP_WIRE_GOOD && cursor->data[cursor->at] != '\r')
		fault = cursor->data[cursor->at] == '\n' ? HTTP_WIRE_BARE
		                                         : HTTP_WIRE_BAD_VERSION;
	wire_fail(wire, fault);
	wire_keep(cursor, 1);
	wire_pay(wire, wire->text_bytes + 2);
	wire->state = WIRE_VERSION_LF;
}

static void wire_version_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_FIELD);
}

static void wire_line_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (cursor->data[cursor->at++] != '\n')
		wire_fail(wire, HTTP_WIRE_BARE);
	wire->state = WIRE_LINE;
}

/* Headers */

static void wire_field(struct http_wire *wire, struct wire_cursor *cursor)
{
	char c = cursor->data[cursor->at];

	if (c == '\r') {
		wire_keep(cursor, 1);
		wire->state = WIRE_HEAD_LF;
	} else if (wire_is_space(c)) {
		wire_fail(wire, HTTP_WIRE_FOLDED);
	} else if (wire->n_fields++ == PROTO_CLIENT_FIELDS_MAX) {
		wire_fail(wire, HTTP_WIRE_MANY_FIELDS);
	} else {
		wire_forget(wire);
		wire->has_value = false;
		wire->state = WIRE_NAME;
		wire_pay(wire, HTTP_WIRE_ENTRY_BYTES);
	}
}

static void wire_name(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, field_is_token);

	/* A name too long to be noted is none that is read here. */
	if (!wire_note(wire, cursor->data + cursor->at, bytes, HTTP_WIRE_METHOD_MAX)) {
		wire->text_bytes = HTTP_WIRE_METHOD_MAX;
		wire->text[0] = '\0';
	}
	wire_pay(wire, bytes + 1);
	wire_keep(cursor, bytes);
	if (cursor->at == cursor->end)
		return;
	if (wire->text_bytes == 0 || cursor->data[cursor->at] != ':') {
		wire_fail(wire, HTTP_WIRE_BAD_NAME);
		return;
	}
	wire_keep(cursor, 1);
	wire->field = wire_field_of(wire->text);
	wire_forget(wire);
	wire->has_space = false;
	cursor->floor = cursor->out;
	wire->state = WIRE_VALUE;
}

/* Takes white space off the end of what is kept. */
static void wire_trim(struct wire_cursor *cursor)
{
	while (cursor->out > cursor->floor &&
	       wire_is_space(cursor->data[cursor->out - 1]))
		cursor->out--;
}

static void wire_keep_text(struct http_wire *wire, struct wire_cursor *cursor,
                           size_t bytes)
{
	if (wire->field == FIELD_COOKIE)
		wire_pay_parts(wire, cursor->data + cursor->at, bytes, ";,");
	else
		wire_pay(wire, bytes);
	wire_keep(cursor, bytes);
}

/* Keeps a value that libmicrohttpd compares as it is: one space stands for white space,
 * and is held back until the value goes on. */
static void wire_keep_packed(struct http_wire *wire, struct wire_cursor *cursor,
                             size_t bytes)
{
	wire_pay(wire, bytes);
	for (size_t end = cursor->at + bytes; cursor->at < end; cursor->at++) {
		char c = cursor->data[cursor->at];
		/* The space before the value is no part of it. */
		size_t noted = wire->has_space && wire->has_value ? 2 : 1;

		if (wire_is_space(c)) {
			wire->has_space = true;
			continue;
		}
		if (wire->has_space)
			cursor->data[cursor->out++] = ' ';
		cursor->data[cursor->out++] = c;
		wire->has_space = false;
		wire->has_value = true;
		if (wire->field != FIELD_EXPECT &&
		    !wire_note(wire, cursor->data + cursor->out - noted, noted,
		               HTTP_WIRE_TEXT_MAX - 1))
			wire_fail(wire, HTTP_WIRE_LONG_VALUE);
	}
}

/* Has a large body go past libmicrohttpd. Digits of which some went there before cannot be taken
 * back: the body then goes there whole. */
static void wire_put_aside(struct http_wire *wire, struct wire_cursor *cursor)
{
	char text[24];
	size_t digits = wire_show_length(wire, text, sizeof(text));

	if (digits == 0 || cursor->out - cursor->floor < wire->text_bytes)
		return;
	cursor->out -= wire->text_bytes;
	memcpy(cursor->data + cursor->out, text, digits);
	cursor->out += digits;
	wire->has_aside = true;
}

static void wire_value(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, field_is_value);

	if (wire->field == FIELD_OTHER || wire->field == FIELD_COOKIE)
		wire_keep_text(wire, cursor, bytes);
	else
		wire_keep_packed(wire, cursor, bytes);
	if (wire->fault != HTTP_WIRE_GOOD)
		return;
	if (cursor->at == cursor->end) {
		wire->holds_space = wire->has_space;
		/* The next read pays for that space again. */
		wire->cost_bytes -= wire->holds_space;
		wire->has_space = false;
		return;
	}
	if (cursor->data[cursor->at] != '\r') {
		wire_fail(wire, cursor->data[cursor->at] == '\n' ? HTTP_WIRE_BARE
		                                                 : HTTP_WIRE_BAD_VALUE);
		return;
	}
	wire_trim(cursor);
	wire_read_value(wire);
	if (wire->field == FIELD_LENGTH)
		wire_put_aside(wire, cursor);
	wire_keep(cursor, 1);
	wire_pay(wire, 2);
	wire->state = WIRE_VALUE_LF;
}

static void wire_value_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_FIELD);
}

static void wire_head_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_BODY);
	if (wire->fault == HTTP_WIRE_GOOD)
		wire_check_head(wire);
	if (wire->fault != HTTP_WIRE_GOOD)
		return;
	wire->n_heads++;
	wire->left_bytes = wire->values.length_bytes;
	if (wire->has_aside) {
		wire->left_bytes = wire->memory_bytes;
		wire->aside_bytes = wire->values.length_bytes - wire->left_bytes;
	}
	wire->line_bytes = 0;
	wire_forget(wire);
	if (wire->values.is_chunked)
		wire->state = WIRE_SIZE;
	else if (wire->left_bytes == 0)
		wire_end_request(wire);
}

static void wire_end(struct http_wire *wire, struct wire_cursor *cursor)
{
	(void)wire;
	cursor->at = cursor->end;
}

/* Bodies and chunks */

/* Keeps what is left of a body or a chunk. True: that was all. */
static bool wire_take_left(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = http_wire_most(wire, cursor->end - cursor->at);

	assert(bytes > 0);
	if (bytes > wire->left_bytes)
		bytes = (size_t)wire->left_bytes;
	wire_keep(cursor, bytes);
	wire->left_bytes -= bytes;
	return wire->left_bytes == 0;
}

static void wire_body(struct http_wire *wire, struct wire_cursor *cursor)
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

static void wire_size(struct http_wire *wire, struct wire_cursor *cursor)
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

static void wire_size_space(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (++wire->line_bytes > HTTP_WIRE_CHUNK_LINE_MAX ||
	    cursor->data[cursor->at] == '\r')
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	else
		wire_end_size(wire, cursor);
}

/* 7.1.1: unknown extensions must be ignored. */
static void wire_extension(struct http_wire *wire, struct wire_cursor *cursor)
{
	size_t bytes = wire_span(cursor, field_is_value);

	wire->line_bytes += bytes;
	cursor->at += bytes;
	if (wire->line_bytes > HTTP_WIRE_CHUNK_LINE_MAX)
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
	else if (cursor->at < cursor->end && cursor->data[cursor->at] == '\r')
		wire_end_size(wire, cursor);
	else if (cursor->at < cursor->end)
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
}

static void wire_size_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, wire->left_bytes > 0 ? WIRE_CHUNK : WIRE_TRAILER);
	wire->line_bytes = 0;
}

static void wire_chunk(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (wire_take_left(wire, cursor))
		wire->state = WIRE_CHUNK_CR;
}

static void wire_chunk_cr(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (cursor->data[cursor->at] != '\r') {
		wire_fail(wire, HTTP_WIRE_BAD_CHUNK);
		return;
	}
	wire_keep(cursor, 1);
	wire->state = WIRE_CHUNK_LF;
}

static void wire_chunk_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_SIZE);
}

/* Trailers. 7.1.2: they may be discarded. */

static void wire_trailer(struct http_wire *wire, struct wire_cursor *cursor)
{
	char c = cursor->data[cursor->at];

	if (c == '\r') {
		wire_keep(cursor, 1);
		wire->state = WIRE_BODY_LF;
	} else if (wire_is_space(c)) {
		wire_fail(wire, HTTP_WIRE_FOLDED);
	} else if (!field_is_token((unsigned char)c)) {
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

static void wire_trailer_name(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_drop_trailer(wire, cursor, wire_span(cursor, field_is_token));
	if (cursor->at == cursor->end)
		return;
	if (cursor->data[cursor->at] != ':')
		wire_fail(wire, HTTP_WIRE_BAD_NAME);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER_VALUE;
}

static void wire_trailer_value(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_drop_trailer(wire, cursor, wire_span(cursor, field_is_value));
	if (cursor->at == cursor->end)
		return;
	if (cursor->data[cursor->at] != '\r')
		wire_fail(wire, HTTP_WIRE_BAD_VALUE);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER_LF;
}

static void wire_trailer_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	if (cursor->data[cursor->at] != '\n')
		wire_fail(wire, HTTP_WIRE_BARE);
	wire_drop_trailer(wire, cursor, 1);
	wire->state = WIRE_TRAILER;
}

static void wire_body_lf(struct http_wire *wire, struct wire_cursor *cursor)
{
	wire_feed(wire, cursor, WIRE_BODY_LF);
	if (wire->fault == HTTP_WIRE_GOOD)
		wire_end_request(wire);
}

/* The loop */

void http_wire_init(struct http_wire *wire, size_t memory_bytes)
{
	*wire = (struct http_wire){ .state = WIRE_LINE };
	assert(memory_bytes > 2 * HTTP_WIRE_SPARE_BYTES);
	wire->memory_bytes = memory_bytes;
	wire->limit_bytes = memory_bytes - HTTP_WIRE_SPARE_BYTES;
}

void http_wire_pass_aside(struct http_wire *wire, size_t bytes)
{
	assert(bytes <= http_wire_aside_bytes(wire));
	wire->aside_bytes -= bytes;
}

size_t http_wire_read(struct http_wire *wire, char *data, size_t bytes)
{
	static void (*const steps[WIRE_COUNT])(struct http_wire * wire,
	                                       struct wire_cursor * cursor) = {
		[WIRE_LINE] = wire_line,
		[WIRE_LINE_LF] = wire_line_lf,
		[WIRE_METHOD] = wire_method,
		[WIRE_TARGET] = wire_target,
		[WIRE_VERSION] = wire_version,
		[WIRE_VERSION_LF] = wire_version_lf,
		[WIRE_FIELD] = wire_field,
		[WIRE_NAME] = wire_name,
		[WIRE_VALUE] = wire_value,
		[WIRE_VALUE_LF] = wire_value_lf,
		[WIRE_HEAD_LF] = wire_head_lf,
		[WIRE_BODY] = wire_body,
		[WIRE_SIZE] = wire_size,
		[WIRE_SIZE_SPACE] = wire_size_space,
		[WIRE_EXTENSION] = wire_extension,
		[WIRE_SIZE_LF] = wire_size_lf,
		[WIRE_CHUNK] = wire_chunk,
		[WIRE_CHUNK_CR] = wire_chunk_cr,
		[WIRE_CHUNK_LF] = wire_chunk_lf,
		[WIRE_TRAILER] = wire_trailer,
		[WIRE_TRAILER_NAME] = wire_trailer_name,
		[WIRE_TRAILER_VALUE] = wire_trailer_value,
		[WIRE_TRAILER_LF] = wire_trailer_lf,
		[WIRE_BODY_LF] = wire_body_lf,
		[WIRE_END] = wire_end,
	};
	struct wire_cursor cursor = { .data = data, .end = bytes };

	wire->holds_space = false;
	while (cursor.at < cursor.end && wire->fault == HTTP_WIRE_GOOD)
		steps[wire->state](wire, &cursor);
	return wire->fault == HTTP_WIRE_GOOD ? cursor.out : cursor.begin;
}
