/* SPDX-License-Identifier: Apache-2.0 */

/* The elements of tensors in JSON: numbers, texts, and the lists that they stand in. */

#include "tests/unit/oip_call.h"

/* The second of two elements: as JSON, and its bytes in the tensor. */
static const struct {
	enum tensor_dtype dtype;
	const char *json;
	const char *data;
	size_t bytes;
} elements[] = {
	{ TENSOR_DTYPE_BOOL, "true", DATA("\1") },
	{ TENSOR_DTYPE_BOOL, "false", DATA("\0") },
	{ TENSOR_DTYPE_BOOL, "1", DATA("\1") },
	{ TENSOR_DTYPE_BOOL, "0", DATA("\0") },
	{ TENSOR_DTYPE_UINT8, "255", DATA("\xff") },
	{ TENSOR_DTYPE_UINT8, "0", DATA("\0") },
	{ TENSOR_DTYPE_UINT16, "65535", DATA("\xff\xff") },
	{ TENSOR_DTYPE_UINT32, "4294967295", DATA("\xff\xff\xff\xff") },
	{ TENSOR_DTYPE_UINT64, "9223372036854775807",
	  DATA("\xff\xff\xff\xff\xff\xff\xff\x7f") },
	{ TENSOR_DTYPE_UINT64, "9223372036854775808", DATA("\0\0\0\0\0\0\0\x80") },
	{ TENSOR_DTYPE_UINT64, "18446744073709551615",
	  DATA("\xff\xff\xff\xff\xff\xff\xff\xff") },
	{ TENSOR_DTYPE_UINT64, "-0", DATA(ZEROS_8) },
	{ TENSOR_DTYPE_INT8, "-128", DATA("\x80") },
	{ TENSOR_DTYPE_INT8, "127", DATA("\x7f") },
	{ TENSOR_DTYPE_INT16, "-32768", DATA("\0\x80") },
	{ TENSOR_DTYPE_INT16, "32767", DATA("\xff\x7f") },
	{ TENSOR_DTYPE_INT32, "-2147483648", DATA("\0\0\0\x80") },
	{ TENSOR_DTYPE_INT32, "2147483647", DATA("\xff\xff\xff\x7f") },
	{ TENSOR_DTYPE_INT64, "-9223372036854775808", DATA("\0\0\0\0\0\0\0\x80") },
	{ TENSOR_DTYPE_INT64, "9223372036854775807",
	  DATA("\xff\xff\xff\xff\xff\xff\xff\x7f") },
	{ TENSOR_DTYPE_FP32, "3.4028235e38", DATA("\xff\xff\x7f\x7f") },
	{ TENSOR_DTYPE_FP32, "-3.4028235e38", DATA("\xff\xff\x7f\xff") },
	{ TENSOR_DTYPE_FP32, "1.4e-45", DATA("\1\0\0\0") },
	{ TENSOR_DTYPE_FP32, "1e-60", DATA("\0\0\0\0") },
	{ TENSOR_DTYPE_FP32, "-0.0", DATA("\0\0\0\x80") },
	{ TENSOR_DTYPE_FP32, "-0", DATA("\0\0\0\x80") },
	/* JavaScript and Go write 1e20 like this. */
	{ TENSOR_DTYPE_FP32, "100000000000000000000", DATA("\xec\x78\xad\x60") },
	/* Rounded to a double first, the number would be a tie. */
	{ TENSOR_DTYPE_FP32, "1.00000005960464477540", DATA("\1\0\x80\x3f") },
	{ TENSOR_DTYPE_FP64, "9223372036854775808", DATA("\0\0\0\0\0\0\xe0\x43") },
	{ TENSOR_DTYPE_FP64, "-100000000000000000000",
	  DATA("\x40\x8c\xb5\x78\x1d\xaf\x15\xc4") },
	{ TENSOR_DTYPE_FP32, "16777217", DATA("\0\0\x80\x4b") },
	{ TENSOR_DTYPE_FP64, "1.7976931348623157e308",
	  DATA("\xff\xff\xff\xff\xff\xff\xef\x7f") },
	{ TENSOR_DTYPE_FP64, "5e-324", DATA("\1\0\0\0\0\0\0\0") },
	{ TENSOR_DTYPE_FP64, "3", DATA("\0\0\0\0\0\0\x08\x40") },
	{ TENSOR_DTYPE_BYTES, "\"\"", DATA("\0\0\0\0") },
	{ TENSOR_DTYPE_BYTES, "\"a\\u0000b\"", DATA("\3\0\0\0a\0b") },
};

