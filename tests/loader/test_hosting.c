/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real moult-loader with an engine that hosts routes, against a supervisor that the test
 * plays.
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

#define ARENA_BYTES ((size_t)1 << 20)
#define PIECE_BYTES (ARENA_BYTES / 8)
#define PARTS_MAX   8 /* of one answer, under way at once */
#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define N_REQUESTS  20000
#define IN_FLIGHT   64

#define FLAGS(answer) ((answer).flags & ~(PROTO_ANSWER_EXECUTION | PROTO_ANSWER_FAULT))
#define WHOLE         (PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST)

static void start(struct drive *drive, int threads)
{
	json_t *config = drive_config("fault", 1);

	assert_int_equal(json_object_set_new(config, "hosted", json_true()), 0);
	assert_int_equal(json_object_set_new(config, "threads", json_integer(threads)),
	                 0);
	drive_start(drive, ARENA_BYTES);
	drive->is_hosted = true;
	drive_ready(drive, config);
}

static void get(struct drive *drive, uint64_t lease, const char *const *fields)
{
	drive_ask(drive, lease, "GET", "/", fields, NULL, 0, UINT64_MAX);
}

static void assert_body(const struct drive *drive, const struct proto_answer *answer,
                        const char *text)
{
	assert_int_equal(answer->body_bytes, strlen(text));
	assert_memory_equal(drive_body(drive, answer), text, strlen(text));
}

static void assert_has(const struct drive *drive, const struct proto_answer *answer,
                       const char *text)
{
	if (!memmem(drive_body(drive, answer), answer->body_bytes, text, strlen(text)))
		fail_msg("no '%s' in '%.*s'", text, (int)answer->body_bytes,
		         (const char *)drive_body(drive, answer));
}

