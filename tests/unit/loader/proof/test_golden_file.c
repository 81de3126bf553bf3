/* SPDX-License-Identifier: Apache-2.0 */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/proof/golden_file.h"

#define REQUEST "\"request\": {\"inputs\": []}"
#define OUTPUT(fields)                                                                   \
	"{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [1,2]" fields "}"
#define RESPONSE "\"response\": {\"outputs\": [" OUTPUT(", \"data\": [1, 2]") "]}"
/* {"outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"parameters":
 * {"binary_data_size":8}}]} and 1, 2: 94 bytes of JSON, 8 of tensors */
#define WIRE                                                                             \
	"eyJvdXRwdXRzIjpbeyJuYW1lIjoieSIsImRhdGF0eXBlIjoiRlAzMiIsInNoYXBlIjpbMSwyXSwicG" \
	"FyYW1ldGVycyI6eyJiaW5hcnlfZGF0YV9zaXplIjo4fX1dfQAAgD8AAABA"
#define WIRE_JSON_BYTES "94"

static const struct tensor_spec inputs[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
};
static const struct tensor_spec outputs[] = {
	{ .name = "y", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	{ .name = "n", .dtype = TENSOR_DTYPE_INT64, .shape = { 1, { 1 } } },
};
static const struct oip_model model = {
	.name = "m",
	.version = "1",
	.inputs = inputs,
	.n_inputs = 1,
	.outputs = outputs,
	.n_outputs = 2,
	.max_body_bytes = 1024,
};

static char directory[] = "/tmp/moult-golden-XXXXXX";
static int dir_fd = -1;

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlinkat(dir_fd, "a.json", 0);
	(void)close(dir_fd);
	return rmdir(directory);
}

static void put(const char *text)
{
	int fd = openat(dir_fd, "a.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t bytes = strlen(text);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, bytes), bytes);
	(void)close(fd);
}

static void test_broken(void **state)
{
	static const struct {
		const char *text;
		const char *error;
	} rows[] = {
		{ "", "it must be a regular file of 1 to 16777216 bytes" },
		{ "{", "it is no JSON: line 1" },
		{ "{}{}", "end of file expected" },
		{ "{\"request\": 1, \"request\": 2}", "duplicate object key" },
		{ "[]", "it must hold one JSON object" },
		{ "{" REQUEST ", " RESPONSE ", \"tolerence\": {}}",
		  "a golden request has no key 'tolerence'" },
		{ "{" RESPONSE "}", "'request' must be an object" },
		{ "{" REQUEST "}", "'response' must be an object" },
		{ "{" REQUEST ", \"response\": []}", "'response' must be an object" },
		{ "{\"request\": {\"base64\": \"x\", \"body\": 1}}",
		  "request has no key 'body'" },
		{ "{\"request\": {\"base64\": \"x\", \"headers\": {\"cookie\": \"\"}}}",
		  "headers has no key 'cookie'" },
		{ "{\"request\": {\"base64\": \"e30=\", \"headers\": "
		  "{\"content-encoding\": 1}}}",
		  "the headers of 'request' must be texts" },
		{ "{\"request\": {\"base64\": \"e30=\", \"headers\": []}}",
		  "the headers of 'request' must be texts in an object" },
		{ "{\"request\": {\"base64\": \"!\"}}",
		  "the base64 of 'request' must be that of at least one byte" },
		{ "{\"request\": {\"base64\": \"\"}}", "the base64 of 'request'" },
		{ "{\"request\": {\"base64\": 7}}", "the base64 of 'request'" },
		{ "{" REQUEST ", \"response\": {}}",
		  "'response' must have a list of 1 to " },
		{ "{" REQUEST ", \"response\": {\"outputs\": [{\"name\": \"z\"}]}}",
		  "'response' has an output 'z', which the model has not" },
		{ "{" REQUEST ", \"response\": {\"outputs\": [7]}}",
		  "'response' has an output '', which" },
		{ "{" REQUEST
		  ", \"response\": {\"outputs\": [" OUTPUT(", \"data\": [1]") "]}}",
		  "model 'm', expected output 'y': " },
		{ "{" REQUEST ", \"response\": {\"outputs\": [" OUTPUT(
			  ", \"data\": [1, \"2\"]") "]}}",
		  "expected output 'y': " },
		{ "{" REQUEST ", \"response\": {\"outputs\": [" OUTPUT(
			  ", \"data\": [1, 2]") ", " OUTPUT(", \"data\": [1, 2]") "]}}",
		  "expected output 'y'" },
		{ "{" REQUEST ", \"response\": {\"base64\": \"e30=\", \"headers\": "
		  "{\"inference-header-content-length\": \"3\"}}}",
		  "'response': inference-header-content-length '3' is no number that 2 "
		  "bytes allow" },
		{ "{" REQUEST ", \"response\": {\"base64\": \"e30=\", \"headers\": "
		  "{\"inference-header-content-length\": \"-1\"}}}",
		  "'response': inference-header-content-length '-1' is no number" },
		{ "{" REQUEST ", \"response\": {\"base64\": \"e30=\", \"headers\": "
		  "{\"content-encoding\": \"gzip\"}}}",
		  "'response': " },
		{ "{" REQUEST ", \"response\": {\"base64\": \"ISEh\"}}",
		  "the body of 'response' is no JSON" },
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": 1}",
		  "'tolerance' must be an object" },
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": {\"abs\": -1}}",
		  "a tolerance has abs and rel, numbers of 0 or more, not 'abs'" },
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": {\"ulp\": 1}}",
		  "a tolerance has abs and rel, numbers of 0 or more, not 'ulp'" },
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": {\"z\": {}}}",
		  "'tolerance' names 'z', which is no output of 'response'" },
		{ "{" REQUEST ", \"response\": {\"outputs\": [{\"name\": \"n\", "
		  "\"datatype\": \"INT64\", \"shape\": [1], \"data\": [1]}]}, "
		  "\"tolerance\": {\"n\": {\"abs\": 1}}}",
		  "output 'n' is INT64, which knows no tolerance" },
		{ "{" REQUEST ", " RESPONSE ", \"max_latency_ms\": 0}",
		  "'max_latency_ms' must be a number above 0" },
		{ "{" REQUEST ", " RESPONSE ", \"max_latency_ms\": \"1\"}",
		  "'max_latency_ms' must be a number above 0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct golden_file *file;
		struct err err = ERR_NULL;

		put(rows[i].text);
		assert_int_equal(golden_file_new(&file, dir_fd, "a.json", &model, &err),
		                 ENGINE_E_CONFIG);
		if (!strstr(err.text, rows[i].error))
			fail_msg("row %zu: %s", i, err.text);
		golden_file_free(file);
	}
}

