/* SPDX-License-Identifier: Apache-2.0 */

/* Good requests into tensors. */

#include "tests/unit/oip_call.h"

struct want {
	struct tensor_shape shape;
	const char *data;
	size_t bytes;
};

static const struct {
	const char *name;
	const struct oip_model *model;
	struct message message;
	struct want want; /* of the first input */
} goods[] = {
	{ "flat",
	  &image,
	  JSON(IMAGE("\"shape\":[1,4],\"data\":[1,2.5,-3e2,0]")),
	  { { 2, { 1, 4 } }, DATA("\0\0\x80\x3f\0\0\x20\x40\0\0\x96\xc3\0\0\0\0") } },
	{ "nested",
	  &image,
	  JSON(IMAGE("\"shape\":[2,4],\"data\":[[0,0,0,0],[0,0,0,1]]")),
	  { { 2, { 2, 4 } }, DATA(ZEROS_8 ZEROS_8 ZEROS_8 "\0\0\0\0\0\0\x80\x3f") } },
	{ "nested thrice",
	  &cube,
	  JSON(ONE("x", "INT16", "\"shape\":[1,2,2],\"data\":[[[1,-2],[32767,-32768]]]")),
	  { { 3, { 1, 2, 2 } }, DATA("\1\0\xfe\xff\xff\x7f\0\x80") } },
	{ "one row of one",
	  &wide,
	  JSON(ONE("x", "UINT64", "\"shape\":[1],\"data\":[9223372036854775807]")),
	  { { 1, { 1 } }, DATA("\xff\xff\xff\xff\xff\xff\xff\x7f") } },
	{ "no rows",
	  &image,
	  JSON(IMAGE("\"shape\":[0,4],\"data\":[]")),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "empty rows",
	  &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[2,0],\"data\":[[],[]]")),
	  { { 2, { 2, 0 } }, DATA("") } },
	{ "empty and huge",
	  &free_dims,
	  JSON(ONE("x", "FP64", "\"shape\":[9223372036854775807,0],\"data\":[]")),
	  { { 2, { INT64_MAX, 0 } }, DATA("") } },
	{ "scalar",
	  &scalar,
	  JSON(ONE("x", "INT32", "\"shape\":[],\"data\":[-2]")),
	  { { 0, { 0 } }, DATA("\xfe\xff\xff\xff") } },
	{ "BOOL",
	  &mask,
	  JSON(ONE("x", "BOOL", "\"shape\":[4],\"data\":[true,false,1,0]")),
	  { { 1, { 4 } }, DATA("\1\0\1\0") } },
	{ "BYTES",
	  &text,
	  JSON(ONE("s", "BYTES",
	           "\"shape\":[3],\"data\":[\"a\\u00fc\",\"\",\"n\\u0000l\"]")),
	  { { 1, { 3 } }, DATA("\3\0\0\0a\xc3\xbc\0\0\0\0\3\0\0\0n\0l") } },
	{ "BYTES nested",
	  &texts,
	  JSON(ONE("s", "BYTES", "\"shape\":[1,2],\"data\":[[\"a\",\"bc\"]]")),
	  { { 2, { 1, 2 } }, DATA("\1\0\0\0a\2\0\0\0bc") } },
	{ "unknown keys and parameters",
	  &image,
	  JSON("{\"x\":[{}],\"parameters\":{\"priority\":3,\"timeout\":1},\"inputs\":[{"
	       "\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[0,4],\"data\":[],"
	       "\"parameters\":{\"content_type\":\"np\"}}]}"),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "null is what is not there",
	  &image,
	  JSON("{\"id\":null,\"parameters\":null,\"outputs\":null,\"inputs\":[{"
	       "\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[0,4],\"data\":[],"
	       "\"parameters\":null}]}"),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "white space",
	  &image,
	  JSON(" \r\n\t{ \"inputs\" : [ { \"name\" : \"image\" , \"datatype\" : \"FP32\" "
	       ","
	       "\"shape\" : [ 0 , 4 ] , \"data\" : [ ] } ] } \n"),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "identity",
	  &image,
	  WITH("content-encoding: identity\n", IMAGE("\"shape\":[0,4],\"data\":[]")),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "binary",
	  &image,
	  BINARY(IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}"),
	         "abcdefghijklmnop"),
	  { { 2, { 1, 4 } }, DATA("abcdefghijklmnop") } },
	{ "binary of no rows",
	  &image,
	  BINARY(IMAGE("\"shape\":[0,4],\"parameters\":{\"binary_data_size\":0}"), ""),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "JSON data with the header",
	  &image,
	  BINARY(IMAGE("\"shape\":[0,4],\"data\":[]"), ""),
	  { { 2, { 0, 4 } }, DATA("") } },
	{ "binary BYTES",
	  &text,
	  BINARY(ONE("s", "BYTES",
	             "\"shape\":[2],\"parameters\":{\"binary_data_size\":11}"),
	         "\3\0\0\0a\0\xff\0\0\0\0"),
	  { { 1, { 2 } }, DATA("\3\0\0\0a\0\xff\0\0\0\0") } },
	{ "binary FP16",
	  &half,
	  BINARY("{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":"
	         "\"h\","
	         "\"datatype\":\"FP16\",\"shape\":[2],\"parameters\":{\"binary_data_"
	         "size\":"
	         "4}}]}",
	         "\0\x3c\0\x3c"),
	  { { 1, { 2 } }, DATA("\0\x3c\0\x3c") } },
	{ "raw",
	  &image,
	  BINARY("", "abcdefghijklmnop"),
	  { { 2, { 1, 4 } }, DATA("abcdefghijklmnop") } },
	{ "raw of two rows",
	  &image,
	  BINARY("", "abcdefghijklmnopabcdefghijklmnop"),
	  { { 2, { 2, 4 } }, DATA("abcdefghijklmnopabcdefghijklmnop") } },
	{ "raw of a free width",
	  &free_dims,
	  BINARY("", "abcdefghijklmnop"),
	  { { 2, { 1, 2 } }, DATA("abcdefghijklmnop") } },
	{ "raw scalar", &scalar, BINARY("", "abcd"), { { 0, { 0 } }, DATA("abcd") } },
	{ "raw of nothing", &image, BINARY("", ""), { { 2, { 0, 4 } }, DATA("") } },
	{ "raw BYTES",
	  &text,
	  BINARY("", "a\0b"),
	  { { 1, { 1 } }, DATA("\3\0\0\0a\0b") } },
	{ "raw BYTES of nothing",
	  &text,
	  BINARY("", ""),
	  { { 1, { 1 } }, DATA("\0\0\0\0") } },
};

