/* SPDX-License-Identifier: Apache-2.0 */

/* What becomes of requests to the real moult-loader: answers, errors, batches, times, and room that
 * is short. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "tests/loader/tensors.h"

#define ROUND_TRIPS 20000
#define IN_FLIGHT   64

static void test_echo(void **state)
{
	struct drive drive;
	struct proto_answer answer;
	char text[64];

	(void)state;
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	drive_submit(&drive, 1, tensors_one_to_four, strlen(tensors_one_to_four), -1);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.lease, 1);
	drive_header(&drive, &answer, "content-type", text, sizeof(text));
	assert_string_equal(text, "application/json");
	tensors_assert_has(&drive, &answer, "\"id\":\"abc\"");
	tensors_assert_has(&drive, &answer, "\"generation\":7");
	tensors_assert_has(&drive, &answer, "[1,4]");
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

static void test_errors(void **state)
{
	static const struct {
		const char *body;
		int status;
		const char *text;
	} rows[] = {
		{ "", 400, "error" },
		{ "{", 400, "error" },
		{ "{\"inputs\":[]}", 400, "error" },
		{ "{\"inputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,4],"
		  "\"data\":[1,2,3,4]}]}",
		  400, "y" },
		{ "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,3],"
		  "\"data\":[1,2,3]}]}",
		  400, "[1,3]" },
	};
	struct drive drive;

	(void)state;
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct proto_answer answer;

		drive_submit(&drive, i + 1, rows[i].body, strlen(rows[i].body), -1);
		answer = drive_answer(&drive);
		assert_int_equal(answer.status, rows[i].status);
		tensors_assert_has(&drive, &answer, rows[i].text);
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

static void test_cancel_and_deadline(void **state)
{
	struct proto_submit late = {
		.lease = 3,
		.generation = DRIVE_GENERATION,
		.kind = PROTO_SUBMIT_REQUEST,
		.deadline_ns = 1,
	};
	const int want[] = { [1] = 200, [2] = 499, [3] = 504 };
	struct drive drive;

	(void)state;
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	/* The loader sleeps, and finds all of these when the bell rings. */
	drive_submit(&drive, 1, tensors_one_to_four, strlen(tensors_one_to_four), -1);
	drive_submit(&drive, 2, tensors_one_to_four, strlen(tensors_one_to_four), -1);
	drive_submit_raw(&drive, &late);
	drive_cancel(&drive, 2);
	drive_cancel(&drive, 99); /* long gone: ignored */
	for (int i = 0; i < 3; i++) {
		struct proto_answer answer = drive_answer(&drive);

		assert_in_range(answer.lease, 1, 3);
		assert_int_equal(answer.status, want[answer.lease]);
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

/* In a batch of five one request makes the engine fail: only that one gets an error. */
static void test_batch_culprit(void **state)
{
	json_t *config = drive_config("fault", 2);
	struct drive drive;

	(void)state;
	tensors_set_number(config, "max_batch", 8);
	tensors_set_option(config, "magic", "13");
	tensors_set_option(config, "magic_fault", "fail");
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, config);
	for (unsigned int i = 0; i < 5; i++) {
		char body[256];

		drive_submit(&drive, i + 1, body, tensors_make_row(body, (float)(11 + i)),
		             -1);
	}
	for (unsigned int i = 0; i < 5; i++) {
		struct proto_answer answer = drive_answer(&drive);
		char data[32];

		(void)snprintf(data, sizeof(data), "[%d", (int)(10 + answer.lease));
		assert_int_equal(answer.status, answer.lease == 3 ? 500 : 200);
		tensors_assert_has(&drive, &answer, answer.lease == 3 ? "failed" : data);
		/* Each member was computed alone then; a failure is no execution. */
		assert_int_equal(answer.flags & PROTO_ANSWER_EXECUTION,
		                 answer.lease == 3 ? 0 : PROTO_ANSWER_EXECUTION);
		assert_int_equal(answer.rows, answer.lease != 3);
		assert_int_equal(answer.batch_rows, answer.lease != 3);
		drive_release(&drive, &answer);
	}
	drive_quit(&drive);
}

