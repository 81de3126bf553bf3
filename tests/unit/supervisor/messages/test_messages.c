/* SPDX-License-Identifier: Apache-2.0 */

/* Messages of gRPC that are read and written by hand, beside what protobuf-c makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/clock.h"
#include "supervisor/messages/inference.pb-c.h"
#include "supervisor/messages/answer.h"
#include "supervisor/messages/infer.h"
#include "supervisor/messages/split.h"
#include "supervisor/messages/status.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define ROOM        8192

/* Bytes that grow in one place. */
struct heap {
	unsigned char data[ROOM];
	size_t bytes;
};

static bool put(void *context, const void *data, size_t bytes)
{
	struct heap *heap = context;

	assert_true(bytes <= ROOM - heap->bytes);
	memcpy(heap->data + heap->bytes, data, bytes);
	heap->bytes += bytes;
	return true;
}

static struct pb_text text_of(const struct heap *heap)
{
	return (struct pb_text){ heap->data, heap->bytes };
}

/* A message in its frame. */
static void pack(struct heap *heap, const ProtobufCMessage *message)
{
	size_t bytes = protobuf_c_message_get_packed_size(message);

	assert_true(bytes < 65536 && bytes <= ROOM - 5);
	memcpy(heap->data,
	       (unsigned char[]){ 0, 0, 0, (unsigned char)(bytes >> 8),
	                          (unsigned char)bytes },
	       5);
	heap->bytes = 5 + protobuf_c_message_pack(message, heap->data + 5);
}

/* What a message comes apart into. */
struct parts {
	struct heap fields;
	struct heap raw;
	uint64_t raw_bytes[8];
	size_t n_raw;
	enum split_kind end; /* SPLIT_NONE, or what was wrong */
	bool is_whole;
};

/* Splits what comes in pieces of @chunk bytes. */
static void split_all(struct parts *parts, const struct heap *heap, size_t chunk)
{
	struct split split;

	*parts = (struct parts){ .end = SPLIT_NONE };
	split_init(&split, true);
	for (size_t i = 0; i < heap->bytes && parts->end == SPLIT_NONE; i += chunk) {
		size_t left = heap->bytes - i;
		struct pb_text input = { heap->data + i, left < chunk ? left : chunk };
		struct split_piece piece;

		do {
			piece = split_next(&split, &input);
			if (piece.kind == SPLIT_FIELDS)
				put(&parts->fields, piece.data, (size_t)piece.bytes);
			else if (piece.kind == SPLIT_RAW)
				put(&parts->raw, piece.data, (size_t)piece.bytes);
			else if (piece.kind == SPLIT_BEGINS)
				parts->raw_bytes[parts->n_raw++] = piece.bytes;
			else if (piece.kind == SPLIT_BAD || piece.kind == SPLIT_PACKED)
				parts->end = piece.kind;
		} while (piece.kind != SPLIT_NONE && parts->end == SPLIT_NONE);
	}
	parts->is_whole = split_is_whole(&split);
}

