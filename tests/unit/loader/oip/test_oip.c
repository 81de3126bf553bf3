/* SPDX-License-Identifier: Apache-2.0 */

/* Refused requests: the status and the words of each. */

#include "tests/unit/oip_call.h"

#define LENGTH(n) "inference-header-content-length: " #n "\n"

struct refusal {
	const char *name;
	const struct oip_model *model;
	struct message message;
	int status;
	const char *says;
};

static const struct refusal refusals[] = {
	/* the whole body */
	{ "empty", &image, JSON(""), 400, "no JSON" },
	{ "blanks", &image, JSON(" \n "), 400, "no JSON" },
	{ "half an object", &image, JSON("{"), 400, "at byte 1" },
	{ "list", &image, JSON("[]"), 400, "must be a JSON object" },
	{ "number", &image, JSON("3"), 400, "no JSON" },
	{ "tail", &image, JSON("{\"inputs\":[" GOOD_INPUT "]}x"), 400,
	  "end of file expected" },
	{ "no UTF-8", &image, JSON("{\"id\":\"\xff\"}"), 400, "no JSON" },
	{ "half a surrogate", &image, JSON("{\"id\":\"\\ud800\"}"), 400, "no JSON" },
	{ "NUL byte", &image, JSON("{\"id\":\"a\0b\"}"), 400, "no JSON" },
	{ "key twice", &image, JSON("{\"id\":\"a\",\"id\":\"b\"}"), 400,
	  "duplicate object key" },
	{ "id is a number", &image, JSON("{\"id\":7,\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "id must be a string" },
	{ "id with NUL", &image,
	  JSON("{\"id\":\"a\\u0000\",\"inputs\":[" GOOD_INPUT "]}"), 400, "id must be" },
	{ "no inputs", &image, JSON("{}"), 400, "list of inputs" },
	{ "inputs is an object", &image, JSON("{\"inputs\":{}}"), 400, "list of inputs" },
	{ "inputs is null", &image, JSON("{\"inputs\":null}"), 400, "list of inputs" },
	{ "parameters is a list", &image,
	  JSON("{\"parameters\":[],\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "parameters must be a JSON object" },
	{ "binary_data_output is a number", &image,
	  JSON("{\"parameters\":{\"binary_data_output\":1},\"inputs\":[" GOOD_INPUT "]}"),
	  400, "binary_data_output must be true or false" },

	{ "timeout is text", &image,
	  JSON("{\"parameters\":{\"timeout\":\"1\"},\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "parameter timeout must be an integer, 0 or more" },
	{ "timeout is negative", &image,
	  JSON("{\"parameters\":{\"timeout\":-1},\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "parameter timeout" },
	{ "priority is real", &image,
	  JSON("{\"parameters\":{\"priority\":1.5},\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "parameter priority must be an integer, 0 or more" },

	/* inputs */
	{ "none", &image, JSON("{\"inputs\":[]}"), 400,
	  "model 'image-model', input 'image': it is missing" },
	{ "input is a number", &image, JSON("{\"inputs\":[1]}"), 400,
	  "each of inputs needs a name" },
	{ "no name", &image, JSON("{\"inputs\":[{\"datatype\":\"FP32\"}]}"), 400,
	  "needs a name" },
	{ "name is a number", &image, JSON("{\"inputs\":[{\"name\":1}]}"), 400,
	  "needs a name" },
	{ "name with NUL", &image, JSON("{\"inputs\":[{\"name\":\"image\\u0000x\"}]}"),
	  400, "needs a name" },
	{ "unknown", &image, JSON("{\"inputs\":[{\"name\":\"picture\"}]}"), 400,
	  "model 'image-model' has no input 'picture'; it has 'image'" },
	{ "unknown of many", &all, JSON("{\"inputs\":[{\"name\":\"x\"}]}"), 400,
	  "it has 'BOOL', 'UINT8', 'INT8', 'BYTES'" },
	{ "twice", &image, JSON("{\"inputs\":[" GOOD_INPUT "," GOOD_INPUT "]}"), 400,
	  "'image': it is given twice" },
	{ "parameters of input", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3,4],\"parameters\":3")), 400,
	  "parameters must be" },
	{ "shared memory", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"shared_memory_region\":\"r\"}")),
	  501, "shared memory is not supported" },
	{ "no datatype", &image,
	  JSON("{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4]}]}"), 400,
	  "datatype must be a string" },
	{ "wrong datatype", &image, JSON(ONE("image", "FP64", "\"shape\":[1,4]")), 400,
	  "'image': its datatype is 'FP64', the model wants FP32" },
	{ "datatype in lower case", &image, JSON(ONE("image", "fp32", "\"shape\":[1,4]")),
	  400, "'fp32'" },

	/* shapes */
	{ "no shape", &image, JSON(IMAGE("\"data\":[1,2,3,4]")), 400,
	  "shape must be a list" },
	{ "shape is a number", &image, JSON(IMAGE("\"shape\":4")), 400,
	  "shape must be a list" },
	{ "negative dim", &image, JSON(IMAGE("\"shape\":[-1,4]")), 400,
	  "dim 0 of shape must be an integer, 0 or more" },
	{ "real dim", &image, JSON(IMAGE("\"shape\":[1.0,4]")), 400, "dim 0" },
	{ "dim is text", &image, JSON(IMAGE("\"shape\":[1,\"4\"]")), 400, "dim 1" },
	{ "wrong dim", &image, JSON(IMAGE("\"shape\":[1,3],\"data\":[1,2,3]")), 400,
	  "'image': its shape is [1,3], the model wants [-1,4]" },
	{ "wrong rank", &image, JSON(IMAGE("\"shape\":[4],\"data\":[1,2,3,4]")), 400,
	  "its shape is [4], the model wants [-1,4]" },
	{ "nine dims", &image, JSON(IMAGE("\"shape\":[1,1,1,1,1,1,1,1,1]")), 400,
	  "shape has 9 dims, 8 at most" },
	{ "product overflows", &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[4294967296,4294967296],\"data\":[]")), 400,
	  "more elements than can be" },
	{ "bytes overflow", &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[1,2305843009213693952],\"data\":[]")), 400,
	  "more elements than can be" },
	{ "dim beyond 63 bits", &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[9223372036854775808,1]")), 400,
	  "too big integer" },

	/* JSON data */
	{ "no data", &image, JSON(IMAGE("\"shape\":[1,4]")), 400,
	  "neither data nor parameters.binary_data_size" },
	{ "data is a number", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":1")), 400,
	  "data must be nested like its shape, or flat" },
	{ "data is null", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":null")), 400,
	  "neither data nor parameters.binary_data_size" },
	{ "binary_data_size is null", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":null}")), 400,
	  "neither data nor parameters.binary_data_size" },
	{ "size is real", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16.0}")), 400,
	  "binary_data_size must be a number" },
	{ "size beyond everything", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":"
	             "9223372036854775807}")),
	  400, "is 9223372036854775807, more than the 0 bytes" },
	{ "too few", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3]")), 400,
	  "data has 3 elements, fewer than the 4 of its shape" },
	{ "too many", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3,4,5]")), 400,
	  "data has 5 elements, more than the 4 of its shape" },
	{ "huge shape, no data", &image,
	  JSON(IMAGE("\"shape\":[100000000000,4],\"data\":[]")), 400,
	  "data has 0 elements" },
	{ "huge shape, nested", &image,
	  JSON(IMAGE("\"shape\":[100000000000,4],\"data\":[[]]")), 400,
	  "a list of 1 where dim 0 of its shape is 100000000000" },
	{ "too few rows", &image, JSON(IMAGE("\"shape\":[2,4],\"data\":[[1,2,3,4]]")),
	  400, "a list of 1 where dim 0 of its shape is 2" },
	{ "ragged", &image, JSON(IMAGE("\"shape\":[2,4],\"data\":[[1,2,3,4],[5,6,7]]")),
	  400, "a list of 3 where dim 1 of its shape is 4" },
	{ "list, then value", &image,
	  JSON(IMAGE("\"shape\":[2,4],\"data\":[[1,2,3,4],5]")), 400,
	  "nested like its shape" },
	{ "value, then list", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3,[4]]")),
	  400, "element 3: must be a number" },
	{ "nested too deep", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[[[1],[2],[3],[4]]]")), 400,
	  "element 0: must be a number" },
	{ "nested half", &cube,
	  JSON(ONE("x", "INT16", "\"shape\":[1,2,2],\"data\":[[1,2,3,4]]")), 400,
	  "a list of 4 where dim 1 of its shape is 2" },
	{ "scalar in two lists", &scalar,
	  JSON(ONE("x", "INT32", "\"shape\":[],\"data\":[[1]]")), 400,
	  "data of shape [] must be one element" },
	{ "text for a number", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,\"3\",4]")), 400,
	  "'image': element 2: must be a number" },
	{ "null for a number", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3,null]")), 400, "element 3" },
	{ "true for a number", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[true,2,3,4]")), 400, "element 0" },
	{ "Infinity", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[-Infinity,2,3,4]")),
	  400, "no JSON" },
	{ "NaN as text", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[\"NaN\",2,3,4]")),
	  400, "element 0: must be a number" },
	{ "NaN", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[NaN,2,3,4]")), 400,
	  "no JSON" },
	{ "beyond FP32", &image, JSON(IMAGE("\"shape\":[1,4],\"data\":[0,3.5e38,3,4]")),
	  400, "element 1: is 3.5e38, which FP32 does not hold" },
	{ "beyond FP64", &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[1,1],\"data\":[1e309]")), 400,
	  "element 0: is 1e309, which FP64 does not hold" },
	{ "INT16 nested", &cube,
	  JSON(ONE("x", "INT16", "\"shape\":[1,2,2],\"data\":[[[1,2],[3,32768]]]")), 400,
	  "element 3: is 32768" },
	{ "number for BYTES", &all,
	  JSON(ONE("BYTES", "BYTES", "\"shape\":[2],\"data\":[\"a\",1]")), 400,
	  "'BYTES': element 1: must be a string" },
	{ "list for BYTES", &texts,
	  JSON(ONE("s", "BYTES", "\"shape\":[1,2],\"data\":[[\"a\",[\"b\"]]]")), 400,
	  "element 1: must be a string" },

	/* binary data */
	{ "size and data", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2,3,4],\"parameters\":{\"binary_data_"
	             "size\":"
	             "16}")),
	  400, "exclude one another" },
	{ "size is text", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":\"16\"}")),
	  400, "binary_data_size must be a number" },
	{ "size is negative", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":-16}")), 400,
	  "binary_data_size must be a number" },
	{ "size without header", &image,
	  JSON(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}")), 400,
	  "binary_data_size is 16, more than the 0 bytes that the body has left" },
	{ "short", &image,
	  BINARY(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}"),
	         ZEROS_8),
	  400, "is 16, more than the 8 bytes" },
	{ "long", &image,
	  BINARY(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}"),
	         ZEROS_8 ZEROS_8 ZEROS_8),
	  400, "unexpected additional input data for model 'image-model': 8 bytes" },
	{ "wrong size", &image,
	  BINARY(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":12}"),
	         ZEROS_8 "\0\0\0\0"),
	  400, "12 bytes of binary data, but 4 elements of FP32 take 16" },
	{ "additional with JSON data", &image,
	  BINARY("{\"inputs\":[" GOOD_INPUT "]}", "12345"), 400, "5 bytes behind" },
	{ "header is no number", &image,
	  WITH("inference-header-content-length: 0x10\n", "{}"), 400,
	  "must be a number" },
	{ "header is negative", &image,
	  WITH("inference-header-content-length: -1\n", "{}"), 400, "must be a number" },
	{ "header is empty", &image, WITH("inference-header-content-length: \n", "{}"),
	  400, "is empty" },
	{ "header is huge", &image,
	  WITH("inference-header-content-length: 99999999999999999999999\n", "{}"), 400,
	  "must be a number" },
	{ "header beyond body", &image, WITH(LENGTH(3), "{}"), 400,
	  "is 3, the body has only 2 bytes" },
	{ "header twice", &image, WITH(LENGTH(2) LENGTH(2), "{}"), 400, "given twice" },
	{ "header cuts the JSON", &image, WITH(LENGTH(5), "{\"inputs\":[]}"), 400,
	  "no JSON" },
	{ "BOOL byte", &mask,
	  BINARY(ONE("x", "BOOL",
	             "\"shape\":[2],\"parameters\":{\"binary_data_size\":2}"),
	         "\1\2"),
	  400, "element 1 of BOOL is 2, not 0 or 1" },
	{ "BYTES cut in a length", &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[1],\"parameters\":{\"binary_data_size\":3}"),
	         "\1\0\0"),
	  400, "3 bytes of binary data are not the 1 elements" },
	{ "BYTES cut in a text", &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[1],\"parameters\":{\"binary_data_size\":5}"),
	         "\2\0\0\0a"),
	  400, "each a uint32 length" },
	{ "BYTES with a tail", &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[1],\"parameters\":{\"binary_data_size\":6}"),
	         "\1\0\0\0ab"),
	  400, "each a uint32 length" },
	{ "BYTES length wraps", &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[2],\"parameters\":{\"binary_data_size\":8}"),
	         "\xff\xff\xff\xff\0\0\0\0"),
	  400, "each a uint32 length" },
	{ "BYTES of a huge shape", &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[9223372036854775807],\"parameters\":{\"binary_data_"
	             "size\":4}"),
	         "\0\0\0\0"),
	  400, "9223372036854775807" },

	/* raw */
	{ "raw of many inputs", &all, BINARY("", "x"), 400, "has 4 inputs" },
	{ "raw of free dims", &freer_dims, BINARY("", "12345678"), 400,
	  "several variable dims" },
	{ "raw of half a row", &image, BINARY("", "123456789012345678901234"), 400,
	  "24 bytes of binary data, but 4 elements of FP32 take 16" },
	{ "raw of wide BYTES", &texts, BINARY("", "abc"), 400,
	  "a raw request is one text" },
	{ "raw of what cannot be", &huge, BINARY("", "12345678"), 400,
	  "more elements than can be" },

	/* outputs */
	{ "outputs is an object", &image,
	  JSON("{\"outputs\":{},\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "outputs must be a list" },
	{ "output has no name", &image,
	  JSON("{\"outputs\":[{}],\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "each of outputs needs a name" },
	{ "unknown output", &image,
	  JSON("{\"outputs\":[{\"name\":\"image\"}],\"inputs\":[" GOOD_INPUT "]}"), 400,
	  "has no output 'image'; it has 'scores', 'class'" },
	{ "output twice", &image,
	  JSON("{\"outputs\":[{\"name\":\"class\"},{\"name\":\"class\"}],\"inputs\":"
	       "[" GOOD_INPUT "]}"),
	  400, "output 'class': it is asked for twice" },
	{ "binary_data is text", &image,
	  JSON("{\"outputs\":[{\"name\":\"class\",\"parameters\":{\"binary_data\":\"no\"}"
	       "}],"
	       "\"inputs\":[" GOOD_INPUT "]}"),
	  400, "binary_data must be true or false" },
	{ "classification", &image,
	  JSON("{\"outputs\":[{\"name\":\"scores\",\"parameters\":{\"classification\":3}}"
	       "],"
	       "\"inputs\":[" GOOD_INPUT "]}"),
	  501, "classification is not supported" },
	{ "output in shared memory", &image,
	  JSON("{\"outputs\":[{\"name\":\"class\",\"parameters\":{"
	       "\"shared_memory_region\":\"r\"}}],\"inputs\":[" GOOD_INPUT "]}"),
	  501, "shared memory" },
	{ "FP16 in JSON", &half, JSON("{\"inputs\":[]}"), 400,
	  "output 'h': FP16 has no form in JSON: ask for binary_data" },
	{ "BF16 in JSON", &brain, JSON("{\"outputs\":[{\"name\":\"h\"}],\"inputs\":[]}"),
	  400, "output 'h': BF16 has no form in JSON: ask for binary_data" },

	/* compression */
	{ "unknown encoding", &image, WITH("content-encoding: br\n", "{}"), 415,
	  "gzip, deflate or identity" },
	{ "encoding twice", &image,
	  WITH("content-encoding: gzip\ncontent-encoding: gzip\n", "{}"), 415,
	  "given twice" },
	{ "two encodings", &image, WITH("content-encoding: gzip, gzip\n", "{}"), 415,
	  "gzip, deflate or identity" },
	{ "no gzip", &image, WITH("content-encoding: gzip\n", "{}"), 400,
	  "broken or not whole" },
	{ "no deflate", &image, WITH("content-encoding: deflate\n", "{}"), 400,
	  "broken or not whole" },
	{ "empty gzip", &image, WITH("content-encoding: gzip\n", ""), 400,
	  "broken or not whole" },
};

static void test_refusals(void **state)
{
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(refusals); i++) {
		const struct refusal *row = &refusals[i];
		int status = call_decode(&call, row->model, &row->message);

		if (status != row->status || !strstr(call.err.text, row->says))
			fail_msg("%s: %d '%s' instead of %d '%s'", row->name, status,
			         call.err.text, row->status, row->says);
	}
	call_fini(&call);
}

/* After every refusal the request can be used for the next one. */
static void test_reuse(void **state)
{
	static const struct message good =
		JSON("{\"id\":\"a\",\"inputs\":[" GOOD_INPUT "]}");
	static const float want[] = { 1, 2, 3, 4 };
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(refusals); i++) {
		(void)call_decode(&call, refusals[i].model, &refusals[i].message);
		assert_int_equal(call_decode(&call, &image, &good), 0);
		assert_string_equal(call.request.id, "a");
		assert_int_equal(call.request.n_wanted, 2);
		assert_int_equal(call.request.inputs[0].bytes, sizeof(want));
		assert_memory_equal(call.request.inputs[0].data, want, sizeof(want));
	}
	call_fini(&call);
}

/* Lists within lists: the parser's recursion has an end. */
static void test_depth(void **state)
{
	char json[100000];
	struct message message = { .json = json, .json_bytes = sizeof(json) };
	struct call call;

	(void)state;
	memset(json, '[', sizeof(json));
	call_init(&call);
	assert_int_equal(call_decode(&call, &image, &message), 400);
	assert_non_null(strstr(call.err.text, "maximum parsing depth"));
	call_fini(&call);
}

/* The memory that JSON takes is bounded, too, and not only its text. */
static void test_parse_bound(void **state)
{
	static const struct {
		const char *item;
		int status;
	} rows[] = {
		{ "{},", 413 },   { "[],", 413 },   { "0,", 413 },
		{ "\"\",", 413 }, { "0.25,", 400 }, { "                ", 400 },
	};
	char *json = malloc(MAX_BODY);
	struct call call;

	(void)state;
	assert_non_null(json);
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message = { .json = json, .json_bytes = MAX_BODY };
		size_t bytes = strlen(rows[i].item);

		memset(json, ' ', MAX_BODY);
		json[0] = '[';
		for (size_t at = 1; at + bytes < MAX_BODY; at += bytes)
			memcpy(json + at, rows[i].item, bytes);
		if (call_decode(&call, &image, &message) != rows[i].status)
			fail_msg("'%s': '%s'", rows[i].item, call.err.text);
	}
	free(json);
	call_fini(&call);
}

/* An empty tensor that lies unaligned is copied like any other. */
static void test_room_for_nothing(void **state)
{
	struct oip_buffer buffer = { 0 };
	const unsigned char *data;

	(void)state;
	assert_true(oip_buffer_reserve(&buffer, 0));
	assert_non_null(buffer.data);
	data = buffer.data;
	assert_true(oip_buffer_reserve(&buffer, 0));
	assert_ptr_equal(buffer.data, data);
	oip_buffer_fini(&buffer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room_for_nothing),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_parse_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
