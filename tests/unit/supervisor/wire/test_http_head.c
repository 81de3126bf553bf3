/* SPDX-License-Identifier: Apache-2.0 */

/* What a head asks for, what of it an engine gets, and why it is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/wire/head.h"

/* Without a model. */
static const char *no_model(const void *context, size_t index, const char **ret_prefixes)
{
	(void)context;
	(void)index;
	*ret_prefixes = "";
	return NULL;
}

static const struct http_hosting nothing = { no_model, NULL, false };

static const char *one_model(const void *context, size_t index, const char **ret_prefixes)
{
	*ret_prefixes = context;
	return index == 0 ? "m" : NULL;
}

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define HEADERS_MAX 3
#define INFER       "/v2/models/m/infer"

struct header {
	const char *name;
	const char *value;
};

static void read_headers(struct http_head *head, const struct header *headers)
{
	static char names[256];

	http_head_init(head, names, sizeof(names));
	for (size_t i = 0; i < HEADERS_MAX && headers[i].name; i++)
		(void)http_head_add(head, headers[i].name, strlen(headers[i].name),
		                    headers[i].value, strlen(headers[i].value));
}

static const struct {
	const char *method;
	const char *target;
	enum http_head_fault fault;
	const char *path;
	const char *allow;
	enum http_route_kind kind;
} lines[] = {
	{ "GET", "/v2", HTTP_HEAD_GOOD, "/v2", NULL, HTTP_ROUTE_SERVER },
	{ "HEAD", "/v2", HTTP_HEAD_GOOD, "/v2", NULL, HTTP_ROUTE_SERVER },
	{ "POST", INFER, HTTP_HEAD_GOOD, INFER, NULL, HTTP_ROUTE_INFER },
	{ "OPTIONS", "*", HTTP_HEAD_GOOD, "*", "GET, HEAD, POST, OPTIONS",
	  HTTP_ROUTE_SERVER },
	{ "GET", "*", HTTP_HEAD_BAD_TARGET, NULL, NULL, HTTP_ROUTE_NONE },
	{ "GET", "http://h", HTTP_HEAD_NOT_FOUND, "/", NULL, HTTP_ROUTE_NONE },
	{ "GET", "http://h?q", HTTP_HEAD_NOT_FOUND, "/", NULL, HTTP_ROUTE_NONE },
	{ "GET", "HTTP://h:1/v2", HTTP_HEAD_GOOD, "/v2", NULL, HTTP_ROUTE_SERVER },
	{ "GET", "https://h/v2", HTTP_HEAD_GOOD, "/v2", NULL, HTTP_ROUTE_SERVER },
	{ "GET", "http:///v2", HTTP_HEAD_BAD_TARGET, NULL, NULL, HTTP_ROUTE_NONE },
	{ "GET", "http://u@h/v2", HTTP_HEAD_BAD_TARGET, NULL, NULL, HTTP_ROUTE_NONE },
	{ "GET", "ftp://h/v2", HTTP_HEAD_BAD_TARGET, NULL, NULL, HTTP_ROUTE_NONE },
	{ "GET", "v2", HTTP_HEAD_BAD_TARGET, NULL, NULL, HTTP_ROUTE_NONE },
	{ "GET", "/v3", HTTP_HEAD_NOT_FOUND, "/v3", NULL, HTTP_ROUTE_NONE },
	{ "POST", "/v2", HTTP_HEAD_NOT_ALLOWED, "/v2", "GET, HEAD", HTTP_ROUTE_SERVER },
	{ "GET", INFER, HTTP_HEAD_NOT_ALLOWED, INFER, "POST", HTTP_ROUTE_INFER },
	{ "DELETE", INFER, HTTP_HEAD_NOT_ALLOWED, INFER, "POST", HTTP_ROUTE_INFER },
	{ "OPTIONS", "/v2", HTTP_HEAD_NOT_ALLOWED, "/v2", "GET, HEAD",
	  HTTP_ROUTE_SERVER },
	{ "BREW", "/v2", HTTP_HEAD_BAD_METHOD, NULL, NULL, HTTP_ROUTE_NONE },
	{ "get", "/v2", HTTP_HEAD_BAD_METHOD, NULL, NULL, HTTP_ROUTE_NONE },
	{ "CONNECT", "h:1", HTTP_HEAD_CONNECT, NULL, NULL, HTTP_ROUTE_NONE },
};

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		const struct header none[HEADERS_MAX] = { { NULL, NULL } };
		struct http_head head;
		enum http_head_fault fault;

		read_headers(&head, none);
		fault = http_head_read(&head, &nothing, lines[i].method, lines[i].target);
		if (fault != lines[i].fault)
			fail_msg("%s %s: fault %d, not %d", lines[i].method,
			         lines[i].target, (int)fault, (int)lines[i].fault);
		assert_int_equal(head.route.kind, lines[i].kind);
		if (lines[i].path)
			assert_string_equal(head.path, lines[i].path);
		assert_int_equal(!head.allow, !lines[i].allow);
		if (head.allow)
			assert_string_equal(head.allow, lines[i].allow);
	}
}

