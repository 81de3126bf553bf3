/* SPDX-License-Identifier: Apache-2.0 */

/* The life of the real moult-loader, against a supervisor that the test plays: from HELLO to BYE,
 * and its other ends. */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/loader/tensors.h"

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
	drive_start(&drive, TENSORS_ARENA_BYTES);
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

		drive_start(&drive, TENSORS_ARENA_BYTES);
		drive_ready(&drive, drive_config("identity", 4));
		drive_submit_raw(&drive, &rows[i]);
		drive_flush(&drive);
		drive_end(&drive, PROTO_EXIT_INTERNAL);
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
	tensors_set_option(config, "magic", "13");
	tensors_set_option(config, "magic_fault", "broken");
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, config);
	drive_submit(&drive, 1, body, tensors_make_row(body, 13), -1);
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
	drive_start(&drive, TENSORS_ARENA_BYTES);
	chan_fini(&drive.chan);
	drive_end(&drive, PROTO_EXIT_ORPHAN);
	drive_start(&drive, TENSORS_ARENA_BYTES);
	drive_ready(&drive, drive_config("identity", 4));
	chan_fini(&drive.chan);
	drive_end(&drive, PROTO_EXIT_ORPHAN);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TENSORS_TEST(test_life),
		TENSORS_TEST(test_violations),
		TENSORS_TEST(test_broken_exits),
		TENSORS_TEST(test_orphan),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_loader BUILD_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