static const struct {
	enum tensor_dtype dtype;
	const char *json;
	const char *says;
} bad_elements[] = {
	{ TENSOR_DTYPE_BOOL, "2", "element 1: must be true or false" },
	{ TENSOR_DTYPE_BOOL, "-1", "element 1: must be true or false" },
	{ TENSOR_DTYPE_BOOL, "1.0", "element 1: must be true or false" },
	{ TENSOR_DTYPE_BOOL, "\"true\"", "element 1: must be true or false" },
	{ TENSOR_DTYPE_BOOL, "null", "element 1: must be true or false" },
	{ TENSOR_DTYPE_UINT8, "256", "'v': element 1: is 256; UINT8 holds 0 to 255" },
	{ TENSOR_DTYPE_UINT8, "-1", "element 1: is -1; UINT8 holds 0 to 255" },
	{ TENSOR_DTYPE_UINT8, "1.0", "element 1: must be an integer without a point" },
	{ TENSOR_DTYPE_UINT8, "true", "element 1: must be an integer" },
	{ TENSOR_DTYPE_UINT16, "65536", "is 65536; UINT16 holds 0 to 65535" },
	{ TENSOR_DTYPE_UINT16, "-1", "is -1; UINT16" },
	{ TENSOR_DTYPE_UINT32, "4294967296", "UINT32 holds 0 to 4294967295" },
	{ TENSOR_DTYPE_UINT32, "-1", "is -1; UINT32" },
	{ TENSOR_DTYPE_UINT64, "18446744073709551616",
	  "is 18446744073709551616; UINT64 holds 0 to 18446744073709551615" },
	{ TENSOR_DTYPE_UINT64, "99999999999999999999999999999999999999999999",
	  "is 9999999999999999999999999999999999999999...; UINT64 holds 0 to" },
	{ TENSOR_DTYPE_UINT64, "-1", "is -1; UINT64" },
	{ TENSOR_DTYPE_INT8, "128", "is 128; INT8 holds -128 to 127" },
	{ TENSOR_DTYPE_INT8, "-129", "is -129; INT8 holds -128 to 127" },
	{ TENSOR_DTYPE_INT16, "32768", "is 32768; INT16" },
	{ TENSOR_DTYPE_INT16, "-32769", "is -32769; INT16" },
	{ TENSOR_DTYPE_INT32, "2147483648", "is 2147483648; INT32" },
	{ TENSOR_DTYPE_INT32, "-2147483649", "is -2147483649; INT32" },
	{ TENSOR_DTYPE_INT64, "9223372036854775808", "INT64 holds -9223372036854775808" },
	{ TENSOR_DTYPE_INT64, "-9223372036854775809", "is -9223372036854775809; INT64" },
	{ TENSOR_DTYPE_INT64, "1e3", "element 1: must be an integer without a point" },
	{ TENSOR_DTYPE_INT64, "\"1\"", "element 1: must be an integer" },
	{ TENSOR_DTYPE_FP16, "1", "FP16 has no form in JSON: send binary data" },
	{ TENSOR_DTYPE_BF16, "1", "BF16 has no form in JSON: send binary data" },
	{ TENSOR_DTYPE_FP32, "3.5e38", "is 3.5e38, which FP32 does not hold" },
	{ TENSOR_DTYPE_FP32, "-3.5e38", "is -3.5e38, which FP32 does not hold" },
	{ TENSOR_DTYPE_FP32, "\"1\"", "element 1: must be a number" },
	{ TENSOR_DTYPE_FP32, "true", "element 1: must be a number" },
	{ TENSOR_DTYPE_FP32, "{}", "element 1: must be a number" },
	{ TENSOR_DTYPE_FP64, "1e309", "is 1e309, which FP64 does not hold" },
	{ TENSOR_DTYPE_FP32, "01", "no JSON" },
	{ TENSOR_DTYPE_FP32, "1.", "no JSON" },
	{ TENSOR_DTYPE_FP32, ".5", "no JSON" },
	{ TENSOR_DTYPE_FP32, "+1", "no JSON" },
	{ TENSOR_DTYPE_FP32, "1e", "no JSON" },
	{ TENSOR_DTYPE_FP32, "1,", "no JSON" },
	{ TENSOR_DTYPE_FP32, "0x1", "no JSON" },
	{ TENSOR_DTYPE_FP32, "1 2", "no JSON" },
	{ TENSOR_DTYPE_FP64, "null", "element 1: must be a number" },
	{ TENSOR_DTYPE_BYTES, "1", "element 1: must be a string" },
	{ TENSOR_DTYPE_BYTES, "null", "element 1: must be a string" },
	{ TENSOR_DTYPE_BYTES, "[\"a\"]", "element 1: must be a string" },
};

