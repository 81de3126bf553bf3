/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine python: moult-loader becomes an interpreter, which serves an application of
 * tests/loader/apps, against a supervisor that the test plays.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "tests/loader/drive.h"
#include "tests/loader/hosted.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static void start(struct drive *drive, const char *application)
{
	hosted_start(drive, "wsgi", application);
}

static void test_environ(void **state)
{
	static const char *const fields[] = { ":client: 10.0.0.1 4711",
		                              "host: a.example:8080",
		                              "cookie: a=1",
		                              "cookie: b=2",
		                              "accept: x",
		                              "accept: y",
		                              "a_b: dropped",
		                              "proxy: dropped",
		                              "content-type: text/x",
		                              "content-length: 5",
		                              NULL };
	static const char *const secrets[] = { "TOKEN=sesame", NULL };
	static const char *const wanted[] = {
		"REQUEST_METHOD=POST\n",
		"SCRIPT_NAME=\n",
		"PATH_INFO=/a b\xc3\xa4\n",
		"QUERY_STRING=c=%20&d\n",
		"REMOTE_ADDR=10.0.0.1\n",
		"REMOTE_PORT=4711\n",
		"SERVER_NAME=a.example\n",
		"SERVER_PORT=8080\n",
		"SERVER_PROTOCOL=HTTP/1.1\n",
		"HTTP_COOKIE=a=1; b=2\n",
		"HTTP_ACCEPT=x,y\n",
		"CONTENT_TYPE=text/x\n",
		"CONTENT_LENGTH=5\n",
		"wsgi.multithread=False\n",
		"wsgi.multiprocess=False\n",
		"wsgi.url_scheme=http\n",
		"secret=sesame\n",
		"env=sesame\n",
		"body=hello\n",
	};
	json_t *load = hosted_config("wsgi", "hello:validated");
	struct proto_answer answer;
	struct drive drive;
	char text[8192];

	(void)state;
	assert_int_equal(json_object_set_new(json_object_get(load, "options"),
	                                     "secrets_env", json_string("TOKEN")),
	                 0);
	drive_start(&drive, HOSTED_ARENA_BYTES);
	drive.is_hosted = true;
	drive_load(&drive, load, secrets);
	json_decref(drive_expect(&drive, PROTO_STAGED));
	drive_send(&drive, PROTO_COMMIT);
	json_decref(drive_expect(&drive, PROTO_COMMITTED));
	json_decref(drive_expect(&drive, PROTO_READY));
	drive_ask(&drive, 1, "POST", "/a%20b%c3%a4?c=%20&d", fields, "hello", 5,
	          UINT64_MAX);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 200);
	drive_header(&drive, &answer, "X-Twice", text, sizeof(text));
	assert_string_equal(text, "b");
	(void)hosted_read(&drive, answer, text, sizeof(text));
	for (size_t i = 0; i < COUNT(wanted); i++)
		hosted_assert_has(text, wanted[i]);
	assert_null(strstr(text, "dropped"));
	drive_quit(&drive);
}

static void test_answers(void **state)
{
	static const struct hosted_row rows[] = {
		{ "/parts", 200, PROTO_ANSWER_FIRST, PROTO_ANSWER_LAST, "one,two,three" },
		{ "/broken", 200, PROTO_ANSWER_FIRST,
		  PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN, "one,two," },
		{ "/write", 200, PROTO_ANSWER_FIRST, PROTO_ANSWER_LAST,
		  "written,returned" },
		{ "/closed", 200, HOSTED_WHOLE, HOSTED_WHOLE, "[False, True]" },
		{ "/late", 503, HOSTED_WHOLE, HOSTED_WHOLE, "late" },
		{ "/own", 500, HOSTED_WHOLE | PROTO_ANSWER_FAULT,
		  HOSTED_WHOLE | PROTO_ANSWER_FAULT, "my own words" },
		{ "/exit", 500, HOSTED_WHOLE | PROTO_ANSWER_FAULT,
		  HOSTED_WHOLE | PROTO_ANSWER_FAULT, "sys.exit()" },
		{ "/raise", 500, HOSTED_WHOLE | PROTO_ANSWER_FAULT,
		  HOSTED_WHOLE | PROTO_ANSWER_FAULT, "failed with KeyError" },
		{ "/never", 500, HOSTED_WHOLE | PROTO_ANSWER_FAULT,
		  HOSTED_WHOLE | PROTO_ANSWER_FAULT, "failed with AssertionError" },
		{ "/text", 500, HOSTED_WHOLE | PROTO_ANSWER_FAULT,
		  HOSTED_WHOLE | PROTO_ANSWER_FAULT, "failed with TypeError" },
		{ "/short", 200, PROTO_ANSWER_FIRST,
		  PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN, "12345" },
		{ "/fork", 200, HOSTED_WHOLE, HOSTED_WHOLE, "0" },
		{ "/main", 200, HOSTED_WHOLE, HOSTED_WHOLE, "python/main.py" },
		{ "/spawn", 200, HOSTED_WHOLE, HOSTED_WHOLE, "spawned 4" },
	};
	struct drive drive;

	(void)state;
	start(&drive, "hello:factory");
	hosted_check_rows(&drive, rows, COUNT(rows));
	drive_quit(&drive);
}