/* A request as a client makes it: two inputs, one of them empty, parameters of each kind. */
static void test_raw_request(void **state)
{
	static const char json[] =
		"{\"id\":\"a "
		"\\u0022\\u005c\\u0001\xc3\xbc\",\"parameters\":{\"priority\":3,"
		"\"s\":\"text\",\"b\":true,\"d\":0.5,\"n\":-7,\"binary_data_output\":"
		"true},"
		"\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,300],"
		"\"parameters\":{\"binary_data_size\":8}},"
		"{\"name\":\"y\",\"datatype\":\"INT8\",\"shape\":[0],"
		"\"parameters\":{\"binary_data_size\":0}}],"
		"\"outputs\":[{\"name\":\"out\",\"parameters\":{\"binary_data\":true}}]}";
	static char names[5][32] = { "priority", "s", "b", "d", "n" };
	static char x[] = "x", y[] = "y", out[] = "out", fp32[] = "FP32", int8[] = "INT8";
	static char string[] = "text", model[] = "m", id[] = "a \"\\\x01\xc3\xbc";
	static unsigned char eight[] = "12345678";
	Inference__ModelInferRequest request = INFERENCE__MODEL_INFER_REQUEST__INIT;
	Inference__InferParameter values[5];
	Inference__ModelInferRequest__ParametersEntry entries[5];
	Inference__ModelInferRequest__ParametersEntry *parameters[5];
	Inference__ModelInferRequest__InferInputTensor inputs[2];
	Inference__ModelInferRequest__InferInputTensor *all[2] = { &inputs[0],
		                                                   &inputs[1] };
	Inference__ModelInferRequest__InferRequestedOutputTensor output =
		INFERENCE__MODEL_INFER_REQUEST__INFER_REQUESTED_OUTPUT_TENSOR__INIT;
	Inference__ModelInferRequest__InferRequestedOutputTensor *outputs[] = { &output };
	int64_t shape[] = { -1, 300 };
	int64_t none[] = { 0 };
	ProtobufCBinaryData raw[] = { { 8, eight }, { 0, NULL } };
	static struct heap heap;
	static char memory[ROOM];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		inference__infer_parameter__init(&values[i]);
		inference__model_infer_request__parameters_entry__init(&entries[i]);
		entries[i].key = names[i];
		entries[i].value = &values[i];
		parameters[i] = &entries[i];
	}
	values[0].parameter_choice_case =
		INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_INT64_PARAM;
	values[0].int64_param = 3;
	values[1].parameter_choice_case =
		INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_STRING_PARAM;
	values[1].string_param = string;
	values[2].parameter_choice_case =
		INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_BOOL_PARAM;
	values[2].bool_param = true;
	values[3].parameter_choice_case =
		INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_DOUBLE_PARAM;
	values[3].double_param = 0.5;
	values[4].parameter_choice_case =
		INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_INT64_PARAM;
	values[4].int64_param = -7;
	for (size_t i = 0; i < 2; i++)
		inference__model_infer_request__infer_input_tensor__init(&inputs[i]);
	inputs[0].name = x, inputs[0].datatype = fp32;
	inputs[0].n_shape = 2, inputs[0].shape = shape;
	inputs[1].name = y, inputs[1].datatype = int8;
	inputs[1].n_shape = 1, inputs[1].shape = none;
	output.name = out;
	request.model_name = model, request.id = id;
	request.n_parameters = 5, request.parameters = parameters;
	request.n_inputs = 2, request.inputs = all;
	request.n_outputs = 1, request.outputs = outputs;
	request.n_raw_input_contents = 2, request.raw_input_contents = raw;
	pack(&heap, &request.base);
	for (size_t chunk = 1; chunk <= heap.bytes; chunk++) {
		static struct parts parts;
		struct err err = ERR_NULL;
		struct infer infer;
		size_t bytes;

		split_all(&parts, &heap, chunk);
		assert_int_equal(parts.end, SPLIT_NONE);
		assert_true(parts.is_whole);
		assert_int_equal(parts.n_raw, 2);
		assert_int_equal(parts.raw.bytes, 8);
		assert_memory_equal(parts.raw.data, eight, 8);
		assert_int_equal(infer_read(&infer, text_of(&parts.fields), &err), 0);
		assert_int_equal(infer_set_raw(&infer, parts.raw_bytes, 1, &err), 400);
		assert_int_equal(infer_set_raw(&infer, parts.raw_bytes, 2, &err), 0);
		assert_int_equal(infer_write_json(&infer, memory, sizeof(memory), &bytes,
		                                  &err),
		                 0);
		assert_int_equal(bytes, sizeof(json) - 1);
		assert_memory_equal(memory, json, bytes);
		/* Any bound is kept, and said. */
		if (chunk < bytes)
			assert_int_equal(infer_write_json(&infer, memory, chunk, &bytes,
			                                  &err),
			                 413);
	}
}

