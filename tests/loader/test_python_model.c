/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine python with a class of tests/loader/apps that computes, against a supervisor that the
 * test plays. Most of it runs twice: in an interpreter that has numpy, and in one that has not.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/loader/classes.h"

/* Classes that serve. */
static void check_served(void)
{
	static const struct classes_served rows[] = {
		{ "models:Doubles", NULL, NULL, "FP32", "[2,2]", "[1,2,3,4]",
		  "\"shape\":[2,2],\"data\":[2.0,4.0,6.0,8.0]" },
		{ "models:LoadModel", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "models:Setup", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "models:make", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "models:ready", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "alone.py", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[2.0,4.0]" },
		{ "models:Threaded", NULL, NULL, "FP32", "[1,2]", "[1,2]",
		  "\"data\":[1.0,2.0]" },
		{ "models:Echo", NULL, NULL, "FP32", "[0,2]", "[]",
		  "\"shape\":[0,2],\"data\":[]" },
		{ "models:Echo", "BOOL [-1]", "BOOL [-1]", "BOOL", "[2]", "[true,false]",
		  "[true,false]" },
		{ "models:Echo", "UINT8 []", "UINT8 []", "UINT8", "[]", "[255]",
		  "[255]" },
		{ "models:Echo", "INT64 [-1]", "INT64 [-1]", "INT64", "[1]",
		  "[-9223372036854775808]", "[-9223372036854775808]" },
		{ "models:Echo", "UINT64 [-1,1,1]", "UINT64 [-1,1,1]", "UINT64",
		  "[2,1,1]", "[18446744073709551615,7]", "[18446744073709551615,7]" },
		{ "models:Echo", "FP64 [1]", "FP64 [1]", "FP64", "[1]", "[0.1]",
		  "[0.1]" },
		{ "models:Echo", "BYTES [-1,2]", "BYTES [-1,2]", "BYTES", "[1,2]",
		  "[\"\",\"a\\u00e4\"]", "[\"\",\"a\xc3\xa4\"]" },
		{ "models:Kinds", "BYTES [-1]", "BYTES [1,1]", "BYTES", "[1]",
		  "[\"text\"]", "\"str text\"" },
		{ "models:Threads", NULL, "BYTES [1,1]", "FP32", "[1,2]", "[1,2]",
		  "[\"1\"]" },
		{ "models:Text", NULL, "BYTES [1,2]", "FP32", "[1,2]", "[1,2]",
		  "[\"a\",\"b\"]" },
	};

	classes_check_served(rows, CLASSES_COUNT(rows));
}

/* The inputs are the class's own: it may write to them, and they stay. */
static void check_kept(void)
{
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];
	json_t *config = classes_config("models:Keeps", NULL, NULL);

	classes_set_number(config, "warmup_runs", 0);
	classes_start(&drive, config);
	assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[1,0]", text), 200);
	hosted_assert_has(text, "[2.0,1.0]");
	assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[5,0]", text), 200);
	hosted_assert_has(text, "[8.0,2.0]");
	drive_quit(&drive);
}

/* Failures are those of one request, and the next one is served. */
static void check_blame(void)
{
	static const struct classes_blame rows[] = {
		{ "[1,0]", 400, "x must not be 1" },
		{ "[2,0]", 500, "predict raised ValueError: x was 2; the traceback" },
		{ "[3,0]", 500, "predict called sys.exit('over')" },
		{ "[4,0]", 500, "predict raised KeyboardInterrupt" },
		{ "[5,0]", 500, "ConnectionResetError: the store is away" },
		{ "[0,0]", 200, "[0.0,0.0]" },
	};

	static const struct classes_blame exits[] = {
		{ "[3,0]", 500, "predict called sys.exit('over')" },
		{ "[1,2]", 200, "[1.0,2.0]" },
	};

	classes_check_requests("models:Blames", rows, CLASSES_COUNT(rows));
	classes_check_requests("models:Async", exits, CLASSES_COUNT(exits));
}

