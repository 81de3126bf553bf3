/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a client of gRPC sends, and what a loader answers: a ModelInferRequest in its frame, taken
 * apart in pieces of any length, as JSON and tensors; and the JSON of an answer as a
 * ModelInferResponse. protobuf-c is the second reader: what both take, both take to be the same.
 * Sizes that were measured are those that are written, JSON is JSON, and what is answered reads
 * back.
 */

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/messages/answer.h"
#include "supervisor/messages/infer.h"
#include "supervisor/messages/inference.pb-c.h"
#include "supervisor/messages/split.h"
#include "tests/fuzz/bytes.h"

#define ROOM 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heap {
	unsigned char data[ROOM];
	size_t bytes;
};

/* A message that came apart. */
struct parts {
	struct heap fields;
	struct heap raw;
	uint64_t sizes[ROOM];
	size_t n;
	enum split_kind end;
	bool is_whole;
};

static bool put(void *context, const void *data, size_t bytes)
{
	struct heap *heap = context;

	/* What is read is no longer than it was, but for varints that become numbers. */
	assert(bytes <= sizeof(heap->data) - heap->bytes);
	memcpy(heap->data + heap->bytes, data, bytes);
	heap->bytes += bytes;
	return true;
}

static void take(struct parts *parts, const struct split_piece *piece)
{
	switch (piece->kind) {
	case SPLIT_FIELDS:
		(void)put(&parts->fields, piece->data, (size_t)piece->bytes);
		break;
	case SPLIT_RAW:
		(void)put(&parts->raw, piece->data, (size_t)piece->bytes);
		break;
	case SPLIT_BEGINS:
		parts->sizes[parts->n++] = piece->bytes;
		break;
	case SPLIT_BAD:
	case SPLIT_PACKED:
		parts->end = piece->kind;
		break;
	case SPLIT_LENGTH:
	case SPLIT_NONE:
		break;
	}
}

static void split_by(struct parts *parts, const uint8_t *data, size_t size, size_t chunk)
{
	struct split split;

	parts->fields.bytes = parts->raw.bytes = parts->n = 0;
	parts->end = SPLIT_NONE;
	split_init(&split, true);
	for (size_t i = 0; i < size && parts->end == SPLIT_NONE; i += chunk) {
		struct pb_text input = { data + i, size - i < chunk ? size - i : chunk };
		struct split_piece piece;

		do {
			piece = split_next(&split, &input);
			take(parts, &piece);
		} while (piece.kind != SPLIT_NONE && parts->end == SPLIT_NONE);
	}
	parts->is_whole = split_is_whole(&split) && parts->end == SPLIT_NONE;
}

static bool is_same(struct pb_text text, const char *other)
{
	return text.bytes >= strlen(other) &&
	       memcmp(text.data, other, strlen(other)) == 0;
}

/* What both readers took. */
static void compare(const struct parts *parts, const struct infer *infer,
                    const Inference__ModelInferRequest *other)
{
	size_t at = 0;

	assert(is_same(infer->model, other->model_name));
	assert(is_same(infer->version, other->model_version));
	assert(is_same(infer->id, other->id));
	assert(infer->n_inputs == other->n_inputs);
	assert(parts->n == other->n_raw_input_contents);
	for (size_t i = 0; i < parts->n; i++) {
		const ProtobufCBinaryData *raw = &other->raw_input_contents[i];

		assert(raw->len == parts->sizes[i]);
		assert(raw->len == 0 ||
		       memcmp(raw->data, parts->raw.data + at, raw->len) == 0);
		at += raw->len;
	}
	assert(at == parts->raw.bytes);
	for (size_t i = 0; i < infer->n_inputs; i++) {
		assert(is_same(infer->inputs[i].name, other->inputs[i]->name));
		assert(is_same(infer->inputs[i].datatype, other->inputs[i]->datatype));
	}
}

