/* SPDX-License-Identifier: Apache-2.0 */

/* The bytes that the strict reader leaves of requests, however they are cut;
 * tests/system/http_cases.py has those that it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/wire/wire.h"

#define MEMORY_BYTES 16384
#define DATA_MAX     4096

#define BLANKS_8  " \t \t\t   "
#define BLANKS_64 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8 BLANKS_8
#define BLANKS    BLANKS_64 BLANKS_64
#define LINE      "POST / HTTP/1.1\r\n"
#define HOST      "Host: x\r\n"

struct wire_case {
	const char *request;
	const char *left; /* white space at the ends of lines does not count */
};

static const struct wire_case rewritten[] = {
	{ "\r\n" LINE HOST "\r\n", LINE HOST "\r\n" },
	{ LINE HOST "a: b" BLANKS "\r\n\r\n", LINE HOST "a: b\r\n\r\n" },
	{ LINE HOST "a:" BLANKS "\r\n\r\n", LINE HOST "a:\r\n\r\n" },
	{ LINE HOST "a:" BLANKS "b\r\n\r\n", LINE HOST "a:" BLANKS "b\r\n\r\n" },
	/* White space may be within quotes. */
	{ LINE HOST "a: \"b" BLANKS "c\"\r\n\r\n",
	  LINE HOST "a: \"b" BLANKS "c\"\r\n\r\n" },
	{ LINE HOST "Cookie: a=b" BLANKS "\r\n\r\n", LINE HOST "Cookie: a=b\r\n\r\n" },
	{ LINE "Host:" BLANKS "x" BLANKS "\r\n\r\n", LINE "Host: x\r\n\r\n" },
	{ LINE HOST "Content-Length:" BLANKS "2" BLANKS "\r\n\r\nhi",
	  LINE HOST "Content-Length: 2\r\n\r\nhi" },
	{ LINE HOST "Expect:" BLANKS "100-continue" BLANKS "\r\n\r\n",
	  LINE HOST "Expect: 100-continue\r\n\r\n" },
	{ LINE HOST "Expect: a" BLANKS "b\r\n\r\n", LINE HOST "Expect: a b\r\n\r\n" },
	{ LINE HOST "Connection: a" BLANKS "," BLANKS "b" BLANKS "\r\n\r\n",
	  LINE HOST "Connection: a , b\r\n\r\n" },
	{ LINE HOST "Connection: clo" BLANKS "se\r\n\r\n" LINE HOST "\r\n",
	  LINE HOST "Connection: clo se\r\n\r\n" LINE HOST "\r\n" },
	{ LINE HOST "Transfer-Encoding:" BLANKS "chunked" BLANKS "\r\n\r\n"
	            "2;a=b\r\nhi\r\n0\r\nc: d\r\n\r\n",
	  LINE HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" },
	{ LINE HOST "Connection: close" BLANKS "\r\n\r\n" LINE HOST "\r\n",
	  LINE HOST "Connection: close\r\n\r\n" },
};

struct fault_case {
	const char *request;
	enum http_wire_fault fault;
	bool is_head;
};

static const struct fault_case faults[] = {
	{ LINE HOST "Content-Length: 1" BLANKS "0\r\n\r\n", HTTP_WIRE_BAD_LENGTH, false },
	{ LINE "Host: x" BLANKS "y\r\n\r\n", HTTP_WIRE_BAD_HOST, false },
	{ LINE HOST "Transfer-Encoding: gzip" BLANKS "\r\n\r\n", HTTP_WIRE_BAD_CODING,
	  false },
	{ LINE HOST "a: b" BLANKS "\x01", HTTP_WIRE_BAD_VALUE, false },
	{ "HEAD / HTTP/1.1\r\n\r\n", HTTP_WIRE_NO_HOST, true },
	{ "HEAD  / HTTP/1.1\r\n", HTTP_WIRE_BAD_TARGET, true },
	{ "HEAD / HTTP/2.0\r\n", HTTP_WIRE_OTHER_VERSION, true },
	{ "HEAD / HTTP/1.1\r\n" HOST "a\n", HTTP_WIRE_BAD_NAME, true },
	{ "HEAD / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nz",
	  HTTP_WIRE_BAD_CHUNK, true },
	/* The method is not known before the space behind it. */
	{ "HEAD\r\n", HTTP_WIRE_BAD_METHOD, false },
	{ "HEADS  / HTTP/1.1\r\n", HTTP_WIRE_BAD_TARGET, false },
	{ "head  / HTTP/1.1\r\n", HTTP_WIRE_BAD_TARGET, false },
	/* The request behind the first one is at fault. */
	{ "HEAD / HTTP/1.1\r\n" HOST "\r\n\n", HTTP_WIRE_BAD_METHOD, false },
	{ "HEAD / HTTP/1.1\r\n" HOST "\r\nGET  /", HTTP_WIRE_BAD_TARGET, false },
	{ "GET / HTTP/1.1\r\n" HOST "\r\nHEAD  /", HTTP_WIRE_BAD_TARGET, true },
};

/* Reads @request in pieces of @piece bytes, as recv() does. Returns the bytes in @ret. */
static size_t feed(struct http_wire *wire, const char *request, size_t piece, char *ret)
{
	char data[DATA_MAX + 1];
	size_t bytes = strlen(request);
	size_t n = 0;

	http_wire_init(wire, MEMORY_BYTES);
	for (size_t at = 0; at < bytes && wire->fault == HTTP_WIRE_GOOD;) {
		size_t held = wire->holds_space;
		size_t size = bytes - at < piece ? bytes - at : piece;

		data[0] = ' ';
		memcpy(data + held, request + at, size);
		size = http_wire_read(wire, data, held + size);
		memcpy(ret + n, data, size);
		n += size;
		at += piece;
	}
	return n;
}

/* Takes out white space before CR LF. */
static void strip(char *text)
{
	size_t n = 0;

	for (const char *c = text; *c; c++) {
		while (*c == '\r' && n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
			n--;
		text[n++] = *c;
	}
	text[n] = '\0';
}

static void what_is_left(void **state)
{
	char got[DATA_MAX];
	struct http_wire wire;

	(void)state;
	for (size_t i = 0; i < sizeof(rewritten) / sizeof(rewritten[0]); i++) {
		size_t bytes = strlen(rewritten[i].request);

		for (size_t piece = 1; piece <= bytes; piece++) {
			size_t n = feed(&wire, rewritten[i].request, piece, got);

			got[n] = '\0';
			strip(got);
			assert_int_equal(wire.fault, HTTP_WIRE_GOOD);
			assert_string_equal(got, rewritten[i].left);
			assert_true(n <= bytes);
		}
	}
}

static void what_is_at_fault(void **state)
{
	char got[DATA_MAX];
	struct http_wire wire;

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		for (size_t piece = 1; piece <= strlen(faults[i].request); piece++) {
			(void)feed(&wire, faults[i].request, piece, got);
			assert_int_equal(wire.fault, faults[i].fault);
			assert_int_equal(wire.is_head, faults[i].is_head);
		}
}

/* White space counts like the rest, and once. */
static void what_it_costs(void **state)
{
	static char request[MEMORY_BYTES + 1];
	static const char *const names[] = { "a: b", "Host: b", "Expect: b" };
	static char got[MEMORY_BYTES + 1];
	struct http_wire wire;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (size_t piece = 1; piece < 200; piece += 66) {
			size_t n = strlen(strcat(strcpy(request, LINE), names[i]));

			memset(request + n, ' ', sizeof(request) - 1 - n);
			strcpy(request + 14000, "\r\n\r\n");
			(void)feed(&wire, request, piece, got);
			assert_int_equal(wire.fault,
			                 i == 1 ? HTTP_WIRE_GOOD : HTTP_WIRE_NO_HOST);
			memset(request + 14000, ' ', sizeof(request) - 1 - 14000);
			(void)feed(&wire, request, piece, got);
			assert_int_equal(wire.fault, HTTP_WIRE_LONG_HEAD);
		}
}

/* A large body between two others, as a client sends it, and what becomes of it. */
struct exchange {
	char sent[4 * MEMORY_BYTES];
	size_t sent_bytes;
	char shown[4 * MEMORY_BYTES];
	size_t shown_bytes;
	char aside[4 * MEMORY_BYTES];
	size_t aside_bytes;
};

#define BEFORE "GET /a HTTP/1.1\r\n" HOST "\r\n"
#define BEHIND "GET /b HTTP/1.1\r\n" HOST "\r\n"

static void exchange_fill(struct exchange *exchange, size_t length)
{
	int n = snprintf(exchange->sent, sizeof(exchange->sent),
	                 BEFORE LINE HOST "Content-Length: %zu\r\n\r\n", length);

	for (size_t i = 0; i < length; i++)
		exchange->sent[n++] = (char)('0' + (i * 7 + i / 10) % 75);
	exchange->sent_bytes =
		(size_t)n + (size_t)snprintf(exchange->sent + n, 64, BEHIND);
	exchange->shown_bytes = exchange->aside_bytes = 0;
}

/* Reads as recv.c does: @first bytes, then @piece at a time. */
static void exchange_run(struct exchange *exchange, struct http_wire *wire, size_t first,
                         size_t piece)
{
	size_t at = 0;

	http_wire_init(wire, MEMORY_BYTES);
	while (at < exchange->sent_bytes) {
		size_t left = exchange->sent_bytes - at;
		size_t size = at == 0 ? first : piece;
		uint64_t aside = http_wire_aside_bytes(wire);

		assert_int_equal(http_wire_most(wire, 1) == 0, aside > 0);
		size = size < left ? size : left;
		if (aside > 0) {
			size = size < aside ? size : (size_t)aside;
			http_wire_pass_aside(wire, size);
			memcpy(exchange->aside + exchange->aside_bytes,
			       exchange->sent + at, size);
			exchange->aside_bytes += size;
			at += size;
			continue;
		}
		size = http_wire_most(wire, size);
		exchange->shown[exchange->shown_bytes] = ' ';
		memcpy(exchange->shown + exchange->shown_bytes + wire->holds_space,
		       exchange->sent + at, size);
		at += size;
		size = http_wire_read(wire, exchange->shown + exchange->shown_bytes,
		                      wire->holds_space + size);
		exchange->shown_bytes += size;
		exchange->shown[exchange->shown_bytes] = '\0';
	}
}

/* The library sees a request with a shorter body, and the body is whole all the same. */
static void what_goes_past(void **state)
{
	static const struct {
		size_t length;
		bool is_large;
	} cases[] = {
		{ MEMORY_BYTES, false },
		{ 3 * MEMORY_BYTES + 2, false },
		{ 3 * MEMORY_BYTES + 3, true },
		{ 3 * MEMORY_BYTES + 1000, true },
	};
	static const size_t pieces[] = { 1, 61, 4096, MEMORY_BYTES / 2 };
	static struct exchange exchange;
	struct http_wire wire;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t first = 1; first < 300; first++) {
			size_t piece = pieces[first % 4];
			const char *sent_body, *shown_body, *field;
			size_t length, body = cases[i].length;

			exchange_fill(&exchange, body);
			sent_body = strstr(strstr(exchange.sent, LINE), "\r\n\r\n") + 4;
			exchange_run(&exchange, &wire, first, piece);
			assert_int_equal(wire.fault, HTTP_WIRE_GOOD);
			assert_int_equal(wire.n_heads, 3);
			assert_int_equal(wire.n_ended, 3);
			field = strstr(exchange.shown, "Content-Length: ");
			length = strtoul(field + 16, NULL, 10);
			/* Digits that came in two reads stay as they are. */
			assert_true(length == body || cases[i].is_large);
			if (cases[i].is_large && first >= sizeof(BEFORE LINE HOST) + 23)
				assert_int_equal(length, MEMORY_BYTES);
			assert_int_equal(exchange.aside_bytes, body - length);
			shown_body = strstr(field, "\r\n\r\n") + 4;
			assert_string_equal(shown_body + length, BEHIND);
			assert_memory_equal(shown_body, sent_body, length - 1);
			assert_memory_equal(exchange.aside, sent_body + length - 1,
			                    exchange.aside_bytes);
			assert_int_equal(shown_body[length - 1], sent_body[body - 1]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left),
		cmocka_unit_test(what_is_at_fault),
		cmocka_unit_test(what_it_costs),
		cmocka_unit_test(what_goes_past),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
