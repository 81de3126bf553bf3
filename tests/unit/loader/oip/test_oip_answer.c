/* SPDX-License-Identifier: Apache-2.0 */

/* Tensors into answers, byte for byte. */

#include <math.h>

#include "tests/unit/oip_call.h"

struct answer {
	const char *name;
	enum tensor_dtype dtype;
	const void *data;
	size_t bytes;
	const char *text; /* of data */
};

static const struct answer answers[] = {
	{ "BOOL", TENSOR_DTYPE_BOOL, DATA("\1\0\1"), "true,false,true" },
	{ "UINT8", TENSOR_DTYPE_UINT8, DATA("\0\x9\xff"), "0,9,255" },
	{ "INT8", TENSOR_DTYPE_INT8, DATA("\0\x80\x7f"), "0,-128,127" },
	{ "UINT16", TENSOR_DTYPE_UINT16, DATA("\xff\xff"), "65535" },
	{ "INT16", TENSOR_DTYPE_INT16, DATA("\0\x80\xff\xff"), "-32768,-1" },
	{ "UINT32", TENSOR_DTYPE_UINT32, DATA("\xff\xff\xff\xff"), "4294967295" },
	{ "INT32", TENSOR_DTYPE_INT32, DATA("\0\0\0\x80"), "-2147483648" },
	{ "UINT64", TENSOR_DTYPE_UINT64, DATA("\xff\xff\xff\xff\xff\xff\xff\xff"),
	  "18446744073709551615" },
	{ "INT64", TENSOR_DTYPE_INT64, DATA("\0\0\0\0\0\0\0\x80"),
	  "-9223372036854775808" },
	{ "nothing", TENSOR_DTYPE_FP32, DATA(""), "" },
	{ "BYTES", TENSOR_DTYPE_BYTES, DATA("\2\0\0\0ab\0\0\0\0\1\0\0\0c"),
	  "\"ab\",\"\",\"c\"" },
	{ "escapes", TENSOR_DTYPE_BYTES, DATA("\6\0\0\0\"\\\n\0\x1f\x7f"),
	  "\"\\\"\\\\\\u000a\\u0000\\u001f\x7f\"" },
	{ "only escapes", TENSOR_DTYPE_BYTES, DATA("\4\0\0\0\1\1\1\1"),
	  "\"\\u0001\\u0001\\u0001\\u0001\"" },
	{ "UTF-8", TENSOR_DTYPE_BYTES,
	  DATA("\x12\0\0\0\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf"
	       "\xf4\x8f\xbf\xbf"
	       "."),
	  "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xef\xbf\xbf\xf4\x8f\xbf\xbf.\"" },
	{ "no UTF-8", TENSOR_DTYPE_BYTES, DATA("\1\0\0\0\xff"), NULL },
	{ "overlong", TENSOR_DTYPE_BYTES, DATA("\2\0\0\0\xc0\x80"), NULL },
	{ "overlong of three", TENSOR_DTYPE_BYTES, DATA("\3\0\0\0\xe0\x9f\xbf"), NULL },
	{ "surrogate", TENSOR_DTYPE_BYTES, DATA("\3\0\0\0\xed\xa0\x80"), NULL },
	{ "beyond Unicode", TENSOR_DTYPE_BYTES, DATA("\4\0\0\0\xf4\x90\x80\x80"), NULL },
	{ "cut character", TENSOR_DTYPE_BYTES, DATA("\1\0\0\0\xc3\1\0\0\0\xbc"), NULL },
	{ "FP32 NaN", TENSOR_DTYPE_FP32, DATA("\0\0\0\0\0\0\xc0\x7f"), "0.0,NaN" },
	{ "FP32 infinite", TENSOR_DTYPE_FP32, DATA("\0\0\x80\xff\0\0\x80\x7f"),
	  "-Infinity,Infinity" },
	{ "FP64 NaN", TENSOR_DTYPE_FP64, DATA("\0\0\0\0\0\0\xf8\xff"), "NaN" },
	{ "FP64 infinite", TENSOR_DTYPE_FP64, DATA("\0\0\0\0\0\0\xf0\xff"), "-Infinity" },
};

