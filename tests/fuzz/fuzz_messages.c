/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Messages of gRPC, from a client who sends what he likes, in pieces of any size. However a message
 * is cut, the same comes out. What is taken of a ModelInferRequest protobuf-c reads alike, its JSON
 * is JSON, and its tensors have the sizes that it says. An answer's JSON and tensors are a
 * loader's, which is hostile, too.
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

#define JSON_BYTES (64 * 1024)
#define RAW_MAX    CONFIG_TENSORS_MAX

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came out of a message. */
struct taken {
	unsigned char *fields; /* owned */
	size_t fields_bytes;
	uint64_t raw_bytes[RAW_MAX]; /* as they are announced */
	size_t n_raw;
	uint64_t raw_come;
	enum split_kind end; /* SPLIT_NONE: all was used */
	bool is_whole;
};

static void note_piece(struct taken *taken, const struct split_piece *piece)
{
	if (piece->kind == SPLIT_FIELDS) {
		memcpy(taken->fields + taken->fields_bytes, piece->data, piece->bytes);
		taken->fields_bytes += piece->bytes;
	} else if (piece->kind == SPLIT_BEGINS && taken->n_raw < RAW_MAX) {
		taken->raw_bytes[taken->n_raw++] = piece->bytes;
	} else if (piece->kind == SPLIT_RAW) {
		taken->raw_come += piece->bytes;
	}
}

static void take(struct taken *taken, const uint8_t *data, size_t size, size_t step)
{
	struct split split;
	struct split_piece piece = { .kind = SPLIT_NONE };

	*taken = (struct taken){ .fields = malloc(size + 1) };
	assert(taken->fields);
	split_init(&split, true);
	for (size_t at = 0; at < size && taken->end == SPLIT_NONE; at += step) {
		struct pb_text input = { data + at, size - at < step ? size - at : step };

		do {
			piece = split_next(&split, &input);
			note_piece(taken, &piece);
		} while (piece.kind != SPLIT_NONE && piece.kind != SPLIT_BAD &&
		         piece.kind != SPLIT_PACKED);
		assert(piece.kind != SPLIT_NONE || input.bytes == 0);
		taken->end = piece.kind;
	}
	taken->is_whole = taken->end == SPLIT_NONE && split_is_whole(&split);
}

static void same(const struct taken *a, const struct taken *b)
{
	assert(a->end == b->end && a->is_whole == b->is_whole);
	if (!a->is_whole)
		return;
	assert(a->fields_bytes == b->fields_bytes && a->n_raw == b->n_raw &&
	       a->raw_come == b->raw_come);
	assert(memcmp(a->fields, b->fields, a->fields_bytes) == 0);
}

static bool text_is(struct pb_text text, const char *other)
{
	return strlen(other) == strnlen((const char *)text.data, text.bytes) &&
	       memcmp(text.data, other, strlen(other)) == 0;
}

/* What was read is what others read. */
static void agree(const struct infer *infer, const struct taken *taken)
{
	Inference__ModelInferRequest *request =
		inference__model_infer_request__unpack(NULL, taken->fields_bytes,
	                                               taken->fields);

	/* A known field of another type is an unknown one to us, as to other readers, and an error to
	 * protobuf-c. */
	if (!request)
		return;
	assert(request->n_inputs == infer->n_inputs);
	assert(infer->model.bytes == 0 || text_is(infer->model, request->model_name));
	assert(infer->id.bytes == 0 || text_is(infer->id, request->id));
	for (size_t i = 0; i < infer->n_inputs; i++)
		assert(text_is(infer->inputs[i].name, request->inputs[i]->name));
	inference__model_infer_request__free_unpacked(request, NULL);
}

static bool count(void *context, const void *data, size_t bytes)
{
	uint64_t *sum = context;
	unsigned char last;

	if (bytes > 0)
		memcpy(&last, (const unsigned char *)data + bytes - 1, 1);
	*sum += bytes;
	return true;
}

/* True: it was written. */
static bool write_json(const struct infer *infer)
{
	static char text[JSON_BYTES];
	struct err err = ERR_NULL;
	json_error_t error;
	size_t bytes = 0;
	json_t *json;
	int r = infer_write_json(infer, text, sizeof(text), &bytes, &err);

	assert(r == 0 ? bytes <= sizeof(text) : *err.text != '\0');
	if (r)
		return false;
	/* Names may come twice, and have a NUL, which is for whoever decodes it to refuse. */
	json = json_loadb(text, bytes, JSON_ALLOW_NUL, &error);
	assert(json ? json_array_size(json_object_get(json, "inputs")) == infer->n_inputs
	            : json_error_code(&error) == json_error_null_byte_in_key);
	json_decref(json);
	return true;
}

static void read_request(const struct taken *taken)
{
	const struct pb_text message = { taken->fields, taken->fields_bytes };
	struct err err = ERR_NULL;
	struct infer infer;
	uint64_t want = 0;
	uint64_t come = 0;

	if (infer_read(&infer, message, &err)) {
		assert(*err.text);
		return;
	}
	infer_set_bound(&infer, taken->raw_come);
	(void)write_json(&infer);
	if (taken->n_raw > 0) {
		if (infer_set_raw(&infer, taken->raw_bytes, taken->n_raw, &err) == 0 &&
		    write_json(&infer))
			agree(&infer, taken);
		return;
	}
	if (infer_measure(&infer, &err)) {
		assert(*err.text);
		return;
	}
	for (size_t i = 0; i < infer.n_inputs; i++)
		want += infer.inputs[i].bytes;
	assert(infer_write_contents(&infer, &(struct infer_sink){ .put = count,
	                                                          .context = &come }));
	assert(come == want);
	/* Contents are looked into where they are measured, parameters where they are written. */
	if (write_json(&infer))
		agree(&infer, taken);
}

/* An answer that a loader gave. */
static void read_answer(const uint8_t *data, size_t size)
{
	const uint8_t *cut = size ? memchr(data, '\f', size) : NULL;
	size_t bytes = cut ? (size_t)(cut - data) : size;
	struct pb_text json = { data, bytes };
	struct pb_text tensors = { data + bytes, size - bytes };
	struct err err = ERR_NULL;
	struct answer answer;
	uint64_t sum = 0;

	answer_read_error(json, &err);
	if (answer_make(&answer, json, tensors, &err)) {
		assert(*err.text);
		return;
	}
	for (size_t i = 0; i < answer.n_pieces; i++)
		sum += answer.pieces[i].bytes;
	assert(answer.n_pieces <= ANSWER_PIECES_MAX && sum == answer.bytes);
	answer_fini(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct taken whole;
	struct taken cut;
	size_t step;

	if (size == 0)
		return 0;
	step = data[0];
	data++;
	size--;
	if (step >= 0xf0) {
		read_answer(data, size);
		return 0;
	}
	take(&whole, data, size, size ? size : 1);
	take(&cut, data, size, step % 16 + 1);
	same(&whole, &cut);
	if (whole.is_whole)
		read_request(&whole);
	free(whole.fields);
	free(cut.fields);
	return 0;
}
