/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/server/head.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* Lines end with a bar; so do the fields that are left of them. */
static const struct {
	const char *lines;
	unsigned int status;
	bool is_whole;
	const char *fields;
} rows[] = {
	{ "HTTP/1.1 200 OK|", 200, false, "" },
	{ "HTTP/1.1 200 OK||", 200, true, "" },
	{ "HTTP/1.0 404|A: b||", 404, true, "A=b|" },
	{ "HTTP/1.1 200 OK|A:  b \t|B:||", 200, true, "A=b|B=|" },
	{ "HTTP/1.1 200 OK|Set-Cookie: a|Set-Cookie: b||", 200, true,
	  "Set-Cookie=a|Set-Cookie=b|" },
	/* What is interim leaves nothing. */
	{ "HTTP/1.1 103 Early|Link: x||", 103, false, "Link=x|" },
	{ "HTTP/1.1 100 Continue||HTTP/1.1 201 Made|A: b||", 201, true, "A=b|" },
	/* A trailer is none of it. */
	{ "HTTP/1.1 200 OK|A: b||Late: c||", 200, true, "A=b|" },
	/* A field does not begin another head, whatever its name. */
	{ "HTTP/1.1 200 OK|A: b|HTTP/2: c|D: e||", 200, true, "A=b|HTTP/2=c|D=e|" },
	{ "HTTP/1.1 103 Early|HTTP/1.1 500: c||HTTP/1.1 200 OK|A: b||", 200, true,
	  "A=b|" },
	{ "HTTP/1.1 200 OK|A: b|  c|\td|E: f||", 200, true, "A=b c d|E=f|" },
	/* The connection's own, and what Connection names. */
	{ "HTTP/1.1 200 OK|connection: X-One, x-two|X-ONE: 1|X-Two: 2|X-Three: 3|"
	  "Keep-Alive: 5|Transfer-Encoding: chunked|Upgrade: h2|TE: x|Trailer: y||",
	  200, true, "X-Three=3|" },
};

static const struct {
	const char *lines;
	const char *reason;
} refusals[] = {
	{ "HTTP/1.1 200 OK|nonsense|", "'nonsense" },
	/* What libcurl takes for a status of 200. */
	{ "HTTP/x.1 304 Not Modified|", "is no status line" },
	{ "HTTP/2 200 OK|", "is no status line" },
	{ "HTTP/1.1 20|", "is no status line" },
	{ "HTTP/1.1 2000 OK|", "is no status line" },
	{ "A: b|", "is no status line" },
	{ "HTTP/1.1 101 Switching Protocols|", "another protocol" },
	{ "HTTP/1.1 103 Early||HTTP/1.1 101 Switching Protocols|", "another protocol" },
	{ "HTTP/1.1 200 OK| a|", "begins with a blank" },
};

/* Takes @lines up to the first that is refused. */
static int take(struct server_head *head, const char *lines, struct err *err)
{
	int r = 0;

	server_head_reset(head);
	while (*lines && r == 0) {
		size_t bytes = strcspn(lines, "|");
		char line[256];
		int n = snprintf(line, sizeof(line), "%.*s\r\n", (int)bytes, lines);

		r = server_head_take(head, line, (size_t)n, err);
		/* What is kept is no part of the line. */
		memset(line, 'x', sizeof(line));
		lines += bytes + 1;
	}
	return r;
}

static void test_heads(void **state)
{
	struct server_head *head = *state;

	for (size_t i = 0; i < COUNT(rows); i++) {
		char fields[512] = "";
		size_t used = 0;

		assert_int_equal(take(head, rows[i].lines, NULL), 0);
		assert_int_equal(head->status, rows[i].status);
		assert_int_equal(head->is_whole, rows[i].is_whole);
		server_head_drop_hops(head);
		for (size_t j = 0; j < head->n_fields; j++)
			used += (size_t)snprintf(fields + used, sizeof(fields) - used,
			                         "%.*s=%.*s|",
			                         (int)head->fields[j].name.bytes,
			                         head->fields[j].name.data,
			                         (int)head->fields[j].value.bytes,
			                         head->fields[j].value.data);
		assert_string_equal(fields, rows[i].fields);
	}
}

static void test_refusals(void **state)
{
	struct server_head *head = *state;

	for (size_t i = 0; i < COUNT(refusals); i++) {
		struct err err = ERR_NULL;

		assert_int_equal(take(head, refusals[i].lines, &err), -EBADMSG);
		assert_non_null(strstr(err.text, refusals[i].reason));
	}
}

static void test_length(void **state)
{
	struct server_head *head = *state;

	assert_int_equal(take(head, "HTTP/1.1 200 OK||", NULL), 0);
	assert_true(server_head_length(head) == UINT64_MAX);
	assert_int_equal(take(head, "HTTP/1.1 200 OK|content-length: 70000||", NULL), 0);
	assert_int_equal(server_head_length(head), 70000);
}

/* Neither too many fields nor too many bytes are kept. */
static void test_limits(void **state)
{
	struct server_head *head = *state;
	static char line[20000];
	struct err err = ERR_NULL;
	int n = 0;

	memset(line, 'a', sizeof(line));
	line[1] = ':';
	assert_int_equal(take(head, "HTTP/1.1 200 OK|", &err), 0);
	while (server_head_take(head, line, sizeof(line), &err) == 0)
		n++;
	assert_int_equal(n, SERVER_HEAD_BYTES_MAX / sizeof(line));
	assert_non_null(strstr(err.text, "more than"));
	assert_int_equal(take(head, "HTTP/1.1 200 OK|", &err), 0);
	for (n = 0; server_head_take(head, line, 4, &err) == 0;)
		n++;
	assert_int_equal(n, SERVER_HEAD_FIELDS_MAX);
	/* Nor by lines that go on with a field. */
	assert_int_equal(take(head, "HTTP/1.1 200 OK|", &err), 0);
	assert_int_equal(server_head_take(head, line, 10000, &err), 0);
	line[0] = ' ';
	while (server_head_take(head, line, 10000, &err) == 0)
		assert_true(head->bytes <= SERVER_HEAD_BYTES_MAX);
}

static int make(void **state)
{
	*state = malloc(sizeof(struct server_head));
	return *state ? 0 : -1;
}

static int drop(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, make, drop);
}