/* Frames, and messages that are none. */
static const struct {
	const char *bytes;
	size_t n;
	enum split_kind end;
	bool is_whole;
} frames[] = {
#define FRAME(text) text, sizeof(text) - 1
	{ FRAME("\0\0\0\0\0"), SPLIT_NONE, true },
	{ FRAME("\0\0\0\0"), SPLIT_NONE, false },
	{ FRAME("\1\0\0\0\0"), SPLIT_PACKED, false },
	{ FRAME("\2\0\0\0\0"), SPLIT_BAD, false },
	{ FRAME("\0\0\0\0\2\x08\1"), SPLIT_NONE, true },
	{ FRAME("\0\0\0\0\3\x08\1"), SPLIT_NONE, false },
	{ FRAME("\0\0\0\0\2\x08\1x"), SPLIT_BAD, true }, /* a second message */
	{ FRAME("\0\0\0\0\2\x0a\5"), SPLIT_BAD, true },  /* longer than the message */
	{ FRAME("\0\0\0\0\2\x3a\5"), SPLIT_BAD, true },  /* likewise, raw */
	{ FRAME("\0\0\0\0\2\0\1"), SPLIT_BAD, false },   /* field 0 */
	{ FRAME("\0\0\0\0\1\x0b"), SPLIT_BAD, true },    /* a group */
	{ FRAME("\0\0\0\0\2\x3a\0"), SPLIT_NONE, true },
	{ FRAME("\0\0\0\0\4\x3a\2ab"), SPLIT_NONE, true },
	{ FRAME("\0\0\0\0\6\xba\x80\0\2ab"), SPLIT_NONE, true }, /* a key in more bytes */
	{ FRAME("\0\0\0\0\3\x3d\1\2"), SPLIT_BAD,
	  false }, /* four bytes, and there are two */
	{ FRAME("\0\0\0\0\xd\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
	  SPLIT_BAD, false }, /* no varint */
};

static void test_frames(void **state)
{
	static struct parts parts;
	static struct heap heap;

	(void)state;
	for (size_t i = 0; i < COUNT(frames); i++)
		for (size_t chunk = 1; chunk <= frames[i].n; chunk++) {
			heap.bytes = 0;
			put(&heap, frames[i].bytes, frames[i].n);
			split_all(&parts, &heap, chunk);
			if (parts.end != frames[i].end ||
			    (parts.end == SPLIT_NONE &&
			     parts.is_whole != frames[i].is_whole))
				fail_msg("frame %zu in pieces of %zu: %d, whole %d", i,
				         chunk, parts.end, parts.is_whole);
		}
}

/* Contents in fields of their own: what stands in InferTensorContents, and as a binary tensor. */
static const struct {
	const char *name;
	const char *datatype;
	const char *contents;
	size_t n_contents;
	const char *want; /* NULL: refused */
	size_t n_want;
} typed[] = {
#define BYTES(text) text, sizeof(text) - 1
	{ "bool packed", "BOOL", BYTES("\x0a\3\0\1\5"), BYTES("\0\1\1") },
	{ "bool single", "BOOL", BYTES("\x08\1\x08\0"), BYTES("\1\0") },
	{ "int8", "INT8", BYTES("\x12\x0b\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
	  BYTES("\x7f\xff") },
	{ "int8 of 32 bits", "INT8", BYTES("\x12\5\xff\xff\xff\xff\x0f"), BYTES("\xff") },
	{ "int8 too large", "INT8", BYTES("\x12\2\x80\1"), NULL, 0 },
	{ "int16", "INT16", BYTES("\x12\2\xac\2"), BYTES("\x2c\1") },
	{ "int32", "INT32", BYTES("\x12\1\7\x10\x8"), BYTES("\7\0\0\0\x8\0\0\0") },
	{ "int64", "INT64", BYTES("\x1a\2\xac\2"), BYTES("\x2c\1\0\0\0\0\0\0") },
	{ "uint8", "UINT8", BYTES("\x22\2\xff\1"), BYTES("\xff") },
	{ "uint8 too large", "UINT8", BYTES("\x22\2\x80\2"), NULL, 0 },
	{ "uint32", "UINT32", BYTES("\x22\5\xff\xff\xff\xff\x0f"),
	  BYTES("\xff\xff\xff\xff") },
	{ "uint64", "UINT64", BYTES("\x2a\1\1"), BYTES("\1\0\0\0\0\0\0\0") },
	{ "fp32", "FP32", BYTES("\x32\x8\0\0\x80\x3f\0\0\0\x40"),
	  BYTES("\0\0\x80\x3f\0\0\0\x40") },
	{ "fp32 single", "FP32", BYTES("\x35\0\0\x80\x3f"), BYTES("\0\0\x80\x3f") },
	{ "fp32 cut", "FP32", BYTES("\x32\3\0\0\x80"), NULL, 0 },
	{ "fp64", "FP64", BYTES("\x3a\x8\0\0\0\0\0\0\xf0\x3f"),
	  BYTES("\0\0\0\0\0\0\xf0\x3f") },
	{ "bytes", "BYTES", BYTES("\x42\2ab\x42\0"), BYTES("\2\0\0\0ab\0\0\0\0") },
	{ "nothing", "FP32", BYTES(""), BYTES("") },
	{ "another field", "FP32", BYTES("\x12\1\1"), NULL, 0 },
	{ "another field, empty", "FP32", BYTES("\x12\0"), BYTES("") },
	{ "FP16 has none", "FP16", BYTES("\x32\4\0\0\0\0"), NULL, 0 },
	{ "varint cut", "INT64", BYTES("\x1a\1\x80"), NULL, 0 },
	{ "number in place of packed", "FP32", BYTES("\x30\1"), NULL, 0 },
	{ "unknown field", "FP32", BYTES("\x4a\1\1"), BYTES("") },
};

/* A ModelInferRequest with one input x. */
static void make_typed(struct heap *heap, const char *datatype, const char *contents,
                       size_t n_contents)
{
	static unsigned char memory[512];
	struct pb_writer input = { memory, 0 };
	static unsigned char all[1024];
	struct pb_writer message = { all, 0 };

	pb_put_text(&input, 1, "x");
	pb_put_text(&input, 2, datatype);
	pb_put_key(&input, 5, PB_BYTES);
	pb_put_varint(&input, n_contents);
	pb_put(&input, contents, n_contents);
	pb_put_text(&message, 1, "m");
	pb_put_key(&message, 5, PB_BYTES);
	pb_put_varint(&message, input.bytes);
	pb_put(&message, memory, input.bytes);
	heap->bytes = 0;
	put(heap, all, message.bytes);
}

static void test_typed(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(typed); i++) {
		static struct heap message;
		static struct heap got;
		const struct infer_sink sink = { put, &got };
		struct err err = ERR_NULL;
		struct infer infer;

		make_typed(&message, typed[i].datatype, typed[i].contents,
		           typed[i].n_contents);
		got.bytes = 0;
		assert_int_equal(infer_read(&infer, text_of(&message), &err), 0);
		if (!typed[i].want) {
			assert_int_equal(infer_measure(&infer, &err), 400);
			assert_string_not_equal(err.text, "");
			continue;
		}
		if (infer_measure(&infer, &err) != 0)
			fail_msg("%s: %s", typed[i].name, err.text);
		assert_int_equal(infer.inputs[0].bytes, typed[i].n_want);
		assert_true(infer_write_contents(&infer, &sink));
		assert_int_equal(got.bytes, typed[i].n_want);
		assert_memory_equal(got.data, typed[i].want, got.bytes);
	}
}

/* Fields of a ModelInferRequest that are refused. */
static const struct {
	const char *bytes;
	size_t n;
	const char *why;
} refused[] = {
	{ BYTES("\x0a\1\xff"), "UTF-8" },
	{ BYTES("\x08\1"), "no ModelInferRequest" },
	{ BYTES("\x0a\5x"), "no ModelInferRequest" },
	{ BYTES("\x28\1"), "no ModelInferRequest" },
	{ BYTES("\x2a\2\x0a\5"), "no ModelInferRequest" },
	{ BYTES("\x2a\7\x0a\1x\x12\2HI"), "'HI', which is none" },
	{ BYTES("\x2a\3\x0a\1x"), "'', which is none" },
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct pb_text message = { (const unsigned char *)refused[i].bytes,
			                   refused[i].n };
		struct err err = ERR_NULL;
		struct infer infer;

		assert_int_equal(infer_read(&infer, message, &err), 400);
		if (!strstr(err.text, refused[i].why))
			fail_msg("%zu: '%s', not '%s'", i, err.text, refused[i].why);
	}
}