static void check_bytes(void)
{
	json_t *config = classes_config("models:Kinds", "BYTES [-1]", "BYTES [1,1]");
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];
	static const char binary[] =
		"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"BYTES\",\"shape\":[1],"
		"\"parameters\":{\"binary_data_size\":5}}]}\1\0\0\0\xff";
	struct proto_answer answer;

	classes_start(&drive, config);
	drive_submit(&drive, 99, binary, sizeof(binary) - 1, sizeof(binary) - 6);
	answer = drive_answer(&drive);
	assert_int_equal(answer.status, 400);
	snprintf(text, sizeof(text), "%.*s", (int)answer.body_bytes,
	         (const char *)drive_body(&drive, &answer));
	hosted_assert_has(text, "input 'x': element 0 is no text of UTF-8");
	drive_release(&drive, &answer);
	drive_quit(&drive);
	config = classes_config("models:Kinds", "BYTES [-1]", "BYTES [1,1]");
	classes_set_option(config, "bytes_as", "bytes");
	classes_start(&drive, config);
	assert_int_equal(classes_ask(&drive, "BYTES", "[1]", "[\"text\"]", text), 200);
	hosted_assert_has(text, "bytes b'text'");
	drive_quit(&drive);
}

/* Each wrong class is refused with a sentence of its own, when it is loaded or warmed up. */
static void check_wrong(void)
{
	static const struct classes_refused rows[] = {
		{ "models", NULL, { "write MODULE:CLASS" }, PROTO_EXIT_CONFIG, 0 },
		{ "none:Model", NULL, { "no module 'none'" }, PROTO_EXIT_CONFIG, 0 },
		{ "models:None",
		  NULL,
		  { "has no 'None'", "Doubles" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "models.py",
		  NULL,
		  { "exactly one class", "Doubles" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "hello.py", NULL, { "and has none" }, PROTO_EXIT_CONFIG, 0 },
		{ "models:number", NULL, { "it is 'int'" }, PROTO_EXIT_CONFIG, 0 },
		{ "models:Nothing",
		  NULL,
		  { "'Nothing' has neither predict()", "run" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "models:NeedsArguments",
		  NULL,
		  { "takes arguments ((path))", "defaults" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "models:MakingRaises",
		  NULL,
		  { "making it raised OSError: no such file", "models.py:" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:LoadRaises",
		  NULL,
		  { "load() raised RuntimeError: weights are bad" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:LoadExits",
		  NULL,
		  { "load() called sys.exit('no weights')" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:LoadTakes",
		  NULL,
		  { "load(path) takes arguments" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "models:PredictTakes",
		  NULL,
		  { "predict(prompt, count) cannot", "def predict(self, inputs)" },
		  PROTO_EXIT_CONFIG,
		  0 },
		{ "models:Returns",
		  NULL,
		  { "predict returned None instead of a dict", "{'x': ...}" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:ReturnsList",
		  NULL,
		  { "predict returned 'list' instead" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Lacks",
		  NULL,
		  { "returned no output 'x'; it returned: y" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Extra",
		  NULL,
		  { "output 'more' that the configuration does not declare" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Raises",
		  NULL,
		  { "predict raised ZeroDivisionError: no such luck" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:NoneInside",
		  NULL,
		  { "output 'x' is None" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Ragged", NULL, { "output 'x' is a" }, PROTO_EXIT_MODEL, 0 },
		{ "models:Text",
		  NULL,
		  { "output 'x' is a list of str" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Wide",
		  NULL,
		  { "output 'x' is FP32 [1,3], and the configuration declares FP32" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Wide",
		  "INT32 [1,3]",
		  { "output 'x' is a list" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Wide",
		  "BYTES [1,3]",
		  { "output 'x' is a" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Scalar",
		  NULL,
		  { "output 'x' is FP32 []" },
		  PROTO_EXIT_MODEL,
		  0 },
		{ "models:Deep", NULL, { "tensor of 9 dims" }, PROTO_EXIT_MODEL, 0 },
		{ "models:OneRow",
		  "FP32 [-1,2]",
		  { "output 'x' has the shape [1,2], and the inputs have 4 rows" },
		  PROTO_EXIT_MODEL,
		  4 },
	};

	classes_check_refused(rows, CLASSES_COUNT(rows));
}

/* Datatypes that numbers in JSON do not have: 1.5, as it was sent. */
static void check_halves(void)
{
	static const struct {
		const char *spec;
		const char *datatype;
		unsigned char data[2];
	} rows[] = {
		{ "FP16 [1]", "FP16", { 0x00, 0x3e } },
		{ "BF16 [1]", "BF16", { 0xc0, 0x3f } },
	};

	for (size_t i = 0; i < CLASSES_COUNT(rows); i++) {
		struct proto_answer answer;
		struct drive drive;
		char body[256];
		int n = snprintf(body, sizeof(body),
		                 "{\"parameters\":{\"binary_data_output\":true},"
		                 "\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\","
		                 "\"shape\":[1],"
		                 "\"parameters\":{\"binary_data_size\":2}}]}",
		                 rows[i].datatype);

		memcpy(body + n, rows[i].data, 2);
		classes_start(&drive,
		              classes_config("models:Echo", rows[i].spec, rows[i].spec));
		drive_submit(&drive, 1, body, (size_t)n + 2, n);
		answer = drive_answer(&drive);
		assert_int_equal(answer.status, 200);
		assert_memory_equal(drive_body(&drive, &answer) + answer.body_bytes - 2,
		                    rows[i].data, 2);
		drive_release(&drive, &answer);
		drive_quit(&drive);
	}
}

static void check_all(void)
{
	check_served();
	check_kept();
	check_blame();
	check_bytes();
	check_halves();
	check_wrong();
}

static void test_without_numpy(void **state)
{
	(void)state;
	drive_python = classes_without_numpy;
	check_all();
}

static void test_with_numpy(void **state)
{
	(void)state;
	if (!classes_with_numpy)
		skip();
	drive_python = classes_with_numpy;
	check_all();
}

/* What only arrays can be. */
static void test_arrays(void **state)
{
	static const struct classes_refused rows[] = {
		{ "models:Double",
		  NULL,
		  { "output 'x' is FP64 [1,2], and the configuration declares FP32",
		    ".astype('float32')" },
		  PROTO_EXIT_MODEL,
		  0 },
	};
	static char large[CLASSES_TEXT_BYTES];
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];

	(void)state;
	if (!classes_with_numpy)
		skip();
	drive_python = classes_with_numpy;
	classes_check_refused(rows, CLASSES_COUNT(rows));
	classes_start(&drive, classes_config("models:Large", NULL, "FP32 [-1,8192]"));
	assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[7,0]", large), 200);
	hosted_assert_has(large, "2.0,2.0,7.0]");
	assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[8,1]", large), 200);
	hosted_assert_has(large, "3.0,3.0,8.0]");
	drive_quit(&drive);
	classes_start(&drive, classes_config("models:Strided", NULL, NULL));
	assert_int_equal(classes_ask(&drive, "FP32", "[2,2]", "[1,2,3,4]", text), 200);
	hosted_assert_has(text, "[2.0,1.0,4.0,3.0]");
	drive_quit(&drive);
}

static void test_secrets(void **state)
{
	static const char *const secrets[] = { "TOKEN=sesame", NULL };
	json_t *config = classes_config("models:Secret", NULL, "BYTES [1,1]");
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];

	(void)state;
	classes_set_option(config, "secrets_env", "TOKEN");
	drive_start(&drive, HOSTED_ARENA_BYTES);
	drive_load(&drive, config, secrets);
	json_decref(drive_expect(&drive, PROTO_STAGED));
	drive_send(&drive, PROTO_COMMIT);
	json_decref(drive_expect(&drive, PROTO_COMMITTED));
	json_decref(drive_expect(&drive, PROTO_READY));
	assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", "[1,2]", text), 200);
	hosted_assert_has(text, "sesamesesame");
	drive_quit(&drive);
}

static char weights_path[] = "/tmp/moult-weights-XXXXXX";

static json_t *config_with_weights(const char *class, const char *how, bool is_lean)
{
	json_t *config = classes_config(class, NULL, "BYTES [1,1]");

	assert_int_equal(json_object_set_new(config, "path", json_string(weights_path)),
	                 0);
	if (how)
		assert_int_equal(json_object_set_new(config, "weights", json_string(how)),
		                 0);
	if (is_lean)
		assert_int_equal(json_object_set_new(config, "lean", json_true()), 0);
	classes_set_number(config, "warmup_runs", 0);
	return config;
}

static void check_weights(struct drive *drive, const char *class, int status,
                          const char *said)
{
	char text[CLASSES_TEXT_BYTES];

	assert_int_equal(classes_ask(drive, "FP32", "[1,2]", "[1,2]", text), status);
	print_message("%s %s\n", class, text);
	hosted_assert_has(text, said);
	drive_quit(drive);
}

/* A class gets the bytes of the model file, in whatever form the loader has them. */
static void test_weights(void **state)
{
	static const struct {
		const char *class;
		const char *how;
		bool is_lean;
		int status;
		const char *said;
	} rows[] = {
		{ "models:Weights", NULL, false, 200, "abC 5000" },
		{ "models:Weights", NULL, true, 200, "abC 5000" },
		{ "models:Weights", "fill", false, 200, "abC 5000" },
		{ "models:Late", "fill", false, 200, "5000" },
		{ "models:Late", NULL, false, 500, "while the application was loaded" },
	};
	char bytes[5000] = "abc";
	int fd = mkstemp(weights_path);
	struct drive first;
	struct drive drive;

	(void)state;
	drive_python = classes_without_numpy;
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(close(fd), 0);
	for (size_t i = 0; i < CLASSES_COUNT(rows); i++) {
		classes_start(&drive, config_with_weights(rows[i].class, rows[i].how,
		                                          rows[i].is_lean));
		check_weights(&drive, rows[i].class, rows[i].status, rows[i].said);
	}
	/* Two loaders with one copy: what the first wrote is its own. */
	classes_start(&first, config_with_weights("models:Weights", "fill", false));
	drive_start(&drive, HOSTED_ARENA_BYTES);
	drive_adopt(&drive, &first);
	drive_ready(&drive, config_with_weights("models:Weights", "map", true));
	drive_check_store(&drive, weights_path);
	check_weights(&drive, "models:Weights", 200, "abC 5000");
	check_weights(&first, "models:Weights", 200, "abC 5000");
	assert_int_equal(unlink(weights_path), 0);
}

/* What is written by a class that ends, to the file that MARK names. */
static void check_end(const char *class)
{
	char mark[] = "/tmp/moult-mark-XXXXXX";
	char text[8] = "";
	struct drive drive;
	json_t *config;
	FILE *stream;
	int fd = mkstemp(mark);

	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(setenv("MARK", mark, 1), 0);
	config = classes_config(class, NULL, NULL);
	assert_int_equal(json_object_set_new(config, "sandbox_write", json_string(mark)),
	                 0);
	classes_start(&drive, config);
	drive_quit(&drive);
	stream = fopen(mark, "re");
	assert_non_null(stream);
	assert_non_null(fgets(text, sizeof(text), stream));
	assert_string_equal(text, "clean");
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(unlink(mark), 0);
}

/* The class may clean up, and does not delay the end for long. */
static void test_ends(void **state)
{
	struct drive drive;

	(void)state;
	check_end("models:Cleanup");
	if (classes_with_numpy) {
		drive_python = classes_with_numpy;
		check_end("triton:TritonPythonModel");
	}
	classes_start(&drive, classes_config("models:Lingers", NULL, NULL));
	drive_quit(&drive);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_with_numpy), cmocka_unit_test(test_without_numpy),
		cmocka_unit_test(test_arrays),     cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_ends),       cmocka_unit_test(test_weights),
	};

	if (!classes_begin(argc, argv))
		return 2;
	return cmocka_run_group_tests(tests, classes_set_up, classes_tear_down);
}