struct said {
	enum http_head_fault fault;
	bool is_chunked;
	bool has_continue;
	bool is_encoded;
	bool is_bad_timeout;
	uint64_t length_bytes;
	uint64_t json_bytes; /* 0: not said */
	uint64_t timeout_ms; /* 0: not said */
};

static const struct {
	struct header headers[HEADERS_MAX];
	const char *kept; /* as an engine gets it */
	struct said said;
} heads[] = {
	{ { { "Content-Length", "7" } }, "content-length=7 ", .said.length_bytes = 7 },
	{ { { "TRANSFER-encoding", "chunked" } }, "", .said.is_chunked = true },
	{ { { "Connection", "close" }, { "Keep-Alive", "x" }, { "TE", "x" } },
	  "",
	  .said.fault = HTTP_HEAD_GOOD },
	{ { { "Trailer", "x" }, { "Upgrade", "x" }, { "X-Te", "x" } },
	  "x-te=x ",
	  .said.fault = HTTP_HEAD_GOOD },
	{ { { "Expect", "100-Continue" } }, "", .said.has_continue = true },
	{ { { "Expect", "200-ok" } },
	  "",
	  .said = { HTTP_HEAD_BAD_EXPECT, .has_continue = true } },
	{ { { "Expect", "100-continue" }, { "Expect", "100-continue" } },
	  "",
	  .said = { HTTP_HEAD_BAD_EXPECT, .has_continue = true } },
	{ { { "Content-Encoding", "gzip" } },
	  "content-encoding=gzip ",
	  .said.is_encoded = true },
	{ { { "Content-Encoding", "Identity" } },
	  "content-encoding=Identity ",
	  .said.fault = HTTP_HEAD_GOOD },
	{ { { "Inference-Header-Content-Length", "9" } },
	  "inference-header-content-length=9 ",
	  .said.json_bytes = 9 },
	{ { { "Moult-Timeout-Ms", "250" } },
	  "moult-timeout-ms=250 ",
	  .said.timeout_ms = 250 },
	{ { { "Moult-Timeout-Ms", "86400000 \t" } },
	  "moult-timeout-ms=86400000 ",
	  .said.timeout_ms = 86400000 },
	{ { { "Moult-Timeout-Ms", "86400001" } },
	  "moult-timeout-ms=86400001 ",
	  .said.is_bad_timeout = true },
	{ { { "Moult-Timeout-Ms", "20" }, { "Moult-Timeout-Ms", "60000" } },
	  "moult-timeout-ms=20 moult-timeout-ms=60000 ",
	  .said.is_bad_timeout = true,
	  .said.timeout_ms = 20 },
	{ { { "moult-timeout-ms", "60000" }, { "Moult-Timeout-Ms", "60000" } },
	  "moult-timeout-ms=60000 moult-timeout-ms=60000 ",
	  .said.is_bad_timeout = true,
	  .said.timeout_ms = 60000 },
	{ { { "Moult-Timeout-Ms", "x" }, { "Moult-Timeout-Ms", "60000" } },
	  "moult-timeout-ms=x moult-timeout-ms=60000 ",
	  .said.is_bad_timeout = true },
	{ { { "Moult-Timeout-Ms", "0" } },
	  "moult-timeout-ms=0 ",
	  .said.is_bad_timeout = true },
	{ { { "Moult-Timeout-Ms", "1s" } },
	  "moult-timeout-ms=1s ",
	  .said.is_bad_timeout = true },
	{ { { "Moult-Timeout-Ms", "" } },
	  "moult-timeout-ms= ",
	  .said.is_bad_timeout = true },
	{ { { "Host", "a" }, { "X", " \t" } },
	  "host=a x= ",
	  .said.fault = HTTP_HEAD_GOOD },
};

