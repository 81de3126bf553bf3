/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The torch engine inside the real loader: the values that a model may return, what it may do to
 * its inputs, and every declaration that it does not keep.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "tests/loader/drive.h"

#define ARENA_BYTES ((size_t)4 << 20)

static const char *model_dir;

static json_t *read_tensors(const char *text)
{
	json_t *tensors = json_loads(text, 0, NULL);

	assert_non_null(tensors);
	return tensors;
}

#define X2 "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"
#define XN "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,-1]}]"
#define Y1 "[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[-1,1]}]"
#define Y2 "[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"
#define AB                                                                               \
	"[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"                      \
	"{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"
#define BA                                                                               \
	"[{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"                      \
	"{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"
#define PLUS_MINUS                                                                       \
	"[{\"name\":\"plus\",\"datatype\":\"FP32\",\"shape\":[-1,2]},"                   \
	"{\"name\":\"minus\",\"datatype\":\"FP32\",\"shape\":[-1,2]}]"

/* Returns the configuration of a loader for @file. */
static json_t *torch_config(const char *file, const char *inputs, const char *outputs)
{
	json_t *config = drive_config("torch", 2);
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", model_dir, file);
	assert_int_equal(json_object_set_new(config, "path", json_string(path)), 0);
	assert_int_equal(json_object_set_new(config, "inputs", read_tensors(inputs)), 0);
	assert_int_equal(json_object_set_new(config, "outputs", read_tensors(outputs)),
	                 0);
	assert_int_equal(json_object_set_new(config, "max_batch", json_integer(4)), 0);
	return config;
}

static void infer(struct drive *drive, uint64_t lease, const char *body, int want_status,
                  const char *want_text)
{
	struct proto_answer answer;
	char text[1024];

	drive_submit(drive, lease, body, strlen(body), -1);
	answer = drive_answer(drive);
	(void)snprintf(text, sizeof(text), "%.*s", (int)answer.body_bytes,
	               (const char *)drive_body(drive, &answer));
	if (answer.status != want_status || !strstr(text, want_text))
		fail_msg("%u '%s' instead of %d '%s'", answer.status, text, want_status,
		         want_text);
	if (want_status == 200)
		assert_int_equal((answer.flags & PROTO_ANSWER_FAULT) != 0,
		                 strstr(text, "NaN") != NULL);
	drive_release(drive, &answer);
}

#define BODY_X(data)                                                                     \
	"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":"   \
	"[" data "]}]}"
#define BODY_AB                                                                          \
	"{\"inputs\":[{\"name\":\"b\",\"datatype\":\"FP32\",\"shape\":[1,2],"            \
	"\"data\":[1,2]},{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[1,2],"         \
	"\"data\":[10,20]}]}"

/* Shapes 1 and 2 would go together, 2 and 3 do not. */
#define BODY_UNEVEN                                                                      \
	"{\"inputs\":[{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[3,2],"            \
	"\"data\":[1,2,3,4,5,6]},{\"name\":\"b\",\"datatype\":\"FP32\","                 \
	"\"shape\":[2,2],\"data\":[10,20,30,40]}]}"

/* Loads with shared weights twice: first from the file, then as the next loader finds the
 * store. */
static void answer_shared(json_t *config, const char *body, int status, const char *text)
{
	const char *path = json_string_value(json_object_get(config, "path"));
	json_t *second = json_deep_copy(config);
	struct drive drives[2];

	assert_int_equal(json_object_set_new(config, "weights", json_string("fill")), 0);
	assert_int_equal(json_object_set_new(second, "weights", json_string("map")), 0);
	for (size_t i = 0; i < 2; i++) {
		drive_start(&drives[i], ARENA_BYTES);
		if (i > 0)
			drive_adopt(&drives[i], &drives[0]);
		drive_ready(&drives[i], i > 0 ? second : json_incref(config));
		drive_check_store(&drives[i], path);
		infer(&drives[i], 1, body, status, text);
		drive_quit(&drives[i]);
	}
	/* A write of the model stays in its own process. */
	drive_check_store(&drives[1], path);
	close_fd(&drives[1].store_fd);
	json_decref(config);
}

