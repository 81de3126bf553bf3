/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real moult-loader with real engines, against a supervisor that the test plays.
 */

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "tests/loader/drive.h"

#define ARENA_BYTES ((size_t)4 << 20)
#define ROUND_TRIPS 20000
#define IN_FLIGHT   64

static const char one_to_four[] =
	"{\"id\":\"abc\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	"\"shape\":[1,4],\"data\":[1,2,3,4]}]}";

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	(void)closedir(dir);
	return count;
}

static int setup(void **state)
{
	static int fds;

	fds = count_fds();
	*state = &fds;
	return 0;
}

static int teardown(void **state)
{
	const int *fds = *state;

	/* The test leaves no child and no descriptor. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(count_fds(), *fds);
	return 0;
}

static void set_option(json_t *config, const char *name, const char *value)
{
	assert_int_equal(json_object_set_new(json_object_get(config, "options"), name,
	                                     json_string(value)),
	                 0);
}

static void set_number(json_t *config, const char *name, int value)
{
	assert_int_equal(json_object_set_new(config, name, json_integer(value)), 0);
}

static void assert_text(const struct drive *drive, const struct proto_answer *answer,
                        const char *part)
{
	FILE *stream;
	char *text = NULL;
	size_t bytes = 0;

	stream = open_memstream(&text, &bytes);
	assert_non_null(stream);
	(void)fwrite(drive_body(drive, answer), 1, answer->body_bytes, stream);
	(void)fclose(stream);
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
	free(text);
}

static void test_life(void **state)
{
	static const char sha256_of_abc[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char path[] = "/tmp/moult-test-XXXXXX";
	int fd = mkstemp(path);
	struct drive drive;
	json_t *config = drive_config("identity", 4);
	json_t *payload;

	(void)state;
	assert_int_equal(write(fd, "abc", 3), 3);
	(void)close(fd);
	assert_int_equal(json_object_set_new(config, "path", json_string(path)), 0);
	drive_start(&drive, ARENA_BYTES);
	drive_load(&drive, config, NULL);
	payload = drive_expect(&drive, PROTO_STAGED);
	assert_string_equal(json_string_value(json_object_get(payload, "weights_sha256")),
	                    sha256_of_abc);
	assert_int_equal(json_integer_value(json_object_get(payload, "weights_bytes")),
	                 3);
	json_decref(payload);
	drive_send(&drive, PROTO_COMMIT);
	json_decref(drive_expect(&drive, PROTO_COMMITTED));
	payload = drive_expect(&drive, PROTO_READY);
	assert_true(json_integer_value(json_object_get(payload, "rss_anon_bytes")) > 0);
	assert_true(json_integer_value(json_object_get(payload, "pss_bytes")) > 0);
	json_decref(payload);
	drive_quit(&drive);
	(void)unlink(path);
}

static void test_echo(void **state)
{
	struct drive drive;
	struct proto_answer answer;
	char text[64];

	(void)state;
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	drive_submit(&drive, 1, one_to_four, strlen(one_to_four), -1);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.lease, 1);
	drive_header(&drive, &answer, "content-type", text, sizeof(text));
	assert_string_equal(text, "application/json");
	assert_text(&drive, &answer, "\"id\":\"abc\"");
	assert_text(&drive, &answer, "\"generation\":7");
	assert_text(&drive, &answer, "[1,4]");
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
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct proto_answer answer;

		drive_submit(&drive, i + 1, rows[i].body, strlen(rows[i].body), -1);
		answer = drive_answer(&drive);
		assert_int_equal(answer.status, rows[i].status);
		assert_text(&drive, &answer, rows[i].text);
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
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	/* The loader sleeps, and finds all of these when the bell rings. */
	drive_submit(&drive, 1, one_to_four, strlen(one_to_four), -1);
	drive_submit(&drive, 2, one_to_four, strlen(one_to_four), -1);
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

static size_t make_row(char *body, float first)
{
	return (size_t)sprintf(body,
	                       "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\","
	                       "\"shape\":[1,2],\"data\":[%g,0]}]}",
	                       (double)first);
}

/* In a batch of five one request makes the engine fail: only that one gets an error. */
static void test_batch_culprit(void **state)
{
	json_t *config = drive_config("fault", 2);
	struct drive drive;

	(void)state;
	set_number(config, "max_batch", 8);
	set_option(config, "magic", "13");
	set_option(config, "magic_fault", "fail");
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, config);
	for (unsigned int i = 0; i < 5; i++) {
		char body[256];

		drive_submit(&drive, i + 1, body, make_row(body, (float)(11 + i)), -1);
	}
	for (unsigned int i = 0; i < 5; i++) {
		struct proto_answer answer = drive_answer(&drive);
		char data[32];

		(void)snprintf(data, sizeof(data), "[%d", (int)(10 + answer.lease));
		assert_int_equal(answer.status, answer.lease == 3 ? 500 : 200);
		assert_text(&drive, &answer, answer.lease == 3 ? "failed" : data);
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
	set_number(config, "max_batch", 8);
	drive_start(&drive, ARENA_BYTES);
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
		drive_submit(&drive, i + 1, one_to_four, strlen(one_to_four), -1);
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

/* When clients wait, one run is enough for a recipe that has served. Otherwise the loader runs
 * as configured, and once with a whole batch. */
static void test_warm_up_in_a_hurry(void **state)
{
	static const struct {
		bool is_urgent;
		bool is_proven;
		json_int_t runs;
	} rows[] = {
		{ false, false, 4 },
		{ true, false, 4 },
		{ false, true, 4 },
		{ true, true, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *config = drive_config("identity", 4);
		struct drive drive;
		json_t *ready;

		set_number(config, "warmup_runs", 3);
		set_number(config, "max_batch", 8);
		(void)json_object_set_new(config, "urgent",
		                          json_boolean(rows[i].is_urgent));
		(void)json_object_set_new(config, "proven",
		                          json_boolean(rows[i].is_proven));
		drive_start(&drive, 8192);
		drive_load(&drive, config, NULL);
		json_decref(drive_expect(&drive, PROTO_STAGED));
		drive_send(&drive, PROTO_COMMIT);
		json_decref(drive_expect(&drive, PROTO_COMMITTED));
		ready = drive_expect(&drive, PROTO_READY);
		assert_int_equal(json_integer_value(json_object_get(ready,
		                                                    "warmup_runs")),
		                 rows[i].runs);
		json_decref(ready);
		drive_quit(&drive);
	}
}

static void test_answer_too_large(void **state)
{
	json_t *config = drive_config("identity", 4096);
	struct proto_answer answer;
	struct drive drive;
	char body[32768];
	int json_bytes;

	(void)state;
	set_number(config, "warmup_runs", 0);
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
	assert_text(&drive, &answer, "response_arena");
	drive_release(&drive, &answer);
	drive_quit(&drive);
}

static void test_violations(void **state)
{
	static const struct proto_submit rows[] = {
		{ .lease = 1, .generation = 8, .kind = PROTO_SUBMIT_REQUEST },
		{ .lease = 1, .generation = DRIVE_GENERATION, .kind = 9 },
		{ .lease = 1,
		  .generation = DRIVE_GENERATION,
		  .kind = PROTO_SUBMIT_REQUEST,
		  .body_offset = UINT64_MAX - 8,
		  .body_bytes = 16 },
		{ .lease = 1,
		  .generation = DRIVE_GENERATION,
		  .kind = PROTO_SUBMIT_REQUEST,
		  .deadline_ns = UINT64_MAX,
		  .head_bytes = 64 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct drive drive;

		drive_start(&drive, ARENA_BYTES);
		drive_ready(&drive, drive_config("identity", 4));
		drive_submit_raw(&drive, &rows[i]);
		drive_flush(&drive);
		drive_end(&drive, PROTO_EXIT_INTERNAL);
	}
}

static void test_refusals(void **state)
{
	static const char *const secrets[] = { "token=good-1", "zero=", NULL };
	static const struct {
		const char *engine;
		const char *option;
		const char *value;
		const char *path;
		const char *code;
		int exit_code;
		const char *reason;
	} rows[] = {
		{ "nosuch", NULL, NULL, NULL, "config", 64, "there are: " },
		{ "../x", NULL, NULL, NULL, "config", 64, "a-z" },
		{ "identity", "colour", "red", NULL, "config", 64, "delay_us" },
		{ "fault", "faults", "crash", NULL, "config", 64, "did you mean fault?" },
		{ "identity", "secret_env", "x", NULL, "config", 64, "secrets_env?" },
		{ "identity", "secret", "absent", NULL, "config", 64, "absent" },
		{ "identity", "secrets_env", "absent", NULL, "config", 64, "absent" },
		{ "identity", NULL, NULL, "/nonexistent", "model", 65, "/nonexistent" },
		{ "identity", NULL, NULL, "/dev/null", "model", 65, "regular" },
		{ "fault", "fault", "refuse-model", NULL, "model", 65, "dislikes" },
		{ "fault", "fault", "refuse-device-on-stage", NULL, "device", 69,
		  "device" },
		{ "fault", "fault", "fail-on-stage", NULL, "internal", 70, "failed" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *config = drive_config(rows[i].engine, 4);
		struct drive drive;
		json_t *payload;
		const char *reason;

		if (rows[i].option)
			set_option(config, rows[i].option, rows[i].value);
		if (rows[i].path)
			assert_int_equal(json_object_set_new(config, "path",
			                                     json_string(rows[i].path)),
			                 0);
		drive_start(&drive, ARENA_BYTES);
		payload = drive_refused(&drive, config, secrets);
		assert_string_equal(json_string_value(json_object_get(payload, "code")),
		                    rows[i].code);
		reason = json_string_value(json_object_get(payload, "reason"));
		if (!strstr(reason, rows[i].reason))
			fail_msg("row %zu: '%s'", i, reason);
		json_decref(payload);
		drive_end(&drive, rows[i].exit_code);
	}
}

static void test_required_secret(void **state)
{
	static const char *const secrets[] = { "token=good-1", NULL };
	static const struct {
		const char *required;
		const char *prefix;
		bool is_good;
	} rows[] = {
		{ "token", "good", true },
		{ "token", "bad", false },
		{ "other", "good", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *config = drive_config("identity", 4);
		struct drive drive;

		assert_int_equal(
			json_array_append_new(json_object_get(config, "required_secrets"),
		                              json_string(rows[i].required)),
			0);
		set_option(config, "secret", "token");
		set_option(config, "secret_prefix", rows[i].prefix);
		drive_start(&drive, ARENA_BYTES);
		drive_load(&drive, config, secrets);
		json_decref(drive_expect(&drive,
		                         rows[i].is_good ? PROTO_STAGED : PROTO_REFUSED));
		if (rows[i].is_good)
			drive_quit(&drive);
		else
			drive_end(&drive, PROTO_EXIT_CONFIG);
	}
}

static void test_warmup_refuses(void **state)
{
	static const struct {
		const char *fault;
		const char *code;
		int exit_code;
		const char *reason;
	} rows[] = {
		{ "bad-shape-on-warmup", "model", PROTO_EXIT_MODEL,
		  "the configuration declares" },
		{ "bad-type-on-warmup", "model", PROTO_EXIT_MODEL, "no tensor" },
		{ "bad-bytes-on-warmup", "model", PROTO_EXIT_MODEL, "bytes" },
		{ "input-on-warmup", "model", PROTO_EXIT_MODEL, "set warmup_request" },
		{ "refuse-model-on-warmup", "model", PROTO_EXIT_MODEL,
		  "dislikes the model" },
		/* The model is not to blame: the same input is worth another try. */
		{ "fail-on-warmup", "internal", PROTO_EXIT_INTERNAL,
		  "warm-up: the fault engine failed" },
		{ "broken-on-warmup", "device", PROTO_EXIT_DEVICE,
		  "warm-up: the fault engine is broken" },
		{ "memory-on-warmup", "memory", PROTO_EXIT_MEMORY,
		  "warm-up: the fault engine has no room" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *config = drive_config("fault", 4);
		struct drive drive;
		json_t *payload;
		const char *reason;

		set_option(config, "fault", rows[i].fault);
		drive_start(&drive, ARENA_BYTES);
		payload = drive_refused(&drive, config, NULL);
		reason = json_string_value(json_object_get(payload, "reason"));
		if (!strstr(reason, rows[i].reason))
			fail_msg("%s: '%s'", rows[i].fault, reason);
		assert_string_equal(json_string_value(json_object_get(payload, "code")),
		                    rows[i].code);
		json_decref(payload);
		drive_end(&drive, rows[i].exit_code);
	}
}

static void test_warmup_request(void **state)
{
	static const struct {
		const char *text;
		bool is_good;
		const char *reason;
	} rows[] = {
		{ one_to_four, true, NULL },
		{ "{\"inputs\":3}", false, "warm-up request" },
		{ "", false, "warmup_request" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char path[] = "/tmp/moult-test-XXXXXX";
		json_t *config = drive_config("identity", 4);
		int fd = mkstemp(path);
		struct drive drive;

		assert_int_equal(write(fd, rows[i].text, strlen(rows[i].text)),
		                 strlen(rows[i].text));
		(void)close(fd);
		assert_int_equal(json_object_set_new(config, "warmup_request",
		                                     json_string(path)),
		                 0);
		drive_start(&drive, ARENA_BYTES);
		if (rows[i].is_good) {
			drive_ready(&drive, config);
			drive_quit(&drive);
		} else {
			json_t *payload = drive_refused(&drive, config, NULL);

			assert_non_null(strstr(
				json_string_value(json_object_get(payload, "reason")),
				rows[i].reason));
			json_decref(payload);
			drive_end(&drive, PROTO_EXIT_CONFIG);
		}
		(void)unlink(path);
	}
}

static void test_broken_exits(void **state)
{
	json_t *config = drive_config("fault", 2);
	struct proto_answer answer;
	struct drive drive;
	siginfo_t info;
	char body[256];

	(void)state;
	set_option(config, "magic", "13");
	set_option(config, "magic_fault", "broken");
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, config);
	drive_submit(&drive, 1, body, make_row(body, 13), -1);
	drive_flush(&drive);
	assert_int_equal(waitid(P_PID, (id_t)drive.pid, &info, WEXITED | WNOWAIT), 0);
	/* The loader gives no answer: the supervisor replays the request. */
	assert_false(drive_poll(&drive, &answer));
	drive_end(&drive, PROTO_EXIT_DEVICE);
}

static void test_orphan(void **state)
{
	struct drive drive;

	(void)state;
	drive_start(&drive, ARENA_BYTES);
	chan_fini(&drive.chan);
	drive_end(&drive, PROTO_EXIT_ORPHAN);
	drive_start(&drive, ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	chan_fini(&drive.chan);
	drive_end(&drive, PROTO_EXIT_ORPHAN);
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
	set_number(config, "max_batch", 64);
	drive_start(&drive, ARENA_BYTES);
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

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_echo),
		TEST(test_errors),
		TEST(test_cancel_and_deadline),
		TEST(test_batch_culprit),
		TEST(test_times),
		TEST(test_arena_full),
		TEST(test_warm_up_in_a_hurry),
		TEST(test_answer_too_large),
		TEST(test_violations),
		TEST(test_refusals),
		TEST(test_required_secret),
		TEST(test_warmup_refuses),
		TEST(test_broken_exits),
		TEST(test_orphan),
		TEST(test_warmup_request),
		TEST(test_round_trips),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_loader BUILD_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