/* The fuzzer's finds: JSON's readers know no integer beyond those of int64, and no key with a
 * NUL in it. */
static const struct {
	const char *bytes;
	size_t n;
	const char *why;
} parameters[] = {
	{ BYTES("\x22\x10\x0a\1u\x12\x0b\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
	  "9223372036854775807" },
	{ BYTES("\x22\x09\x0a\3a\0b\x12\2\x08\1"), "malformed" },
	{ BYTES("\x22\x03\x0a\1\xff"), "malformed" },
};

static void test_parameters_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(parameters); i++) {
		struct pb_text message = { (const unsigned char *)parameters[i].bytes,
			                   parameters[i].n };
		struct err err = ERR_NULL;
		struct infer infer;
		char memory[256];
		size_t bytes;

		assert_int_equal(infer_read(&infer, message, &err), 0);
		assert_int_equal(infer_write_json(&infer, memory, sizeof(memory), &bytes,
		                                  &err),
		                 400);
		assert_non_null(strstr(err.text, parameters[i].why));
	}
}

/* Answers of a loader; @tensors is what lies behind the JSON. */
static const struct {
	const char *json;
	const char *tensors;
	bool is_good;
} answers[] = {
	{ "{\"model_name\":\"m\",\"model_version\":\"2\",\"id\":\"i\",\"parameters\":"
	  "{\"generation\":7,\"on\":true,\"half\":0.5,\"word\":\"w\"},\"outputs\":["
	  "{\"name\":\"a\",\"datatype\":\"FP32\",\"shape\":[1,300],\"parameters\":"
	  "{\"binary_data_size\":4}},{\"name\":\"b\",\"datatype\":\"INT8\",\"shape\":[],"
	  "\"parameters\":{\"binary_data_size\":0}},{\"name\":\"c\",\"datatype\":"
	  "\"BYTES\","
	  "\"shape\":[-1],\"parameters\":{\"binary_data_size\":3}}]}",
	  "1234abc", true },
	{ "{\"model_name\":\"m\",\"outputs\":[]}", "", true },
	{ "{}", "", true },
	{ "{}", "x", false },
	{ "[]", "", false },
	{ "{\"outputs\":[{\"parameters\":{\"binary_data_size\":4}}]}", "123", false },
	{ "{\"outputs\":[{\"parameters\":{\"binary_data_size\":-1}}]}", "", false },
	{ "{\"outputs\":[{\"parameters\":{\"binary_data_size\":\"4\"}}]}", "1234",
	  false },
	{ "{\"outputs\":[{\"data\":[1]}]}", "", false },
	{ "{\"outputs\":[7]}", "", false },
	{ "{\"outputs\":", "", false },
};

