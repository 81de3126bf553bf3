/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine python with ASGI applications, against a supervisor that the test plays.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/loader/hosted.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define FAULT       (HOSTED_WHOLE | PROTO_ANSWER_FAULT)
#define BROKEN      (PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN)

static void test_scope(void **state)
{
	static const char *const fields[] = { ":client: ::1 4711", "host: a.example:8080",
		                              "accept: x",         "accept: y",
		                              "a_b: kept",         "content-type: text/x",
		                              "content-length: 5", NULL };
	static const char *const wanted[] = {
		"type='http'\n",
		"asgi={'version': '3.0', 'spec_version': '2.3'}\n",
		"http_version='1.1'\n",
		"method='POST'\n",
		"scheme='http'\n",
		"path='/a b\xc3\xa4'\n",
		"raw_path=b'/a%20b%c3%a4'\n",
		"query_string=b'c=%20&d'\n",
		"root_path=''\n",
		"headers=[(b'host', b'a.example:8080'), (b'accept', b'x'), "
		"(b'accept', b'y'), (b'a_b', b'kept'), ",
		"client=('::1', 4711)\n",
		"server=['a.example', 8080]\n",
		"state={}\n",
		"body={'type': 'http.request', 'body': b'hello', 'more_body': False}\n",
	};
	static const char *const applications[] = { "events:application",
		                                    "events:factory", "events:factory()",
		                                    "events:Old" };

	(void)state;
	for (size_t i = 0; i < COUNT(applications); i++) {
		struct proto_answer answer;
		struct drive drive;
		char text[8192];

		hosted_start(&drive, "asgi", applications[i]);
		drive_ask(&drive, 1, "POST", "/a%20b%c3%a4?c=%20&d", fields, "hello", 5,
		          UINT64_MAX);
		answer = drive_answer(&drive);
		assert_int_equal(answer.status, 200);
		drive_header(&drive, &answer, "x-twice", text, sizeof(text));
		assert_string_equal(text, "b");
		assert_int_equal(hosted_read(&drive, answer, text, sizeof(text)),
		                 HOSTED_WHOLE);
		for (size_t k = 0; k < COUNT(wanted); k++)
			hosted_assert_has(text, wanted[k]);
		drive_quit(&drive);
	}
}

static void test_answers(void **state)
{
	static const struct hosted_row rows[] = {
		{ "/parts", 200, PROTO_ANSWER_FIRST, PROTO_ANSWER_LAST, "one,two,three" },
		{ "/import", 200, HOSTED_WHOLE, HOSTED_WHOLE, "was set" },
		{ "/after", 200, HOSTED_WHOLE, HOSTED_WHOLE, "whole" },
		{ "/task", 200, PROTO_ANSWER_FIRST, PROTO_ANSWER_LAST, "one,two,three" },
		{ "/broken", 200, PROTO_ANSWER_FIRST, BROKEN, "one," },
		{ "/incomplete", 200, PROTO_ANSWER_FIRST, BROKEN, "one," },
		{ "/short", 200, PROTO_ANSWER_FIRST, BROKEN, "1234" },
		{ "/long", 200, PROTO_ANSWER_FIRST, BROKEN, "12" },
		{ "/exact", 200, HOSTED_WHOLE, HOSTED_WHOLE, "1234" },
		{ "/own", 500, FAULT, FAULT, "my own words" },
		{ "/exit", 500, FAULT, FAULT, "sys.exit()" },
		{ "/raise", 500, FAULT, FAULT, "failed with KeyError" },
		{ "/never", 500, FAULT, FAULT, "failed with RuntimeError" },
		{ "/starts", 500, FAULT, FAULT, "failed with RuntimeError" },
		{ "/order", 500, FAULT, FAULT, "failed with RuntimeError" },
		{ "/twice", 500, FAULT, FAULT, "failed with RuntimeError" },
		{ "/unknown", 500, FAULT, FAULT, "failed with RuntimeError" },
		{ "/text", 500, FAULT, FAULT, "failed with TypeError" },
		{ "/header", 500, FAULT, FAULT, "failed with TypeError" },
		{ "/break", 500, FAULT, FAULT, "failed with ValueError" },
		{ "/name", 500, FAULT, FAULT, "failed with ValueError" },
		{ "/nostatus", 500, FAULT, FAULT, "failed with TypeError" },
		{ "/status", 500, FAULT, FAULT, "failed with ValueError" },
		{ "/seen", 200, HOSTED_WHOLE, HOSTED_WHOLE,
		  "\"after the end: send() got http.response.body after the answer was "
		  "complete" },
		{ "/seen", 200, HOSTED_WHOLE, HOSTED_WHOLE,
		  "\"http.disconnect\", \"exact: http.disconnect\"]" },
	};
	struct drive drive;

	(void)state;
	hosted_start(&drive, "asgi", "events:application");
	hosted_check_rows(&drive, rows, COUNT(rows));
	drive_quit(&drive);
}