/* Each way to name no application is refused with a sentence. */
static void test_refused(void **state)
{
	static const struct hosted_refusal rows[] = {
		{ "hello", { "write MODULE:NAME" }, PROTO_EXIT_CONFIG },
		{ "none:app",
		  { "there is no module 'none'", "working_directory" },
		  PROTO_EXIT_CONFIG },
		{ "hello:none",
		  { "module 'hello' has no 'none'", "factory" },
		  PROTO_EXIT_CONFIG },
		{ "none.py:app", { "there is no file", "none.py" }, PROTO_EXIT_CONFIG },
		{ "imports:app",
		  { "No module named 'no_such_package'", "install" },
		  PROTO_EXIT_MODEL },
		{ "syntax:app", { "SyntaxError", "syntax.py:2" }, PROTO_EXIT_MODEL },
		{ "leaves:app",
		  { "sys.exit('server over')", "at import" },
		  PROTO_EXIT_MODEL },
		{ "hello:number",
		  { "'int' and cannot be called", "an application of WSGI" },
		  PROTO_EXIT_CONFIG },
		{ "hello:takes_one", { "takes neither 2 arguments" }, PROTO_EXIT_CONFIG },
		{ "events:application",
		  { "takes 3 arguments", "write asgi in place of wsgi" },
		  PROTO_EXIT_CONFIG },
		{ "hello:makes_none", { "it made 'NoneType'" }, PROTO_EXIT_CONFIG },
		{ "hello:fails",
		  { "OSError: no such luck", "hello.py:" },
		  PROTO_EXIT_MODEL },
		{ "hello:exits()", { "sys.exit('no')" }, PROTO_EXIT_MODEL },
	};

	(void)state;
	hosted_check_refusals("wsgi", rows, COUNT(rows));
}

/* Programs that are no interpreter. */
static void test_no_python(void **state)
{
	static const struct {
		const char *python;
		const char *text;
	} rows[] = {
		{ "/nonexistent/python", "No such file or directory" },
		{ "/etc/passwd", "Permission denied" },
	};
	const char *python = drive_python;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct drive drive;
		json_t *payload;
		const char *reason;

		drive_python = rows[i].python;
		drive_launch(&drive, HOSTED_ARENA_BYTES);
		payload = drive_expect(&drive, PROTO_REFUSED);
		reason = json_string_value(json_object_get(payload, "reason"));
		hosted_assert_has(reason, rows[i].python);
		hosted_assert_has(reason, rows[i].text);
		json_decref(payload);
		drive_end(&drive, PROTO_EXIT_CONFIG);
	}
	drive_python = python;
}

/* Without an interpreter the engine is refused. */
static void test_no_interpreter(void **state)
{
	const char *python = drive_python;
	struct drive drive;
	json_t *payload;

	(void)state;
	drive_python = NULL;
	drive_start(&drive, HOSTED_ARENA_BYTES);
	payload = drive_refused(&drive, hosted_config("wsgi", "hello:application"), NULL);
	hosted_assert_has(json_string_value(json_object_get(payload, "reason")),
	                  "lives inside an interpreter");
	json_decref(payload);
	drive_end(&drive, PROTO_EXIT_CONFIG);
	drive_python = python;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_environ),        cmocka_unit_test(test_answers),
		cmocka_unit_test(test_refused),        cmocka_unit_test(test_no_python),
		cmocka_unit_test(test_no_interpreter),
	};

	if (argc < 3) {
		(void)fprintf(stderr, "usage: test_python BUILD_DIR APPS [PYTHON]\n");
		return 2;
	}
	drive_build_dir = argv[1];
	hosted_apps = argv[2];
	drive_python = argc > 3 ? argv[3] : "/usr/bin/python3";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