static void check_tensor(const char *name, const struct oip_model *model,
                         const struct engine_tensor *tensor, const struct want *want)
{
	size_t element = tensor_dtype_bytes(tensor->dtype);

	assert_int_equal(tensor->dtype, model->inputs[0].dtype);
	if (tensor->shape.rank != want->shape.rank ||
	    memcmp(tensor->shape.dims, want->shape.dims,
	           want->shape.rank * sizeof(want->shape.dims[0])) != 0 ||
	    tensor->bytes != want->bytes)
		fail_msg("%s: another shape or size (%zu)", name, tensor->bytes);
	assert_non_null(tensor->data);
	if (element > 0)
		assert_int_equal((uintptr_t)tensor->data % element, 0);
	if (want->bytes > 0 && memcmp(tensor->data, want->data, want->bytes) != 0)
		fail_msg("%s: other data", name);
}

static void test_goods(void **state)
{
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(goods); i++) {
		if (call_decode(&call, goods[i].model, &goods[i].message) != 0)
			fail_msg("%s: '%s'", goods[i].name, call.err.text);
		check_tensor(goods[i].name, goods[i].model, &call.request.inputs[0],
		             &goods[i].want);
	}
	call_fini(&call);
}

/* Four inputs; the binary ones come in the order of the request. */
static void test_many_inputs(void **state)
{
	static const struct message message =
		BINARY("{\"id\":\"42\",\"inputs\":["
	               "{\"name\":\"BYTES\",\"datatype\":\"BYTES\",\"shape\":[1],"
	               "\"parameters\":{\"binary_data_size\":6}},"
	               "{\"name\":\"INT8\",\"datatype\":\"INT8\",\"shape\":[2],\"data\":["
	               "-128,127]},"
	               "{\"name\":\"BOOL\",\"datatype\":\"BOOL\",\"shape\":[3],"
	               "\"parameters\":{\"binary_data_size\":3}},"
	               "{\"name\":\"UINT8\",\"datatype\":\"UINT8\",\"shape\":[2],"
	               "\"data\":[0,255]}]}",
	               "\2\0\0\0hi\1\0\1");
	const struct engine_tensor *inputs;
	struct call call;

	(void)state;
	call_init(&call);
	inputs = call.request.inputs;
	assert_int_equal(call_decode(&call, &all, &message), 0);
	assert_memory_equal(inputs[0].data, "\1\0\1", 3);
	assert_memory_equal(inputs[1].data, "\0\xff", 2);
	assert_memory_equal(inputs[2].data, "\x80\x7f", 2);
	assert_memory_equal(inputs[3].data, "\2\0\0\0hi", 6);
	assert_string_equal(call.request.id, "42");
	call_fini(&call);
}