/* The times that the supervisor gets of requests that were computed in one go. */
static void test_times(void **state)
{
	static const char *const bodies[] = {
		"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
		"\"shape\":[1,2],\"data\":[1,2]}]}",
		"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
		"\"shape\":[3,2],\"data\":[1,2,3,4,5,6]}]}",
		"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
		"\"shape\":[2,2],\"data\":[1,2,3,4]}]}",
	};
	const unsigned int rows[] = { 1, 3, 2 };
	json_t *config = drive_config("identity", 2);
	uint64_t accepted_ns = clock_now_ns();
	unsigned int n_executions = 0;
	struct drive drive;

	(void)state;
	tensors_set_number(config, "max_batch", 8);
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, config);
	for (unsigned int i = 0; i < 3; i++)
		drive_submit(&drive, i + 1, bodies[i], strlen(bodies[i]), -1);
	for (unsigned int i = 0; i < 3; i++) {
		struct proto_answer answer = drive_answer(&drive);
		uint64_t took_ns = clock_now_ns() - accepted_ns;

		assert_int_equal(answer.status, 200);
		assert_int_equal(answer.rows, rows[answer.lease - 1]);
		assert_int_equal(answer.batch_rows, 6);
		n_executions += (answer.flags & PROTO_ANSWER_EXECUTION) != 0;
		assert_true(answer.queue_ns > 0 && answer.decode_ns > 0 &&
		            answer.encode_ns > 0);
		assert_true(answer.queue_ns + answer.decode_ns + answer.gather_ns +
		                    answer.compute_ns + answer.encode_ns <=
		            took_ns);
		drive_release(&drive, &answer);
	}
	assert_int_equal(n_executions, 1);
	drive_quit(&drive);
}

/* Nobody fetches the answers: the loader waits for room and loses nothing. */
static void test_arena_full(void **state)
{
	struct proto_answer answers[16];
	struct drive drive;
	unsigned int n = 0;

	(void)state;
	drive_start(&drive, 65536);
	drive_ready(&drive, drive_config("identity", 4));
	for (unsigned int i = 0; i < 64; i++)
		drive_submit(&drive, i + 1, tensors_one_to_four,
		             strlen(tensors_one_to_four), -1);
	while (n < 64) {
		unsigned int n_held = 0;

		while (n_held < 16 && n < 64) {
			answers[n_held] = drive_answer(&drive);
			assert_int_equal(answers[n_held].status, 200);
			assert_int_equal(answers[n_held].lease, ++n);
			n_held++;
		}
		assert_false(drive_poll(&drive, &answers[0]) && n < 64);
		while (n_held > 0)
			drive_release(&drive, &answers[--n_held]);
	}
	drive_quit(&drive);
}

static void test_answer_too_large(void **state)
{
	json_t *config = drive_config("identity", 4096);
	struct proto_answer answer;
	struct drive drive;
	char body[32768];
	int json_bytes;

	(void)state;
	tensors_set_number(config, "warmup_runs", 0);
	drive_start(&drive, 8192);
	drive_ready(&drive, config);
	memset(body, 0, sizeof(body));
	json_bytes = snprintf(body, sizeof(body),
	                      "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	                      "\"shape\":[1,4096],\"parameters\":"
	                      "{\"binary_data_size\":16384}}]}");
	drive_submit(&drive, 1, body, (size_t)json_bytes + 16384, json_bytes);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 500);
	tensors_assert_has(&drive, &answer, "response_arena");
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

/* Sends binary requests of 1 KiB, many in flight; prints the cost of one. */
static void test_round_trips(void **state)
{
	json_t *config = drive_config("identity", 256);
	struct drive drive;
	uint64_t start_ns;
	uint64_t lease = 0;
	unsigned int n_done = 0;
	char body[2048];
	int json_bytes;

	(void)state;
	memset(body, 0, sizeof(body));
	json_bytes = snprintf(body, sizeof(body),
	                      "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	                      "\"shape\":[1,256],\"parameters\":"
	                      "{\"binary_data_size\":1024}}],\"parameters\":"
	                      "{\"binary_data_output\":true}}");
	tensors_set_number(config, "max_batch", 64);
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, config);
	start_ns = clock_now_ns();
	while (lease < IN_FLIGHT)
		drive_submit(&drive, ++lease, body, (size_t)json_bytes + 1024,
		             json_bytes);
	while (n_done < ROUND_TRIPS) {
		struct proto_answer answer = drive_answer(&drive);

		do {
			assert_int_equal(answer.status, 200);
			drive_release(&drive, &answer);
			n_done++;
			if (lease < ROUND_TRIPS)
				drive_submit(&drive, ++lease, body,
				             (size_t)json_bytes + 1024, json_bytes);
		} while (drive_poll(&drive, &answer));
	}
	print_message("%d round trips of 1 KiB, %d in flight: %.2f us each\n",
	              ROUND_TRIPS, IN_FLIGHT,
	              (double)(clock_now_ns() - start_ns) / 1e3 / ROUND_TRIPS);
	assert_true(atomic_load(&drive.head->progress) >= ROUND_TRIPS);
	drive_quit(&drive);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TENSORS_TEST(test_echo),
		TENSORS_TEST(test_errors),
		TENSORS_TEST(test_cancel_and_deadline),
		TENSORS_TEST(test_batch_culprit),
		TENSORS_TEST(test_times),
		TENSORS_TEST(test_arena_full),
		TENSORS_TEST(test_answer_too_large),
		TENSORS_TEST(test_round_trips),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_requests BUILD_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