/* Elements that protobuf-c has found of an input, in the field for its datatype. */
static size_t count_of(const Inference__InferTensorContents *contents,
                       enum tensor_dtype dtype)
{
	switch (dtype) {
	case TENSOR_DTYPE_BOOL:
		return contents->n_bool_contents;
	case TENSOR_DTYPE_INT8:
	case TENSOR_DTYPE_INT16:
	case TENSOR_DTYPE_INT32:
		return contents->n_int_contents;
	case TENSOR_DTYPE_INT64:
		return contents->n_int64_contents;
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
		return contents->n_uint_contents;
	case TENSOR_DTYPE_UINT64:
		return contents->n_uint64_contents;
	case TENSOR_DTYPE_FP32:
		return contents->n_fp32_contents;
	case TENSOR_DTYPE_FP64:
		return contents->n_fp64_contents;
	case TENSOR_DTYPE_FP16:
	case TENSOR_DTYPE_BF16:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	return 0;
}

/* Contents in their own fields. */
static void compare_typed(const struct infer *infer,
                          const Inference__ModelInferRequest *other)
{
	for (size_t i = 0; i < infer->n_inputs; i++) {
		const Inference__InferTensorContents *contents =
			other->inputs[i]->contents;
		enum tensor_dtype dtype = infer->inputs[i].dtype;
		uint64_t bytes = 0;

		if (dtype == TENSOR_DTYPE_BYTES)
			for (size_t j = 0; contents && j < contents->n_bytes_contents;
			     j++)
				bytes += 4 + contents->bytes_contents[j].len;
		else if (contents)
			bytes = count_of(contents, dtype) * tensor_dtype_bytes(dtype);
		assert(infer->inputs[i].bytes == bytes);
	}
}

static void check_json(const struct infer *infer)
{
	static char text[8 * ROOM];
	struct err err = ERR_NULL;
	size_t bytes;
	int r = infer_write_json(infer, text, sizeof(text), &bytes, &err);
	json_t *json;

	assert(r == 0 || r == 400 || r == 413);
	assert((r == 0) == (err.text[0] == '\0'));
	if (r)
		return;
	json = json_loadb(text, bytes, JSON_ALLOW_NUL, NULL);
	assert(json);
	assert(json_array_size(json_object_get(json, "inputs")) == infer->n_inputs);
	json_decref(json);
	/* The same in less room is refused, not cut. */
	assert(infer_write_json(infer, text, bytes - 1, &bytes, &err) == 413);
}

/* A whole message, without its frame in @message. */
static void check_request(struct parts *parts, const uint8_t *message, size_t size)
{
	static struct heap contents;
	const struct infer_sink sink = { put, &contents };
	struct pb_text fields = { parts->fields.data, parts->fields.bytes };
	Inference__ModelInferRequest *other;
	struct err err = ERR_NULL;
	struct infer infer;
	uint64_t bytes = 0;
	bool is_typed;
	int r = infer_read(&infer, fields, &err);

	assert(r == 0 || (r == 400 && err.text[0]));
	if (r)
		return;
	other = inference__model_infer_request__unpack(NULL, size, message);
	if (other)
		compare(parts, &infer, other);
	is_typed = infer_measure(&infer, &err) == 0;
	if (is_typed && other)
		compare_typed(&infer, other);
	for (size_t i = 0; i < infer.n_inputs; i++)
		bytes += infer.inputs[i].bytes;
	contents.bytes = 0;
	if (is_typed && bytes <= sizeof(contents.data)) {
		assert(infer_write_contents(&infer, &sink));
		assert(contents.bytes == bytes);
	}
	err.text[0] = '\0';
	if (is_typed || infer_set_raw(&infer, parts->sizes, parts->n, &err) == 0)
		check_json(&infer);
	if (other)
		inference__model_infer_request__free_unpacked(other, NULL);
}

static void check_answer(const uint8_t *data, size_t size, size_t json_bytes)
{
	struct pb_text json = { data, json_bytes < size ? json_bytes : size };
	struct pb_text tensors = { data + json.bytes, size - json.bytes };
	static struct heap heap;
	struct answer answer;
	struct err err = ERR_NULL;
	int r = answer_make(&answer, json, tensors, &err);

	assert(r == 0 || (r == 500 && err.text[0]));
	heap.bytes = 0;
	/* Each output has its name's length and its shape's at the most. */
	for (size_t i = 0; r == 0 && i < answer.n_pieces && answer.bytes <= ROOM; i++)
		(void)put(&heap, answer.pieces[i].data, answer.pieces[i].bytes);
	if (heap.bytes > 0) {
		Inference__ModelInferResponse *response =
			inference__model_infer_response__unpack(NULL, heap.bytes - 5,
		                                                heap.data + 5);

		assert(response);
		assert(response->n_raw_output_contents == response->n_outputs);
		inference__model_infer_response__free_unpacked(response, NULL);
	}
	answer_fini(&answer);
	err.text[0] = '\0';
	answer_read_error(json, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct parts whole;
	static struct parts parts;
	static uint8_t framed[ROOM];
	struct fuzz_bytes bytes = { data, size };
	uint8_t kind = fuzz_u8(&bytes);
	size_t chunk = (size_t)fuzz_u8(&bytes) + 1;

	if (bytes.left > ROOM / 16)
		return 0;
	if (kind == 'a') {
		check_answer(bytes.at, bytes.left, chunk);
		return 0;
	}
	/* The right length, so that what is behind it is reached; or what the input says. */
	if (kind == 'r') {
		memcpy(framed,
		       (uint8_t[]){ 0, 0, 0, (uint8_t)(bytes.left >> 8),
		                    (uint8_t)bytes.left },
		       5);
		memcpy(framed + 5, bytes.at, bytes.left);
		bytes.at = framed;
		bytes.left += 5;
	}
	split_by(&whole, bytes.at, bytes.left, bytes.left + 1);
	split_by(&parts, bytes.at, bytes.left, chunk);
	assert(parts.end == whole.end && parts.is_whole == whole.is_whole);
	assert(parts.fields.bytes == whole.fields.bytes && parts.n == whole.n);
	assert(memcmp(parts.fields.data, whole.fields.data, parts.fields.bytes) == 0);
	assert(memcmp(parts.raw.data, whole.raw.data, parts.raw.bytes) == 0);
	if (parts.is_whole)
		check_request(&parts, bytes.at + 5, bytes.left - 5);
	return 0;
}
