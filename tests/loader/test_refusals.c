/* SPDX-License-Identifier: Apache-2.0 */

/* What the real moult-loader refuses to load, why, and with which exit code; and how it warms up
 * what it does load. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/loader/tensors.h"

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
			tensors_set_option(config, rows[i].option, rows[i].value);
		if (rows[i].path)
			assert_int_equal(json_object_set_new(config, "path",
			                                     json_string(rows[i].path)),
			                 0);
		drive_start(&drive, TENSORS_ARENA_BYTES);
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
		tensors_set_option(config, "secret", "token");
		tensors_set_option(config, "secret_prefix", rows[i].prefix);
		drive_start(&drive, TENSORS_ARENA_BYTES);
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

		tensors_set_option(config, "fault", rows[i].fault);
		drive_start(&drive, TENSORS_ARENA_BYTES);
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
		{ tensors_one_to_four, true, NULL },
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
		drive_start(&drive, TENSORS_ARENA_BYTES);
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

		tensors_set_number(config, "warmup_runs", 3);
		tensors_set_number(config, "max_batch", 8);
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TENSORS_TEST(test_refusals),           TENSORS_TEST(test_required_secret),
		TENSORS_TEST(test_warmup_refuses),     TENSORS_TEST(test_warmup_request),
		TENSORS_TEST(test_warm_up_in_a_hurry),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_refusals BUILD_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