static void print_kept(char *text, size_t size, const struct http_head *head)
{
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < head->n_fields && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%.*s=%.*s ",
		                      (int)head->fields[i].name.bytes,
		                      head->fields[i].name.data,
		                      (int)head->fields[i].value.bytes,
		                      head->fields[i].value.data);
}

static void test_headers(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(heads); i++) {
		const struct said *said = &heads[i].said;
		struct http_head head;
		char kept[256];

		read_headers(&head, heads[i].headers);
		assert_int_equal(http_head_read(&head, &nothing, "POST", INFER),
		                 said->fault);
		print_kept(kept, sizeof(kept), &head);
		assert_string_equal(kept, heads[i].kept);
		assert_int_equal(head.is_chunked, said->is_chunked);
		assert_int_equal(head.has_continue, said->has_continue);
		assert_int_equal(head.is_encoded, said->is_encoded);
		assert_int_equal(head.is_bad_timeout, said->is_bad_timeout);
		assert_int_equal(head.length_bytes, said->length_bytes);
		assert_int_equal(head.json_bytes,
		                 said->json_bytes ? said->json_bytes : UINT64_MAX);
		assert_int_equal(head.timeout_ns,
		                 said->timeout_ms ? said->timeout_ms * CLOCK_NS_PER_MS
		                                  : CLOCK_NEVER);
	}
}

static void test_absolute_host(void **state)
{
	const struct header headers[HEADERS_MAX] = { { "Host", "a" }, { "X", "a" } };
	struct http_head head;
	char kept[64];

	(void)state;
	read_headers(&head, headers);
	assert_int_equal(http_head_read(&head, &nothing, "GET", "http://b:1/v2"),
	                 HTTP_HEAD_GOOD);
	print_kept(kept, sizeof(kept), &head);
	assert_string_equal(kept, "host=b:1 x=a ");
}

/* An application's paths take methods of any name, and get nothing that any field Connection
 * names. */
static void test_hosted(void **state)
{
	static const struct http_hosting hosts = { one_model, "/app/", false };
	static const struct header headers[HEADERS_MAX] = { { "Connection", "a" },
		                                            { "Connection", "b, host" },
		                                            { "B", "1" } };
	struct http_head head;
	char kept[256];

	(void)state;
	read_headers(&head, headers);
	assert_true(http_head_add(&head, "A", 1, "1", 1));
	assert_true(http_head_add(&head, "Host", 4, "h", 1));
	assert_int_equal(http_head_read(&head, &hosts, "PROPFIND", "/app/"),
	                 HTTP_HEAD_GOOD);
	assert_int_equal(head.route.kind, HTTP_ROUTE_HOSTED);
	print_kept(kept, sizeof(kept), &head);
	assert_string_equal(kept, "host=h ");
	assert_int_equal(http_head_read(&head, &hosts, "PROPFIND", "/v2/models/m/infer"),
	                 HTTP_HEAD_BAD_METHOD);
	assert_null(head.allow);
	for (size_t i = 2; i < HTTP_CONNECTION_MAX; i++)
		assert_true(http_head_add(&head, "Connection", 10, "c", 1));
	assert_false(http_head_add(&head, "Connection", 10, "c", 1));
	assert_int_equal(http_head_read(&head, &hosts, "GET", "/app/"),
	                 HTTP_HEAD_TOO_MUCH);
}