/* Aligned tensors stay in the body; others move to scratch, which does not grow again. */
static void test_copies(void **state)
{
	static const char format[] =
		"{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\","
		"\"shape\":[2,4],\"parameters\":{\"binary_data_size\":"
		"32}}]}%*s";
	char json[160];
	char binary[32];
	struct call call;
	size_t capacity = 0;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < sizeof(binary); i++)
		binary[i] = (char)i;
	for (int blanks = 1; blanks <= 16; blanks++) {
		struct message message = { .json = json,
			                   .binary = binary,
			                   .binary_bytes = sizeof(binary) };
		const unsigned char *data;

		message.json_bytes =
			(size_t)snprintf(json, sizeof(json), format, blanks, "");
		assert_int_equal(call_decode(&call, &image, &message), 0);
		data = call.request.inputs[0].data;
		assert_memory_equal(data, binary, sizeof(binary));
		if (message.json_bytes % sizeof(float) == 0)
			assert_ptr_equal(data, call.memory + message.json_bytes);
		else
			assert_ptr_equal(data, call.request.scratch.data);
		if (blanks > 8)
			assert_int_equal(call.request.scratch.capacity_bytes, capacity);
		capacity = call.request.scratch.capacity_bytes;
	}
	call_fini(&call);
}

static void test_id(void **state)
{
	static const char format[] = "{\"id\":\"%.*s\",\"inputs\":[" GOOD_INPUT "]}";
	char id[OIP_ID_MAX + 1];
	char json[OIP_ID_MAX + 128];
	struct call call;

	(void)state;
	memset(id, 'x', sizeof(id));
	call_init(&call);
	for (int bytes = OIP_ID_MAX - 1; bytes <= OIP_ID_MAX; bytes++) {
		struct message message = { .json = json };

		message.json_bytes =
			(size_t)snprintf(json, sizeof(json), format, bytes, id);
		assert_int_equal(call_decode(&call, &image, &message),
		                 bytes < OIP_ID_MAX ? 0 : 400);
	}
	call_fini(&call);
}

/* Every datatype in binary: two elements, unchanged. */
static void test_binary_of_each(void **state)
{
	static const char data[] = "\1\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0";
	struct call call;

	(void)state;
	call_init(&call);
	for (int i = 0; i < TENSOR_DTYPE_COUNT; i++) {
		enum tensor_dtype dtype = (enum tensor_dtype)i;
		/* BYTES: two texts, the bytes 1 and 0. */
		size_t bytes =
			dtype == TENSOR_DTYPE_BYTES ? 10 : 2 * tensor_dtype_bytes(dtype);
		struct tensor_spec spec;
		struct oip_model model = model_of(dtype, &spec);
		char json[256];
		struct message message = { .json = json,
			                   .binary = dtype == TENSOR_DTYPE_BYTES
			                                     ? "\1\0\0\0\1\1\0\0\0\0"
			                                     : data,
			                   .binary_bytes = bytes };

		message.json_bytes = (size_t)snprintf(
			json, sizeof(json),
			"{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{"
			"\"name\":\"v\",\"datatype\":\"%s\",\"shape\":[2],"
			"\"parameters\":{\"binary_data_size\":%zu}}]}",
			tensor_dtype_name(dtype), bytes);
		if (call_decode(&call, &model, &message) != 0)
			fail_msg("%s: '%s'", tensor_dtype_name(dtype), call.err.text);
		assert_int_equal(call.request.inputs[0].bytes, bytes);
		assert_memory_equal(call.request.inputs[0].data, message.binary, bytes);
		message.binary_bytes--;
		assert_int_equal(call_decode(&call, &model, &message), 400);
		assert_non_null(strstr(call.err.text, "that the body has left"));
		message.binary_bytes += 2;
		assert_int_equal(call_decode(&call, &model, &message), 400);
		assert_non_null(strstr(call.err.text, "unexpected additional"));
	}
	call_fini(&call);
}