/* Joins the pieces, and checks the frame. */
static void join(struct heap *heap, const struct answer *answer)
{
	heap->bytes = 0;
	for (size_t i = 0; i < answer->n_pieces; i++)
		put(heap, answer->pieces[i].data, answer->pieces[i].bytes);
	assert_int_equal(heap->bytes, answer->bytes);
	assert_int_equal(heap->data[0], 0);
	assert_int_equal((heap->data[3] << 8 | heap->data[4]) + 5, heap->bytes);
}

static Inference__ModelInferResponse *unpack(const struct heap *heap)
{
	return inference__model_infer_response__unpack(NULL, heap->bytes - 5,
	                                               heap->data + 5);
}

static void check_first(const Inference__ModelInferResponse *response)
{
	assert_string_equal(response->model_name, "m");
	assert_string_equal(response->model_version, "2");
	assert_string_equal(response->id, "i");
	assert_int_equal(response->n_parameters, 4);
	assert_string_equal(response->parameters[0]->key, "generation");
	assert_int_equal(response->parameters[0]->value->int64_param, 7);
	assert_true(response->parameters[1]->value->bool_param);
	assert_true(response->parameters[2]->value->double_param > 0.4);
	assert_string_equal(response->parameters[3]->value->string_param, "w");
	assert_int_equal(response->n_outputs, 3);
	assert_string_equal(response->outputs[0]->datatype, "FP32");
	assert_int_equal(response->outputs[0]->n_shape, 2);
	assert_int_equal(response->outputs[0]->shape[1], 300);
	assert_int_equal(response->outputs[1]->n_shape, 0);
	assert_int_equal(response->outputs[2]->shape[0], -1);
	assert_int_equal(response->n_raw_output_contents, 3);
	assert_int_equal(response->raw_output_contents[1].len, 0);
	assert_memory_equal(response->raw_output_contents[2].data, "abc", 3);
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		struct pb_text json = { (const unsigned char *)answers[i].json,
			                strlen(answers[i].json) };
		struct pb_text tensors = { (const unsigned char *)answers[i].tensors,
			                   strlen(answers[i].tensors) };
		Inference__ModelInferResponse *response;
		static struct heap heap;
		struct err err = ERR_NULL;
		struct answer answer;
		int r = answer_make(&answer, json, tensors, &err);

		assert_int_equal(r, answers[i].is_good ? 0 : 500);
		if (r == 0) {
			join(&heap, &answer);
			response = unpack(&heap);
			assert_non_null(response);
			if (i == 0)
				check_first(response);
			inference__model_infer_response__free_unpacked(response, NULL);
		}
		answer_fini(&answer);
	}
}