/* Encodes one output of one dim into memory of exactly the promised size. The caller frees it. */
static unsigned char *encode(const struct answer *answer, bool is_binary, int *ret_status,
                             struct oip_answer *ret_answer, struct err *err)
{
	const struct tensor_spec spec = { .name = "y",
		                          .dtype = answer->dtype,
		                          .shape = { 1, { -1 } } };
	const struct oip_model model = {
		.name = "m", .version = "1", .outputs = &spec, .n_outputs = 1
	};
	const struct engine_tensor output = { .dtype = answer->dtype,
		                              .shape = { 1, { 7 } },
		                              .data = answer->data,
		                              .bytes = answer->bytes };
	struct oip_request request;
	unsigned char *memory;

	oip_request_init(&request);
	request.wanted[request.n_wanted++] = (struct oip_wanted){ 0, is_binary };
	memory = malloc(oip_answer_bound(&request, &model, &output));
	assert_non_null(memory);
	*ret_status =
		oip_encode(&request, &model, &(struct oip_origin){ .generation = 12 },
	                   &output, memory, ret_answer, err);
	oip_request_fini(&request);
	return memory;
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		struct err err = ERR_NULL;
		struct oip_answer answer;
		unsigned char *memory;
		char want[512];
		int status;

		memory = encode(&answers[i], false, &status, &answer, &err);
		if (!answers[i].text) {
			assert_int_equal(status, 500);
			assert_non_null(strstr(err.text, "output 'y' is no"));
			assert_non_null(strstr(err.text, "ask for binary_data"));
			free(memory);
			memory = encode(&answers[i], true, &status, &answer, &err);
			assert_int_equal(status, 0);
			assert_memory_equal(memory + answer.json_bytes, answers[i].data,
			                    answers[i].bytes);
			free(memory);
			continue;
		}
		(void)snprintf(
			want, sizeof(want),
			"{\"model_name\":\"m\",\"model_version\":\"1\","
			"\"parameters\":{\"generation\":12},\"outputs\":[{\"name\":\"y\","
			"\"datatype\":\"%s\",\"shape\":[7],\"data\":[%s]}]}",
			tensor_dtype_name(answers[i].dtype), answers[i].text);
		assert_int_equal(status, 0);
		assert_int_equal(answer.json_bytes, 0);
		if (answer.body_bytes != strlen(want) ||
		    memcmp(memory, want, answer.body_bytes) != 0)
			fail_msg("%s: %.*s", answers[i].name, (int)answer.body_bytes,
			         memory);
		free(memory);
	}
}

/* Prints the text of one number in an answer. */
static void print_number(enum tensor_dtype dtype, const void *data, char ret_text[64])
{
	struct answer answer = { .dtype = dtype,
		                 .data = data,
		                 .bytes = tensor_dtype_bytes(dtype) };
	struct err err = ERR_NULL;
	struct oip_answer encoded;
	const char *at;
	int status;
	char *memory;

	memory = (char *)encode(&answer, false, &status, &encoded, &err);
	assert_int_equal(status, 0);
	memory[encoded.body_bytes - 1] = '\0';
	at = strstr(memory, "\"data\":[") + strlen("\"data\":[");
	(void)snprintf(ret_text, 64, "%.*s", (int)strcspn(at, "]"), at);
	free(memory);
}

