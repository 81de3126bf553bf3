/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Requests for the tests of loader/oip/oip.h: models, bodies, and a call that decodes in
 * memory of the exact size, so that a sanitizer sees each byte too many.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loader/oip/oip.h"

#define MAX_BODY ((size_t)1 << 20)

static const struct tensor_spec image_in[] = {
	{ .name = "image", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 4 } } },
};
static const struct tensor_spec image_out[] = {
	{ .name = "scores", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	{ .name = "class", .dtype = TENSOR_DTYPE_INT64, .shape = { 1, { -1 } } },
};
static const struct tensor_spec all_in[] = {
	{ .name = "BOOL", .dtype = TENSOR_DTYPE_BOOL, .shape = { 1, { -1 } } },
	{ .name = "UINT8", .dtype = TENSOR_DTYPE_UINT8, .shape = { 1, { -1 } } },
	{ .name = "INT8", .dtype = TENSOR_DTYPE_INT8, .shape = { 1, { -1 } } },
	{ .name = "BYTES", .dtype = TENSOR_DTYPE_BYTES, .shape = { 1, { -1 } } },
};
static const struct tensor_spec text_in[] = {
	{ .name = "s", .dtype = TENSOR_DTYPE_BYTES, .shape = { 1, { -1 } } },
};
static const struct tensor_spec texts_in[] = {
	{ .name = "s", .dtype = TENSOR_DTYPE_BYTES, .shape = { 2, { -1, 2 } } },
};
static const struct tensor_spec half_in[] = {
	{ .name = "h", .dtype = TENSOR_DTYPE_FP16, .shape = { 1, { -1 } } },
};
static const struct tensor_spec brain_in[] = {
	{ .name = "h", .dtype = TENSOR_DTYPE_BF16, .shape = { 1, { -1 } } },
};
static const struct tensor_spec scalar_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_INT32, .shape = { 0, { 0 } } },
};
static const struct tensor_spec free_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP64, .shape = { 2, { -1, -1 } } },
};
static const struct tensor_spec freer_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP64, .shape = { 3, { -1, -1, -1 } } },
};
static const struct tensor_spec wide_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_UINT64, .shape = { 1, { -1 } } },
};
static const struct tensor_spec cube_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_INT16, .shape = { 3, { -1, 2, 2 } } },
};
static const struct tensor_spec mask_in[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_BOOL, .shape = { 1, { -1 } } },
};
static const struct tensor_spec huge_in[] = {
	{ .name = "x",
	  .dtype = TENSOR_DTYPE_FP64,
	  .shape = { 3, { -1, INT64_MAX, INT64_MAX } } },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MODEL(name_, in, out)                                                            \
	{                                                                                \
		.name = name_, .version = "3", .inputs = in, .n_inputs = COUNT(in),      \
		.outputs = out, .n_outputs = COUNT(out), .max_body_bytes = MAX_BODY      \
	}

static const struct oip_model image = MODEL("image-model", image_in, image_out);
static const struct oip_model all = MODEL("all", all_in, all_in);
static const struct oip_model text = MODEL("text", text_in, text_in);
static const struct oip_model texts = MODEL("texts", texts_in, texts_in);
static const struct oip_model half = MODEL("half", half_in, half_in);
static const struct oip_model brain = MODEL("brain", brain_in, brain_in);
static const struct oip_model scalar = MODEL("scalar", scalar_in, scalar_in);
static const struct oip_model free_dims = MODEL("free", free_in, free_in);
static const struct oip_model freer_dims = MODEL("freer", freer_in, freer_in);
static const struct oip_model wide = MODEL("wide", wide_in, wide_in);
static const struct oip_model cube = MODEL("cube", cube_in, cube_in);
static const struct oip_model mask = MODEL("mask", mask_in, mask_in);
static const struct oip_model huge = MODEL("huge", huge_in, huge_in);

/* Makes a model with one input and one output v of @dtype, [-1]. @spec is its memory. */
static inline struct oip_model model_of(enum tensor_dtype dtype, struct tensor_spec *spec)
{
	*spec = (struct tensor_spec){ .name = "v",
		                      .dtype = dtype,
		                      .shape = { 1, { -1 } } };
	return (struct oip_model){ .name = "typed",
		                   .version = "1",
		                   .inputs = spec,
		                   .n_inputs = 1,
		                   .outputs = spec,
		                   .n_outputs = 1,
		                   .max_body_bytes = MAX_BODY };
}

/* A request and its body, which stays until the next call, or the end. */
struct call {
	struct oip_request request;
	unsigned char *memory; /* 64-byte aligned */
	unsigned char *head;
	struct err err;
};

/* A request: header lines "name: value\n", JSON, and binary data behind it. */
struct message {
	const char *lines;
	const char *json;
	size_t json_bytes;
	const char *binary; /* NULL: no inference-header-content-length either */
	size_t binary_bytes;
};

static inline size_t read_lines(const char *lines, struct proto_field *fields)
{
	size_t n = 0;

	while (lines && *lines) {
		const char *colon = strstr(lines, ": ");
		const char *end = strchr(lines, '\n');

		fields[n++] = (struct proto_field){
			{ lines, (size_t)(colon - lines) },
			{ colon + 2, (size_t)(end - colon - 2) },
		};
		lines = end + 1;
	}
	return n;
}

static inline int call_decode(struct call *call, const struct oip_model *model,
                              const struct message *message)
{
	struct proto_text post = proto_text_of("POST");
	struct proto_text target = proto_text_of("/v2/models/m/infer");
	size_t bytes = message->json_bytes + message->binary_bytes;
	struct proto_field fields[8];
	struct proto_head head;
	char length[24];
	size_t head_bytes;
	size_t n;

	free(call->head);
	free(call->memory);
	n = read_lines(message->lines, fields);
	if (message->binary) {
		(void)snprintf(length, sizeof(length), "%zu", message->json_bytes);
		fields[n++] = (struct proto_field){
			proto_text_of("inference-header-content-length"),
			proto_text_of(length),
		};
	}
	head_bytes = proto_head_bytes(post, target, fields, n);
	call->head = malloc(head_bytes);
	assert_int_equal(posix_memalign((void **)&call->memory, 64, bytes ? bytes : 1),
	                 0);
	proto_head_write(call->head, post, target, fields, n);
	assert_int_equal(proto_head_read(&head, call->head, head_bytes), 0);
	memcpy(call->memory, message->json, message->json_bytes);
	if (message->binary_bytes > 0)
		memcpy(call->memory + message->json_bytes, message->binary,
		       message->binary_bytes);
	call->err = (struct err)ERR_NULL;
	return oip_decode(&call->request, model, &head, call->memory, bytes, &call->err);
}

static inline void call_init(struct call *call)
{
	*call = (struct call){ 0 };
	oip_request_init(&call->request);
}

static inline void call_fini(struct call *call)
{
	oip_request_fini(&call->request);
	free(call->memory);
	free(call->head);
}

/* Bytes without a terminator. */
#define DATA(literal) .data = (literal), .bytes = sizeof(literal) - 1

#define JSON(text_)                                                                      \
	{                                                                                \
		.json = (text_), .json_bytes = sizeof(text_) - 1                         \
	}
#define WITH(lines_, text_)                                                              \
	{                                                                                \
		.lines = (lines_), .json = (text_), .json_bytes = sizeof(text_) - 1      \
	}
#define BINARY(text_, data_)                                                             \
	{                                                                                \
		.json = (text_), .json_bytes = sizeof(text_) - 1, .binary = (data_),     \
		.binary_bytes = sizeof(data_) - 1                                        \
	}
#define ZEROS_8 "\0\0\0\0\0\0\0\0"
#define ONE(name, datatype, rest)                                                        \
	"{\"inputs\":[{\"name\":\"" name "\",\"datatype\":\"" datatype "\"," rest "}]}"
#define IMAGE(rest) ONE("image", "FP32", rest)
#define GOOD_INPUT                                                                       \
	"{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[1,2,3,4]}"