static void test_raw(void **state)
{
	static const char body[] = "\1\0\1\0\1\0\1\0\1\0\1\0\1\0\1\0";
	static const struct {
		enum tensor_dtype dtype;
		struct tensor_shape shape;
		size_t bytes;
		int status;
		const char *got; /* the shape, or a part of the sentence */
	} rows[] = {
		{ TENSOR_DTYPE_FP32, { 2, { -1, 2 } }, 16, 0, "[2,2]" },
		{ TENSOR_DTYPE_FP32, { 2, { -1, -1 } }, 16, 0, "[1,4]" },
		{ TENSOR_DTYPE_FP32, { 2, { 2, -1 } }, 16, 0, "[2,2]" },
		{ TENSOR_DTYPE_FP32, { 1, { 4 } }, 16, 0, "[4]" },
		{ TENSOR_DTYPE_FP32, { 0, { 0 } }, 4, 0, "[]" },
		{ TENSOR_DTYPE_FP32, { 2, { -1, 0 } }, 0, 0, "[1,0]" },
		{ TENSOR_DTYPE_FP16, { 1, { -1 } }, 6, 0, "[3]" },
		{ TENSOR_DTYPE_BOOL, { 1, { -1 } }, 5, 0, "[5]" },
		{ TENSOR_DTYPE_BYTES, { 1, { -1 } }, 5, 0, "[1]" },
		{ TENSOR_DTYPE_BYTES, { 1, { 1 } }, 0, 0, "[1]" },
		{ TENSOR_DTYPE_BYTES, { 2, { -1, 1 } }, 5, 0, "[1,1]" },
		{ TENSOR_DTYPE_FP32, { 1, { 4 } }, 15, 400, "15 bytes of binary data" },
		{ TENSOR_DTYPE_FP32, { 1, { -1 } }, 3, 400, "3 bytes of binary data" },
		{ TENSOR_DTYPE_FP32, { 2, { -1, 0 } }, 4, 400, "4 bytes of binary data" },
		{ TENSOR_DTYPE_FP32, { 3, { -1, -1, -1 } }, 4, 400, "several variable" },
		{ TENSOR_DTYPE_FP32, { 3, { 2, -1, -1 } }, 4, 400, "several variable" },
		{ TENSOR_DTYPE_BYTES, { 1, { 2 } }, 4, 400, "a raw request is one text" },
		{ TENSOR_DTYPE_FP64, { 2, { INT64_MAX, 9 } }, 4, 400, "than can be" },
	};
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct tensor_spec spec;
		struct oip_model model = model_of(rows[i].dtype, &spec);
		struct message message = { .json = "",
			                   .binary = body,
			                   .binary_bytes = rows[i].bytes };
		const struct engine_tensor *tensor = &call.request.inputs[0];
		size_t prefix = rows[i].dtype == TENSOR_DTYPE_BYTES ? 4 : 0;
		char got[64];
		int r;

		spec.shape = rows[i].shape;
		r = call_decode(&call, &model, &message);
		if (r != rows[i].status ||
		    (r != 0 && !strstr(call.err.text, rows[i].got)))
			fail_msg("row %zu: %d '%s'", i, r, call.err.text);
		if (r != 0)
			continue;
		assert_string_equal(tensor_shape_print(&tensor->shape, got, sizeof(got)),
		                    rows[i].got);
		assert_int_equal(tensor->bytes, prefix + rows[i].bytes);
		assert_memory_equal((const char *)tensor->data + prefix, body,
		                    rows[i].bytes);
		assert_true(call.request.wanted[0].is_binary);
	}
	call_fini(&call);
}

/* Outputs and headers */

static void test_wanted(void **state)
{
	static const struct {
		const char *rest;
		const char *wanted; /* first letters in order; upper case: binary */
	} rows[] = {
		{ "", "sc" },
		{ ",\"outputs\":[]", "sc" },
		{ ",\"outputs\":[{\"name\":\"class\"},{\"name\":\"scores\"}]", "cs" },
		{ ",\"outputs\":[{\"name\":\"class\"}]", "c" },
		{ ",\"parameters\":{\"binary_data_output\":true}", "SC" },
		{ ",\"parameters\":{\"binary_data_output\":false}", "sc" },
		{ ",\"parameters\":{\"binary_data_output\":true},\"outputs\":[{\"name\":"
		  "\"class\",\"parameters\":{\"binary_data\":false}},{\"name\":"
		  "\"scores\"}]",
		  "cS" },
		{ ",\"outputs\":[{\"name\":\"class\",\"parameters\":{\"binary_data\":"
		  "true,"
		  "\"unknown\":3}},{\"name\":\"scores\",\"parameters\":null}]",
		  "Cs" },
	};
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		char json[512];
		struct message message = { .json = json };
		char got[8] = "";

		message.json_bytes =
			(size_t)snprintf(json, sizeof(json),
		                         "{\"inputs\":[" GOOD_INPUT "]%s}", rows[i].rest);
		assert_int_equal(call_decode(&call, &image, &message), 0);
		for (size_t k = 0; k < call.request.n_wanted; k++) {
			const struct oip_wanted *wanted = &call.request.wanted[k];
			char letter = image.outputs[wanted->output].name[0];

			got[k] = (char)(wanted->is_binary ? letter - 'a' + 'A' : letter);
		}
		assert_string_equal(got, rows[i].wanted);
	}
	call_fini(&call);
}