static void test_no_file(void **state)
{
	struct golden_file *file;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(golden_file_new(&file, dir_fd, "none.json", &model, &err),
	                 ENGINE_E_CONFIG);
	assert_string_equal(err.text, "it cannot be opened: No such file or directory");
	golden_file_free(file);
	/* A FIFO must not block the loader. */
	assert_int_equal(mkfifoat(dir_fd, "fifo.json", 0600), 0);
	assert_int_equal(golden_file_new(&file, dir_fd, "fifo.json", &model, &err),
	                 ENGINE_E_CONFIG);
	assert_non_null(strstr(err.text, "it must be a regular file"));
	golden_file_free(file);
	(void)unlinkat(dir_fd, "fifo.json", 0);
}

static void test_good(void **state)
{
	static const struct {
		const char *text;
		double abs;
		double rel;
		double max_latency_ms;
	} rows[] = {
		{ "{" REQUEST ", " RESPONSE "}", 1e-5, 1e-4, 0 },
		{ "{" REQUEST ", " RESPONSE ", \"comment\": [], \"recorded\": 7}", 1e-5,
		  1e-4, 0 },
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": {\"abs\": 1}}", 1, 1e-4,
		  0 },
		/* The bounds of a single output count, wherever they stand. */
		{ "{" REQUEST ", " RESPONSE ", \"tolerance\": {\"y\": {\"abs\": 3}, "
		  "\"abs\": 1, \"rel\": 0}, \"max_latency_ms\": 1.5}",
		  3, 0, 1.5 },
		{ "{" REQUEST ", \"response\": {\"base64\": \"" WIRE
		  "\", \"headers\": {\"inference-header-content-length\": "
		  "\"" WIRE_JSON_BYTES "\"}}}",
		  1e-5, 1e-4, 0 },
	};
	static const float want[] = { 1, 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct golden_file *file;
		struct err err = ERR_NULL;

		put(rows[i].text);
		if (golden_file_new(&file, dir_fd, "a.json", &model, &err))
			fail_msg("row %zu: %s", i, err.text);
		assert_int_equal(file->n_outputs, 1);
		assert_int_equal(file->outputs[0].output, 0);
		assert_true(file->outputs[0].tolerance.abs == rows[i].abs);
		assert_true(file->outputs[0].tolerance.rel == rows[i].rel);
		assert_true(file->max_latency_ms == rows[i].max_latency_ms);
		assert_int_equal(file->expected.inputs[0].bytes, sizeof(want));
		assert_memory_equal(file->expected.inputs[0].data, want, sizeof(want));
		golden_file_free(file);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_good),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