/* As many headers as there is room for, and one more; names as long, and one byte more. */
static void test_room(void **state)
{
	struct http_head head;
	char names[PROTO_FIELDS_MAX];

	(void)state;
	http_head_init(&head, names, sizeof(names));
	for (size_t i = 0; i < PROTO_CLIENT_FIELDS_MAX; i++)
		assert_true(http_head_add(&head, "A", 1, NULL, 0));
	assert_int_equal(http_head_read(&head, &nothing, "GET", "/v2"), HTTP_HEAD_GOOD);
	assert_false(http_head_add(&head, "A", 1, NULL, 0));
	assert_int_equal(http_head_read(&head, &nothing, "GET", "/v2"),
	                 HTTP_HEAD_TOO_MUCH);

	http_head_init(&head, names, 3);
	assert_true(http_head_add(&head, "Abc", 3, "x", 1));
	http_head_init(&head, names, 3);
	assert_false(http_head_add(&head, "Abcd", 4, "x", 1));
	assert_int_equal(http_head_read(&head, &nothing, "GET", "/v2"),
	                 HTTP_HEAD_TOO_MUCH);
}

static void test_refusals(void **state)
{
	(void)state;
	for (unsigned int i = HTTP_HEAD_UNREAD; i < HTTP_HEAD_FAULT_COUNT; i++) {
		const struct http_head_refusal *refusal = http_head_refusal(i);

		assert_true(refusal->status >= 400);
		assert_true(refusal->text && strlen(refusal->text) > 8);
	}
}

static const char *host_all(const void *context, size_t index, const char **ret_prefixes)
{
	(void)context;
	*ret_prefixes = "/app/";
	return index == 0 ? "app" : NULL;
}

/* Of what is hosted: the protocol's own paths take no notice. */
static void test_websockets(void **state)
{
	static const struct {
		struct header headers[HEADERS_MAX];
		const char *method;
		const char *target;
		enum http_head_fault fault;
	} rows[] = {
		{ { { "Connection", "Upgrade" }, { "Upgrade", "websocket" } },
		  "GET",
		  "/app/x",
		  HTTP_HEAD_WEBSOCKET },
		{ { { "Upgrade", "h2c , WebSocket" } },
		  "GET",
		  "/app",
		  HTTP_HEAD_WEBSOCKET },
		{ { { "Sec-WebSocket-Key", "x" } }, "GET", "/app/", HTTP_HEAD_WEBSOCKET },
		{ { { "Upgrade", "websocket" } }, "POST", "/app/", HTTP_HEAD_GOOD },
		{ { { "Upgrade", "websockets, h2c" } }, "GET", "/app/", HTTP_HEAD_GOOD },
		{ { { "Upgrade", "h2c" } }, "GET", "/app/", HTTP_HEAD_GOOD },
		{ { { "Upgrade", "websocket" } }, "GET", "/v2", HTTP_HEAD_GOOD },
	};
	const struct http_hosting hosting = { .model = host_all };

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct http_head head;

		read_headers(&head, rows[i].headers);
		assert_int_equal(http_head_read(&head, &hosting, rows[i].method,
		                                rows[i].target),
		                 rows[i].fault);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),         cmocka_unit_test(test_headers),
		cmocka_unit_test(test_absolute_host), cmocka_unit_test(test_room),
		cmocka_unit_test(test_hosted),        cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_websockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