static void test_fp32_text(void **state)
{
	static const struct {
		float value;
		const char *text;
	} rows[] = {
		{ 0.0F, "0.0" },
		{ -0.0F, "-0.0" },
		{ 1.0F, "1.0" },
		{ -3.0F, "-3.0" },
		{ 0.1F, "0.1" },
		{ 0.25F, "0.25" },
		{ -0.001F, "-0.001" },
		{ 0.0001F, "0.0001" },
		{ 0.00001F, "1e-5" },
		{ 1.0F / 3, "0.33333334" },
		{ 2.0F / 3, "0.6666667" },
		{ 16777217.0F, "16777216.0" },
		{ 123456.789F, "123456.79" },
		{ 999999.94F, "999999.94" },
		{ 1e9F, "1000000000.0" },
		{ 1e15F, "1000000000000000.0" },
		{ 1e16F, "1e16" },
		{ 1.5e-12F, "1.5e-12" },
		{ 3.4028235e38F, "3.4028235e38" },
		{ 1.17549435e-38F, "1.1754944e-38" },
		{ 1.40129846e-45F, "1e-45" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char got[64];

		print_number(TENSOR_DTYPE_FP32, &rows[i].value, got);
		assert_string_equal(got, rows[i].text);
	}
}

static void test_fp64_text(void **state)
{
	static const struct {
		double value;
		const char *text;
	} rows[] = {
		{ 0.0, "0.0" },
		{ -0.0, "-0.0" },
		{ 0.1, "0.1" },
		{ 1.0 / 3, "0.3333333333333333" },
		{ 123456789.0, "123456789.0" },
		{ 9007199254740993.0, "9007199254740992.0" },
		{ 1e15 + 0.5, "1000000000000000.5" },
		{ 1e16, "1e16" },
		{ 1e300, "1e300" },
		{ -1.7976931348623157e308, "-1.7976931348623157e308" },
		{ 4.9406564584124654e-324, "5e-324" },
		{ -0.00012345678901234567, "-0.00012345678901234567" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char got[64];

		print_number(TENSOR_DTYPE_FP64, &rows[i].value, got);
		assert_string_equal(got, rows[i].text);
	}
}

/* Every exponent, with mantissas at the edges and in between, reads back as the same number,
 * for a reader of floats as well as for one of doubles. */
static void test_fp32_reads_back(void **state)
{
	uint32_t mantissa = 1;

	(void)state;
	for (uint32_t exponent = 0; exponent < 255; exponent++) {
		for (uint32_t i = 0; i < 64; i++) {
			uint32_t bits;
			float value;
			char got[64];

			mantissa = mantissa * 1664525 + 1013904223;
			bits = exponent << 23 | (i == 0   ? 0
			                         : i == 1 ? 1
			                         : i == 2 ? 0x7fffff
			                                  : mantissa >> 9);
			memcpy(&value, &bits, sizeof(value));
			print_number(TENSOR_DTYPE_FP32, &value, got);
			if (strtof(got, NULL) != value ||
			    (float)strtod(got, NULL) != value)
				fail_msg("%.9g became %s", (double)value, got);
		}
	}
}

/* Random bits that are a number read back as the same. */
static void test_fp64_reads_back(void **state)
{
	uint64_t bits = 88172645463325252;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		double value;
		char got[64];

		/* xorshift64 */
		bits ^= bits << 13;
		bits ^= bits >> 7;
		bits ^= bits << 17;
		memcpy(&value, &bits, sizeof(value));
		if (!isfinite(value))
			continue;
		print_number(TENSOR_DTYPE_FP64, &value, got);
		if (strtod(got, NULL) != value)
			fail_msg("%.17g became %s", value, got);
	}
}

static void test_answer_of_choice(void **state)
{
	static const struct {
		const char *name;
		const char *rest; /* of the request */
		const char *json;
		const char *data;
		size_t bytes;
	} rows[] = {
		{ "all", "",
		  "{\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":["
		  "0.5,"
		  "2.0]},{\"name\":\"class\",\"datatype\":\"INT64\",\"shape\":[1],"
		  "\"data\":[5]"
		  "}",
		  "", 0 },
		{ "none named", ",\"outputs\":[]",
		  "{\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":["
		  "0.5,"
		  "2.0]},{\"name\":\"class\",\"datatype\":\"INT64\",\"shape\":[1],"
		  "\"data\":[5]"
		  "}",
		  "", 0 },
		{ "other order, one binary",
		  ",\"outputs\":[{\"name\":\"class\"},{\"name\":\"scores\","
		  "\"parameters\":{"
		  "\"binary_data\":true}}]",
		  "{\"name\":\"class\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[5]}"
		  ",{"
		  "\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[1,2],"
		  "\"parameters\":{"
		  "\"binary_data_size\":8}}",
		  DATA("\0\0\0\x3f\0\0\0\x40") },
		{ "all binary", ",\"parameters\":{\"binary_data_output\":true}",
		  "{\"name\":\"scores\",\"datatype\":\"FP32\",\"shape\":[1,2],"
		  "\"parameters\":{"
		  "\"binary_data_size\":8}},{\"name\":\"class\",\"datatype\":\"INT64\","
		  "\"shape\":[1],\"parameters\":{\"binary_data_size\":8}}",
		  DATA("\0\0\0\x3f\0\0\0\x40\5\0\0\0\0\0\0\0") },
		{ "binary but one",
		  ",\"parameters\":{\"binary_data_output\":true},\"outputs\":[{\"name\":"
		  "\"class\"},{\"name\":\"scores\",\"parameters\":{\"binary_data\":false}"
		  "}]",
		  "{\"name\":\"class\",\"datatype\":\"INT64\",\"shape\":[1],"
		  "\"parameters\":{"
		  "\"binary_data_size\":8}},{\"name\":\"scores\",\"datatype\":\"FP32\","
		  "\"shape\":[1,2],\"data\":[0.5,2.0]}",
		  DATA("\5\0\0\0\0\0\0\0") },
		{ "subset", ",\"outputs\":[{\"name\":\"class\"}]",
		  "{\"name\":\"class\",\"datatype\":\"INT64\",\"shape\":[1],\"data\":[5]"
		  "}",
		  "", 0 },
	};
	static const float scores[] = { 0.5F, 2.0F };
	static const int64_t class[] = { 5 };
	const struct engine_tensor outputs[] = {
		{ TENSOR_DTYPE_FP32, { 2, { 1, 2 } }, scores, sizeof(scores) },
		{ TENSOR_DTYPE_INT64, { 1, { 1 } }, class, sizeof(class) },
	};
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message = { .json = NULL };
		struct oip_answer answer;
		unsigned char *memory;
		char json[512];
		char want[512];

		message.json_bytes = (size_t)
			snprintf(json, sizeof(json),
		                 "{\"id\":\"a \\\"b\\\" \\u00fc\",\"inputs\":[" GOOD_INPUT
		                 "]%s}",
		                 rows[i].rest);
		message.json = json;
		assert_int_equal(call_decode(&call, &image, &message), 0);
		memory = malloc(oip_answer_bound(&call.request, &image, outputs));
		assert_non_null(memory);
		assert_int_equal(oip_encode(&call.request, &image,
		                            &(struct oip_origin){ UINT64_MAX,
		                                                  UINT64_MAX },
		                            outputs, memory, &answer, &call.err),
		                 0);
		(void)snprintf(
			want, sizeof(want),
			"{\"model_name\":\"image-model\",\"model_version\":\"3\","
			"\"id\":\"a \\\"b\\\" \xc3\xbc\",\"parameters\":{\"generation\":"
			"18446744073709551615,\"memory_peak_bytes\":18446744073709551615}"
			","
			"\"outputs\":[%s]}",
			rows[i].json);
		assert_int_equal(answer.body_bytes, strlen(want) + rows[i].bytes);
		assert_int_equal(answer.json_bytes, rows[i].bytes ? strlen(want) : 0);
		assert_memory_equal(memory, want, strlen(want));
		if (rows[i].bytes > 0)
			assert_memory_equal(memory + strlen(want), rows[i].data,
			                    rows[i].bytes);
		free(memory);
	}
	call_fini(&call);
}

static void test_error_text(void **state)
{
	static const struct {
		const char *text;
		size_t size;
		const char *want;
	} rows[] = {
		{ "", 64, "{\"error\":\"\"}" },
		{ "input 'x': 3", 64, "{\"error\":\"input 'x': 3\"}" },
		{ "a\"b\\c\nd", 64, "{\"error\":\"a\\\"b\\\\c\\u000ad\"}" },
		{ "\xff\xc3\xbc\xc3", 64, "{\"error\":\"?\xc3\xbc?\"}" },
		{ "too long for this", 24, "{\"error\":\"too lo\"}" },
		{ "\1\1\1\1", 26, "{\"error\":\"\\u0001\\u0001\"}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		unsigned char *memory = malloc(rows[i].size);
		size_t bytes;

		assert_non_null(memory);
		bytes = oip_encode_error(rows[i].text, memory, rows[i].size);
		if (bytes != strlen(rows[i].want) ||
		    memcmp(memory, rows[i].want, bytes) != 0)
			fail_msg("%.*s instead of %s", (int)bytes, memory, rows[i].want);
		free(memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_fp32_text),
		cmocka_unit_test(test_fp64_text),
		cmocka_unit_test(test_fp32_reads_back),
		cmocka_unit_test(test_fp64_reads_back),
		cmocka_unit_test(test_answer_of_choice),
		cmocka_unit_test(test_error_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