static void test_words(void **state)
{
	static const struct {
		const char *text;
		const char *want;
	} messages[] = {
		{ "plain", "plain" },
		{ "100 %", "100 %25" },
		{ "a\nb\xc3\xbc", "a%0Ab%C3%BC" },
	};
	static const struct {
		const char *text;
		uint64_t ns; /* 0: refused */
	} timeouts[] = {
		{ "1S", CLOCK_NS_PER_SEC },
		{ "10m", 10 * CLOCK_NS_PER_MS },
		{ "2M", 120 * CLOCK_NS_PER_SEC },
		{ "99999999H", CLOCK_NEVER },
		{ "5u", 5000 },
		{ "7n", 7 },
		{ "", 0 },
		{ "S", 0 },
		{ "1", 0 },
		{ "1x", 0 },
		{ "123456789S", 0 },
		{ "-1S", 0 },
		{ "1SS", 0 },
	};
	char text[64];
	uint64_t ns;

	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		(void)grpc_encode_message(text, sizeof(text), messages[i].text);
		assert_string_equal(text, messages[i].want);
	}
	assert_true(grpc_encode_message(text, 8, "\n\n\n\n\n") < 8);
	for (size_t i = 0; i < COUNT(timeouts); i++) {
		int r = grpc_read_timeout(timeouts[i].text, &ns);

		if ((r == 0) != (timeouts[i].ns > 0) ||
		    (r == 0 && ns != timeouts[i].ns && timeouts[i].ns != CLOCK_NEVER))
			fail_msg("'%s'", timeouts[i].text);
	}
	assert_int_equal(grpc_code_of(503), GRPC_UNAVAILABLE);
	assert_int_equal(grpc_code_of(418), GRPC_INVALID_ARGUMENT);
	assert_int_equal(grpc_code_of(599), GRPC_INTERNAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw_request),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_typed),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_parameters_refused),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