static void test_answers(void **state)
{
	static const struct {
		const char *file;
		const char *inputs;
		const char *outputs;
		const char *body;
		int status;
		const char *text;
	} rows[] = {
		{ "sum.pt", X2, Y1, BODY_X("3,4"), 200, "\"data\":[8" },
		{ "inplace.pt", X2, Y2, BODY_X("3,4"), 200, "\"data\":[4" },
		{ "nested.pt", X2, Y2, BODY_X("3,4"), 200, "\"data\":[4" },
		{ "two.pt", AB, PLUS_MINUS, BODY_AB, 200, "\"data\":[11" },
		{ "two.pt", AB, PLUS_MINUS, BODY_AB, 200, "\"data\":[9" },
		{ "listed.pt", AB, PLUS_MINUS, BODY_AB, 200, "\"data\":[9" },
		{ "named.pt", AB, PLUS_MINUS, BODY_AB, 200, "\"data\":[11" },
		{ "picky.pt", X2, Y2, BODY_X("13,0"), 400, "thirteen is not welcome" },
		{ "fails.pt", X2, Y2, BODY_X("1,0"), 400, "one has no place" },
		{ "fails.pt", X2, Y2, BODY_X("2,0"), 500, "the model's own" },
		{ "fails.pt", X2, Y2, BODY_X("3,0"), 400, "index 99 is out of bounds" },
		{ "fails.pt", X2, Y2, BODY_X("4,0"), 400, "index out of range" },
		{ "fails.pt", X2, Y2, BODY_X("5,0"), 400, "index 99 is out of bounds" },
		/* The index is the model's own: no client can mend it. */
		{ "fails.pt", X2, Y2, BODY_X("6,0"), 500, "list index" },
		{ "fails.pt", X2, Y2, BODY_X("7,0"), 500, "cannot be multiplied" },
		{ "fails.pt", X2, Y2, BODY_X("8,0"), 500, "eight is no input" },
		{ "wide.pt", XN, Y1, BODY_X("7,0"), 400, "cannot be multiplied" },
		{ "two.pt", AB, PLUS_MINUS, BODY_UNEVEN, 400,
		  "'a' has 3 rows and 'b' has 2" },
		{ "scaled.pt", X2, Y2, BODY_X("1,2"), 200, "\"data\":[NaN,NaN]" },
		/* The counter is 3: one warm-up run, one with a whole batch, then this
		 * request. */
		{ "buffer.pt", X2, Y2, BODY_X("0,0"), 200, "\"data\":[3" },
		{ "tied.pt", X2, Y1, BODY_X("3,4"), 200, "\"data\":[6" },
		{ "constant.pt", X2, Y2, BODY_X("3,4"), 200, "\"data\":[10" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct drive drive;

		drive_start(&drive, ARENA_BYTES);
		drive_ready(&drive,
		            torch_config(rows[i].file, rows[i].inputs, rows[i].outputs));
		infer(&drive, 1, rows[i].body, rows[i].status, rows[i].text);
		drive_quit(&drive);
		answer_shared(torch_config(rows[i].file, rows[i].inputs, rows[i].outputs),
		              rows[i].body, rows[i].status, rows[i].text);
	}
}

/* A model that cannot share says so, is computed nevertheless, and is not held twice. */
static void test_private(void **state)
{
	static const struct {
		const char *file;
		const char *why;
	} rows[] = {
		{ "packed.pt", "packs its weights" },
		{ "deflated.pt", "compressed or not aligned" },
		{ "unaligned.pt", "compressed or not aligned" },
		{ "beyond.pt", "beyond the end" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *config = torch_config(rows[i].file, X2, Y1);
		struct drive drive;
		struct stat store;
		json_t *staged;
		const char *why;

		assert_int_equal(json_object_set_new(config, "weights",
		                                     json_string("fill")),
		                 0);
		drive_start(&drive, ARENA_BYTES);
		drive_load(&drive, config, NULL);
		staged = drive_expect(&drive, PROTO_STAGED);
		why = json_string_value(json_object_get(staged, "private"));
		if (!why || !strstr(why, rows[i].why))
			fail_msg("%s: '%s' lacks '%s'", rows[i].file, why, rows[i].why);
		json_decref(staged);
		assert_int_equal(fstat(drive.store_fd, &store), 0);
		assert_int_equal(store.st_blocks, 0);
		drive_send(&drive, PROTO_COMMIT);
		json_decref(drive_expect(&drive, PROTO_COMMITTED));
		json_decref(drive_expect(&drive, PROTO_READY));
		infer(&drive, 1, BODY_X("3,4"), 200, "\"data\":[");
		drive_quit(&drive);
		close_fd(&drive.store_fd);
	}
}

/* Refusals, with private and with shared weights. */
static void test_refusals(void **state)
{
	const char *const ways[] = { "private", "fill" };
	static const struct {
		const char *file;
		const char *inputs;
		const char *outputs;
		const char *key; /* of the configuration; or NULL */
		const char *value;
		const char *code;
		const char *reason;
	} rows[] = {
		{ "text_file.pt", X2, Y2, NULL, NULL, "model", "model file" },
		{ "cut.pt", X2, Y1, NULL, NULL, "model", "model file" },
		{ "sum.pt", AB, Y1, NULL, NULL, "model", "takes 1 inputs (x)" },
		{ "two.pt", X2, PLUS_MINUS, NULL, NULL, "model",
		  "takes 2 inputs (a, b)" },
		{ "two.pt", BA, PLUS_MINUS, NULL, NULL, "model", "model's order" },
		{ "number.pt", AB, Y2, NULL, NULL, "model", "type int" },
		{ "sum.pt", X2, Y1, "device", "cuda:0", "device", "cuda:0" },
		{ "sum.pt", X2, Y1, "device", "tpu", "config", "cuda:N" },
		{ "sum.pt", X2, Y1, "option", "colour=red", "config", "executor" },
		{ "sum.pt", X2, Y1, "option", "executor=fast", "config", "profiling" },
		{ "sum.pt", "[{\"name\":\"x\",\"datatype\":\"BYTES\",\"shape\":[-1,2]}]",
		  Y1, NULL, NULL, "config", "BYTES" },
		/* The warm-up finds these. */
		{ "sum.pt", X2, Y2, NULL, NULL, "model", "is FP32 [1,1]" },
		{ "half.pt", X2, Y2, NULL, NULL, "model", "is FP16" },
		{ "two.pt", AB, Y2, NULL, NULL, "model", "returns 2 tensors" },
		{ "named.pt", AB, Y2, NULL, NULL, "model", "has no 'y'" },
		{ "text.pt", X2, Y2, NULL, NULL, "model", "no tensor" },
		{ "sum.pt", "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,3]}]",
		  Y1, NULL, NULL, "model", "shapes cannot be multiplied" },
		{ "sum.pt", "[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,3]}]",
		  Y1, NULL, NULL, "model", "set warmup_request" },
		/* A later try may find more memory. */
		{ "greedy.pt", X2, Y2, NULL, NULL, "memory",
		  "warm-up: a request of this size needs at least" },
	};

	(void)state;
	for (size_t n = 0; n < 2 * sizeof(rows) / sizeof(rows[0]); n++) {
		size_t i = n / 2;
		json_t *config =
			torch_config(rows[i].file, rows[i].inputs, rows[i].outputs);
		char name[32];
		struct drive drive;
		json_t *payload;
		const char *reason;
		int status;

		if (rows[i].key && strcmp(rows[i].key, "option") == 0) {
			const char *value = strchr(rows[i].value, '=');

			(void)snprintf(name, sizeof(name), "%.*s",
			               (int)(value - rows[i].value), rows[i].value);
			assert_int_equal(json_object_set_new(json_object_get(config,
			                                                     "options"),
			                                     name,
			                                     json_string(value + 1)),
			                 0);
		} else if (rows[i].key) {
			assert_int_equal(json_object_set_new(config, rows[i].key,
			                                     json_string(rows[i].value)),
			                 0);
		}
		assert_int_equal(json_object_set_new(config, "weights",
		                                     json_string(ways[n % 2])),
		                 0);
		drive_start(&drive, ARENA_BYTES);
		payload = drive_refused(&drive, config, NULL);
		reason = json_string_value(json_object_get(payload, "reason"));
		print_message("%s: %s\n", rows[i].file, reason);
		assert_string_equal(json_string_value(json_object_get(payload, "code")),
		                    rows[i].code);
		if (!strstr(reason, rows[i].reason))
			fail_msg("row %zu: '%s' lacks '%s'", i, reason, rows[i].reason);
		status = strcmp(rows[i].code, "config") == 0   ? PROTO_EXIT_CONFIG
		         : strcmp(rows[i].code, "model") == 0  ? PROTO_EXIT_MODEL
		         : strcmp(rows[i].code, "device") == 0 ? PROTO_EXIT_DEVICE
		         : strcmp(rows[i].code, "memory") == 0 ? PROTO_EXIT_MEMORY
		                                               : PROTO_EXIT_INTERNAL;
		json_decref(payload);
		drive_end(&drive, status);
		close_fd(&drive.store_fd);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_private),
		cmocka_unit_test(test_refusals),
	};

	if (argc != 3) {
		(void)fprintf(stderr, "usage: test_torch BUILD_DIR MODEL_DIR\n");
		return 2;
	}
	drive_build_dir = argv[1];
	model_dir = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