/* An answer that is larger than the arena comes in pieces. While nobody reads these the loop
 * answers other requests. */
static void test_large(void **state)
{
	struct proto_answer parts[8];
	struct proto_answer answer;
	struct drive drive;
	size_t bytes = 0;

	(void)state;
	hosted_start(&drive, "asgi", "events:application");
	drive_ask(&drive, 1, "GET", "/large", NULL, NULL, 0, UINT64_MAX);
	for (size_t i = 0; i < COUNT(parts); i++) {
		parts[i] = drive_answer(&drive);
		assert_int_equal(parts[i].lease, 1);
		bytes += parts[i].body_bytes;
	}
	drive_ask(&drive, 2, "GET", "/raise", NULL, NULL, 0, UINT64_MAX);
	answer = drive_answer(&drive);
	assert_int_equal(answer.lease, 2);
	assert_int_equal(answer.status, 500);
	drive_release(&drive, &answer);
	for (size_t i = 0; i < COUNT(parts); i++)
		drive_release(&drive, &parts[i]);
	do {
		answer = drive_answer(&drive);
		bytes += answer.body_bytes;
		drive_release(&drive, &answer);
	} while (!(answer.flags & PROTO_ANSWER_LAST));
	assert_int_equal(bytes, 4000000);
	drive_quit(&drive);
}

/* Asks until what the applications have seen has @text. */
static void await_seen(struct drive *drive, const char *text)
{
	char seen[8192];

	do
		(void)hosted_read(drive, hosted_get(drive, "/seen"), seen, sizeof(seen));
	while (!strstr(seen, text));
}

/* A client that leaves: the application is told, and the request ends. */
static void test_leaving(void **state)
{
	static const struct {
		const char *target;
		const char *seen;
	} rows[] = {
		{ "/leave",
		  "[\"http.disconnect\", \"http.disconnect\", \"the client has left" },
		{ "/stream", "streamed until the client left" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		const uint64_t lease = 1000 + i;
		struct proto_answer answer;
		struct drive drive;

		hosted_start(&drive, "asgi", "events:application");
		drive_ask(&drive, lease, "GET", rows[i].target, NULL, NULL, 0,
		          UINT64_MAX);
		answer = drive_answer(&drive);
		assert_int_equal(HOSTED_FLAGS(answer), PROTO_ANSWER_FIRST);
		drive_cancel(&drive, lease);
		drive_flush(&drive);
		do {
			drive_release(&drive, &answer);
			answer = drive_answer(&drive);
		} while (!(answer.flags & PROTO_ANSWER_LAST));
		assert_int_equal(answer.lease, lease);
		drive_release(&drive, &answer);
		await_seen(&drive, rows[i].seen);
		drive_quit(&drive);
	}
}

static void test_refused(void **state)
{
	static const struct hosted_refusal rows[] = {
		{ "events", { "write MODULE:NAME", "asgi = events" }, PROTO_EXIT_CONFIG },
		{ "hello:application",
		  { "takes 2 arguments", "write wsgi in place of asgi" },
		  PROTO_EXIT_CONFIG },
		{ "hello:number", { "application of ASGI" }, PROTO_EXIT_CONFIG },
		{ "hello:makes_none", { "it made 'NoneType'" }, PROTO_EXIT_CONFIG },
		{ "hello:fails", { "OSError: no such luck" }, PROTO_EXIT_MODEL },
		{ "events:has_no_start",
		  { "startup failed: KeyError: 'no table'" },
		  PROTO_EXIT_MODEL },
		{ "events:has_no_network",
		  { "startup failed: ConnectionRefusedError: no database" },
		  PROTO_EXIT_INTERNAL },
		{ "events:has_no_reason", { "it gave no reason" }, PROTO_EXIT_MODEL },
		{ "events:exits_at_start", { "sys.exit(4)" }, PROTO_EXIT_MODEL },
	};

	(void)state;
	hosted_check_refusals("asgi", rows, COUNT(rows));
}

/* Only what says so has failed to start. */
static void test_lifespan(void **state)
{
	static const struct {
		const char *application;
		const char *state;
	} rows[] = {
		{ "events:lives", "{'n': 5}" },
		{ "events:raises_at_start", "{}" },
		{ "events:ends_at_start", "{}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct drive drive;
		char text[8192];

		hosted_start(&drive, "asgi", rows[i].application);
		(void)hosted_read(&drive, hosted_get(&drive, "/"), text, sizeof(text));
		assert_string_equal(text, rows[i].state);
		drive_quit(&drive);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scope),   cmocka_unit_test(test_answers),
		cmocka_unit_test(test_large),   cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_lifespan),
	};

	if (argc < 3) {
		(void)fprintf(stderr, "usage: test_asgi BUILD_DIR APPS [PYTHON]\n");
		return 2;
	}
	drive_build_dir = argv[1];
	hosted_apps = argv[2];
	drive_python = argc > 3 ? argv[3] : "/usr/bin/python3";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