/* The engine gets a request as it was sent, and its answer goes out as it was given. */
static void test_as_sent(void **state)
{
	static const char *const fields[] = { "host: a.example",
		                              "cookie: a=1",
		                              "cookie: b=2",
		                              "x-status: 418",
		                              "x-field: Set-Cookie: c=3",
		                              "x-field: X-Odd:",
		                              NULL };
	struct proto_answer answer;
	struct drive drive;
	char text[64];

	(void)state;
	start(&drive, 1);
	drive_ask(&drive, 1, "PATCH", "/a%2fb?c=%20&d", fields, "\0body", 5, UINT64_MAX);
	answer = drive_answer(&drive);
	assert_int_equal(answer.lease, 1);
	assert_int_equal(answer.status, 418);
	assert_int_equal(answer.flags, WHOLE | PROTO_ANSWER_EXECUTION);
	assert_has(&drive, &answer,
	           "PATCH /a%2fb?c=%20&d\nhost: a.example\ncookie: a=1\ncookie: b=2\n");
	assert_memory_equal(drive_body(&drive, &answer) + answer.body_bytes - 7,
	                    "\n\n\0body", 7);
	drive_header(&drive, &answer, "Set-Cookie", text, sizeof(text));
	assert_string_equal(text, "c=3");
	drive_header(&drive, &answer, "Content-Length", text, sizeof(text));
	assert_string_equal(text, "");
	assert_int_equal(answer.rows, 1);
	assert_true(answer.queue_ns + answer.compute_ns > 0);
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

static void test_parts(void **state)
{
	static const char *const fields[] = { "x-body: 10", "x-parts: 3", NULL };
	static const int flags[] = { PROTO_ANSWER_FIRST, 0, PROTO_ANSWER_LAST };
	struct drive drive;

	(void)state;
	start(&drive, 1);
	get(&drive, 1, fields);
	for (size_t i = 0; i < COUNT(flags); i++) {
		struct proto_answer answer = drive_answer(&drive);

		assert_int_equal(FLAGS(answer), flags[i]);
		assert_int_equal(answer.status, i == 0 ? 200 : 0);
		assert_body(&drive, &answer, "bbbbbbbbbb");
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

/* A body larger than the arena comes in pieces, and its length is known. */
static void test_cut(void **state)
{
	static const char *const fields[] = { "x-body: 3000000", NULL };
	struct drive drive;
	uint64_t bytes = 0;
	uint16_t flags = 0;
	char text[64];

	(void)state;
	start(&drive, 1);
	get(&drive, 1, fields);
	while (!(flags & PROTO_ANSWER_LAST)) {
		struct proto_answer answer = drive_answer(&drive);

		assert_int_equal((answer.flags & PROTO_ANSWER_FIRST) != 0, bytes == 0);
		if (bytes == 0) {
			drive_header(&drive, &answer, "Content-Length", text,
			             sizeof(text));
			assert_string_equal(text, "3000000");
		}
		assert_true(answer.body_bytes <= PIECE_BYTES);
		flags = answer.flags;
		bytes += answer.body_bytes;
		drive_release(&drive, &answer);
	}
	assert_int_equal(bytes, 3000000);
	drive_quit(&drive);
}

/* A stream that nobody reads takes no more than its share, and others are answered. */
static void test_back_pressure(void **state)
{
	static const char *const stream[] = { "x-body: 10", "x-parts: 100", NULL };
	struct proto_answer parts[PARTS_MAX];
	struct proto_answer answer;
	struct drive drive;

	(void)state;
	start(&drive, 2);
	get(&drive, 1, stream);
	for (size_t i = 0; i < PARTS_MAX; i++)
		parts[i] = drive_answer(&drive);
	for (uint64_t lease = 2; lease < 50; lease++) {
		get(&drive, lease, NULL);
		answer = drive_answer(&drive);
		assert_int_equal(answer.lease, lease);
		drive_release(&drive, &answer);
	}
	for (size_t i = 0; i < PARTS_MAX; i++)
		drive_release(&drive, &parts[i]);
	for (size_t i = PARTS_MAX; i < 100; i++) {
		answer = drive_answer(&drive);
		assert_int_equal(answer.lease, 1);
		assert_int_equal(FLAGS(answer), i == 99 ? PROTO_ANSWER_LAST : 0);
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

/* Who waits is ended at once; a thread that has a request learns that nobody waits. */
static void test_cancel(void **state)
{
	static const char *const fields[] = { "x-until: /nonexistent", NULL };
	struct proto_answer answer;
	struct drive drive;

	(void)state;
	start(&drive, 1);
	get(&drive, 1, fields);
	get(&drive, 2, NULL);
	get(&drive, 3, NULL);
	drive_cancel(&drive, 2);
	answer = drive_answer(&drive);
	assert_int_equal(answer.lease, 2);
	assert_int_equal(answer.status, 499);
	drive_release(&drive, &answer);
	drive_cancel(&drive, 1);
	answer = drive_answer(&drive);
	assert_int_equal(answer.lease, 1);
	assert_int_equal(answer.status, 499);
	assert_int_equal(FLAGS(answer), WHOLE);
	drive_release(&drive, &answer);
	answer = drive_answer(&drive);
	assert_int_equal(answer.lease, 3);
	assert_int_equal(answer.status, 200);
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

/* A cancellation amid an answer ends it with nothing more than the end. */
static void test_cancel_amid(void **state)
{
	static const char *const fields[] = { "x-parts: 2", "x-between: /nonexistent",
		                              NULL };
	struct proto_answer answer;
	struct drive drive;

	(void)state;
	start(&drive, 1);
	get(&drive, 1, fields);
	answer = drive_answer(&drive);
	assert_int_equal(FLAGS(answer), PROTO_ANSWER_FIRST);
	drive_release(&drive, &answer);
	drive_cancel(&drive, 1);
	answer = drive_answer(&drive);
	assert_int_equal(FLAGS(answer), PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN);
	assert_int_equal(answer.body_bytes, 0);
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

static void test_late(void **state)
{
	struct proto_answer answer;
	struct drive drive;

	(void)state;
	start(&drive, 1);
	drive_ask(&drive, 1, "GET", "/", NULL, NULL, 0, clock_now_ns());
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 504);
	assert_has(&drive, &answer, "deadline");
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

static void test_faults(void **state)
{
	static const char *const fault[] = { "x-action: fault", "x-status: 503", NULL };
	static const char *const broken[] = { "x-action: broken", NULL };
	struct proto_answer answer;
	struct drive drive;

	(void)state;
	start(&drive, 1);
	get(&drive, 1, fault);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 503);
	assert_true(answer.flags & PROTO_ANSWER_FAULT);
	drive_release(&drive, &answer);
	get(&drive, 2, broken);
	answer = drive_answer(&drive);
	assert_int_equal(FLAGS(answer), PROTO_ANSWER_FIRST);
	drive_release(&drive, &answer);
	answer = drive_answer(&drive);
	assert_int_equal(FLAGS(answer), PROTO_ANSWER_LAST | PROTO_ANSWER_BROKEN);
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

/* What cannot be sent is refused with a sentence, and the engine may answer otherwise. */
static void test_invalid(void **state)
{
	static const struct {
		const char *field;
		const char *text;
	} rows[] = {
		{ "x-status: 199", "from 200 to 599: 199 is none" },
		{ "x-status: 600", "from 200 to 599: 600 is none" },
		{ "x-field: Bad Name: x", "'Bad Name' is no name" },
		{ "x-field: : x", "'' is no name" },
		{ "x-field: A: b\r\nC: d", "'A' has a line break" },
		{ "x-field: A: b\nC: d", "'A' has a line break" },
		{ "x-field: A: \x7f", "control character" },
	};
	struct drive drive;

	(void)state;
	start(&drive, 1);
	for (size_t i = 0; i < COUNT(rows); i++) {
		const char *const fields[] = { rows[i].field, NULL };
		struct proto_answer answer;

		get(&drive, i + 1, fields);
		answer = drive_answer(&drive);
		assert_int_equal(answer.status, 500);
		assert_has(&drive, &answer, rows[i].text);
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

/* The process ends, and what it had is the supervisor's again. */
static void test_fail(void **state)
{
	static const char *const fields[] = { "x-action: fail", NULL };
	struct drive drive;

	(void)state;
	start(&drive, 2);
	get(&drive, 1, fields);
	drive_flush(&drive);
	drive_end(&drive, PROTO_EXIT_DEVICE);
}

static void test_refused(void **state)
{
	json_t *config = drive_config("identity", 1);
	struct drive drive;
	json_t *payload;

	(void)state;
	assert_int_equal(json_object_set_new(config, "hosted", json_true()), 0);
	drive_start(&drive, ARENA_BYTES);
	payload = drive_refused(&drive, config, NULL);
	assert_non_null(strstr(json_string_value(json_object_get(payload, "reason")),
	                       "engine 'identity' computes, and hosts no routes"));
	json_decref(payload);
	drive_end(&drive, PROTO_EXIT_CONFIG);

	config = drive_config("fault", 1);
	assert_int_equal(json_object_set_new(config, "working_directory",
	                                     json_string("/nonexistent")),
	                 0);
	drive_start(&drive, ARENA_BYTES);
	payload = drive_refused(&drive, config, NULL);
	assert_non_null(strstr(json_string_value(json_object_get(payload, "reason")),
	                       "working_directory '/nonexistent' cannot be entered"));
	json_decref(payload);
	drive_end(&drive, PROTO_EXIT_CONFIG);
}

/* Several threads, and each request is answered once. */
static void test_crowd(void **state)
{
	uint64_t start_ns;
	uint64_t lease = 0;
	uint64_t n_done = 0;
	uint64_t sum = 0;
	struct drive drive;

	(void)state;
	start(&drive, 4);
	start_ns = clock_now_ns();
	while (lease < IN_FLIGHT)
		get(&drive, ++lease, NULL);
	while (n_done < N_REQUESTS) {
		struct proto_answer answer = drive_answer(&drive);

		do {
			assert_int_equal(answer.status, 200);
			assert_int_equal(FLAGS(answer), WHOLE);
			sum += answer.lease;
			drive_release(&drive, &answer);
			n_done++;
			if (lease < N_REQUESTS)
				get(&drive, ++lease, NULL);
		} while (drive_poll(&drive, &answer));
	}
	assert_int_equal(sum, (uint64_t)N_REQUESTS * (N_REQUESTS + 1) / 2);
	print_message("%d hosted requests, %d in flight, 4 threads: %.2f us each\n",
	              N_REQUESTS, IN_FLIGHT,
	              (double)(clock_now_ns() - start_ns) / 1e3 / N_REQUESTS);
	drive_quit(&drive);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_sent), cmocka_unit_test(test_parts),
		cmocka_unit_test(test_cut),     cmocka_unit_test(test_back_pressure),
		cmocka_unit_test(test_cancel),  cmocka_unit_test(test_cancel_amid),
		cmocka_unit_test(test_late),    cmocka_unit_test(test_faults),
		cmocka_unit_test(test_invalid), cmocka_unit_test(test_fail),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_crowd),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_hosting BUILD_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