static void test_timeout(void **state)
{
	static const struct {
		const char *parameters;
		uint64_t timeout_ns;
	} rows[] = {
		{ "{}", 0 },
		{ "null", 0 },
		{ "{\"timeout\":null}", 0 },
		{ "{\"timeout\":0}", 0 },
		{ "{\"timeout\":1,\"priority\":3}", 1000 },
		{ "{\"timeout\":9223372036854775}", UINT64_C(9223372036854775000) },
		/* A time beyond the clock means for ever. */
		{ "{\"timeout\":9223372036854775807}", 0 },
	};
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		char json[256];
		struct message message = { .json = json };

		message.json_bytes =
			(size_t)snprintf(json, sizeof(json),
		                         "{\"parameters\":%s,\"inputs\":[%s]}",
		                         rows[i].parameters, GOOD_INPUT);
		if (call_decode(&call, &image, &message) != 0)
			fail_msg("%s: '%s'", rows[i].parameters, call.err.text);
		assert_int_equal(call.request.timeout_ns, rows[i].timeout_ns);
	}
	call_fini(&call);
}

/* A header that was sent before is not parsed again, and has the same meaning. */
static void test_same_header(void **state)
{
	static const char json[] =
		"{\"id\":\"same\",\"parameters\":{\"timeout\":250},\"outputs\":[{"
		"\"name\":\"class\"}],\"inputs\":[{"
		"\"name\":"
		"\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],\"parameters\":{"
		"\"binary_data_size\":16}}]}";
	static const struct message other = JSON("{\"inputs\":[" GOOD_INPUT "]}");
	struct message message = { .json = json, .json_bytes = sizeof(json) - 1 };
	struct call call;

	(void)state;
	call_init(&call);
	for (int i = 0; i < 8; i++) {
		const float floats[] = { (float)i, 1, 2, 3, 4 };

		message.binary = (const char *)floats;
		message.binary_bytes = 16;
		assert_int_equal(call_decode(&call, &image, &message), 0);
		assert_memory_equal(call.request.inputs[0].data, floats, 16);
		assert_string_equal(call.request.id, "same");
		assert_int_equal(call.request.timeout_ns, 250000);
		assert_int_equal(call.request.n_wanted, 1);
		assert_int_equal(call.request.wanted[0].output, 1);
		/* Too few and too many bytes are still refused. */
		message.binary_bytes = 15;
		assert_int_equal(call_decode(&call, &image, &message), 400);
		assert_non_null(strstr(call.err.text, "more than the 15 bytes"));
		message.binary_bytes = 20;
		assert_int_equal(call_decode(&call, &image, &message), 400);
		assert_non_null(strstr(call.err.text, "unexpected additional"));
		if (i % 2 == 0)
			continue;
		/* Another request in between leaves nothing behind. */
		assert_int_equal(call_decode(&call, &image, &other), 0);
		assert_string_equal(call.request.id, "");
		assert_int_equal(call.request.timeout_ns, 0);
		assert_int_equal(call.request.n_wanted, 2);
	}
	call_fini(&call);
}

/* Headers too long to be kept work as well. */
static void test_long_header(void **state)
{
	static const char format[] =
		"{\"x\":\"%0*d\",\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\","
		"\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}}]}";
	char json[8192];
	struct call call;

	(void)state;
	call_init(&call);
	for (int bytes = 3990; bytes < 5000; bytes += 7) {
		struct message message = { .json = json,
			                   .binary = "abcdefghijklmnop",
			                   .binary_bytes = 16 };

		message.json_bytes =
			(size_t)snprintf(json, sizeof(json), format, bytes, 0);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(call_decode(&call, &image, &message), 0);
			assert_memory_equal(call.request.inputs[0].data,
			                    "abcdefghijklmnop", 16);
		}
	}
	call_fini(&call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goods),          cmocka_unit_test(test_many_inputs),
		cmocka_unit_test(test_copies),         cmocka_unit_test(test_id),
		cmocka_unit_test(test_binary_of_each), cmocka_unit_test(test_raw),
		cmocka_unit_test(test_wanted),         cmocka_unit_test(test_same_header),
		cmocka_unit_test(test_long_header),    cmocka_unit_test(test_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
