/* SPDX-License-Identifier: Apache-2.0 */

/* The bytes that the strict reader leaves of requests, however they are cut;
 * tests/system/http_cases.py has those that it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left),
		cmocka_unit_test(what_is_at_fault),
		cmocka_unit_test(what_it_costs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