static int decode_element(struct call *call, enum tensor_dtype dtype, const char *json)
{
	const char *first = dtype == TENSOR_DTYPE_BYTES ? "\"\"" : "0";
	struct tensor_spec spec;
	struct oip_model model = model_of(dtype, &spec);
	char body[256];
	struct message message = { .json = body };

	message.json_bytes = (size_t)snprintf(
		body, sizeof(body),
		"{\"parameters\":{\"binary_data_output\":true},\"inputs\":[{\"name\":"
		"\"v\",\"datatype\":\"%s\",\"shape\":[2],\"data\":[%s,%s]}]}",
		tensor_dtype_name(dtype), first, json);
	return call_decode(call, &model, &message);
}

static void test_elements(void **state)
{
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(elements); i++) {
		enum tensor_dtype dtype = elements[i].dtype;
		size_t first_bytes = dtype == TENSOR_DTYPE_BYTES
		                             ? sizeof(uint32_t)
		                             : tensor_dtype_bytes(dtype);
		const struct engine_tensor *tensor = &call.request.inputs[0];

		if (decode_element(&call, dtype, elements[i].json) != 0)
			fail_msg("%s: '%s'", elements[i].json, call.err.text);
		assert_int_equal(tensor->bytes, first_bytes + elements[i].bytes);
		if (memcmp((const char *)tensor->data + first_bytes, elements[i].data,
		           elements[i].bytes) != 0)
			fail_msg("%s %s: other bytes", tensor_dtype_name(dtype),
			         elements[i].json);
	}
	for (size_t i = 0; i < COUNT(bad_elements); i++) {
		int r = decode_element(&call, bad_elements[i].dtype,
		                       bad_elements[i].json);

		if (r != 400 || !strstr(call.err.text, bad_elements[i].says))
			fail_msg("%s %s: %d '%s'",
			         tensor_dtype_name(bad_elements[i].dtype),
			         bad_elements[i].json, r, call.err.text);
	}
	call_fini(&call);
}

/* Places of a list, and lists that are not of numbers. */
static const struct {
	const char *name;
	const char *json;
	int r;
} lists[] = {
	{ "data first",
	  "{\"inputs\":[{\"data\":[1,2,3,4],\"shape\":[1,4],\"datatype\":"
	  "\"FP32\",\"name\":\"image\"}]}",
	  0 },
	{ "data of something else",
	  "{\"parameters\":{\"data\":[1,2]},\"inputs\":[{\"parameters\":{\"data\":[[9]]},"
	  "\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[1,2,3,4]}]"
	  "}",
	  0 },
	{ "data in a text",
	  "{\"id\":\"\\\"inputs\\\":[{\\\"data\\\":[1,2\",\"inputs\":[{\"name\":"
	  "\"image\","
	  "\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[1,2,3,4]}]}",
	  0 },
	{ "blanks",
	  "{ \"inputs\" : [ { \"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4]"
	  ",\"data\" : [\n[ 1 ,\t2, 3 , 4 ] ] } ] } ",
	  0 },
	{ "data twice",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],"
	  "\"data\":[1,2,3,4],\"data\":[1,2,3,4]}]}",
	  400 },
	{ "inputs twice",
	  "{\"inputs\":[],\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\","
	  "\"shape\":[1,4],\"data\":[1,2,3,4]}]}",
	  400 },
	{ "no end",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],"
	  "\"data\":[1,2,3,4",
	  400 },
	{ "behind the end",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":"
	  "[1,4],\"data\":[1,2,3,4]}]}]",
	  400 },
	{ "no comma",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],"
	  "\"data\":[1,2,3 4]}]}",
	  400 },
	{ "list behind a list",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\","
	  "\"shape\":[1,4],\"data\":[1,2,3,4][5]}]}",
	  400 },
	{ "brackets that do not match",
	  "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\","
	  "\"shape\":[1,4],\"data\":[1,2,3,4}]}]}",
	  400 },
};

static void test_lists(void **state)
{
	static const float want[] = { 1, 2, 3, 4 };
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(lists); i++) {
		const struct message message = { .json = lists[i].json,
			                         .json_bytes = strlen(lists[i].json) };

		if (call_decode(&call, &image, &message) != lists[i].r)
			fail_msg("%s: '%s'", lists[i].name, call.err.text);
		if (lists[i].r == 0)
			assert_memory_equal(call.request.inputs[0].data, want,
			                    sizeof(want));
	}
	call_fini(&call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
