/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An answer is written in one piece of memory but for its tensors, between whose keys they are
 * sent from where they lie. Of the loader's JSON nothing is believed: sizes must add up to what
 * is there, and whatever is of another type counts as empty.
 */
#include "supervisor/messages/answer.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "shared/tensor.h"

#define ANSWER_FRAME_BYTES 5
/* A frame says its length in 32 bits. */
#define ANSWER_BYTES_MAX UINT32_MAX

/* Fields of ModelInferResponse, InferOutputTensor, an entry of parameters and InferParameter. */
enum {
	RESPONSE_MODEL = 1,
	RESPONSE_VERSION,
	RESPONSE_ID,
	RESPONSE_PARAMETERS,
	RESPONSE_OUTPUTS,
	RESPONSE_RAW
};
enum { OUTPUT_NAME = 1, OUTPUT_DATATYPE, OUTPUT_SHAPE };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum { PARAMETER_BOOL = 1, PARAMETER_INT64, PARAMETER_STRING, PARAMETER_DOUBLE };

static int answer_refuse(struct err *err)
{
	return err_set(err, 500, "the loader's answer is not of the protocol");
}

static const char *answer_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* Writing. Each message inside another one is written twice: once for its length. */

static void answer_put_value(struct pb_writer *writer, const json_t *value)
{
	if (json_is_boolean(value)) {
		pb_put_key(writer, PARAMETER_BOOL, PB_VARINT);
		pb_put_varint(writer, json_is_true(value));
	} else if (json_is_integer(value)) {
		pb_put_key(writer, PARAMETER_INT64, PB_VARINT);
		pb_put_varint(writer, (uint64_t)json_integer_value(value));
	} else if (json_is_real(value)) {
		double real = json_real_value(value);

		pb_put_key(writer, PARAMETER_DOUBLE, PB_FIXED64);
		pb_put(writer, &real, sizeof(real));
	} else if (json_is_string(value)) {
		pb_put_text(writer, PARAMETER_STRING, json_string_value(value));
	}
}

static void answer_put_entry(struct pb_writer *writer, const char *key,
                             const json_t *value)
{
	struct pb_writer inner = { .memory = NULL };

	answer_put_value(&inner, value);
	pb_put_text(writer, ENTRY_KEY, key);
	pb_put_key(writer, ENTRY_VALUE, PB_BYTES);
	pb_put_varint(writer, inner.bytes);
	answer_put_value(writer, value);
}

static void answer_put_parameters(struct pb_writer *writer, json_t *parameters)
{
	const char *key;
	json_t *value;

	json_object_foreach(parameters, key, value)
	{
		struct pb_writer inner = { .memory = NULL };

		answer_put_entry(&inner, key, value);
		pb_put_key(writer, RESPONSE_PARAMETERS, PB_BYTES);
		pb_put_varint(writer, inner.bytes);
		answer_put_entry(writer, key, value);
	}
}

static void answer_put_dims(struct pb_writer *writer, const json_t *shape)
{
	for (size_t i = 0; i < json_array_size(shape); i++)
		pb_put_varint(writer,
		              (uint64_t)json_integer_value(json_array_get(shape, i)));
}

static void answer_put_output(struct pb_writer *writer, const json_t *output)
{
	const json_t *shape = json_object_get(output, "shape");
	struct pb_writer dims = { .memory = NULL };

	answer_put_dims(&dims, shape);
	pb_put_text(writer, OUTPUT_NAME, answer_text(output, "name"));
	pb_put_text(writer, OUTPUT_DATATYPE, answer_text(output, "datatype"));
	if (dims.bytes == 0)
		return;
	pb_put_key(writer, OUTPUT_SHAPE, PB_BYTES);
	pb_put_varint(writer, dims.bytes);
	answer_put_dims(writer, shape);
}

/* All but the tensors. */
static void answer_put_response(struct pb_writer *writer, const json_t *json)
{
	const json_t *outputs = json_object_get(json, "outputs");

	pb_put_text(writer, RESPONSE_MODEL, answer_text(json, "model_name"));
	pb_put_text(writer, RESPONSE_VERSION, answer_text(json, "model_version"));
	pb_put_text(writer, RESPONSE_ID, answer_text(json, "id"));
	answer_put_parameters(writer, json_object_get(json, "parameters"));
	for (size_t i = 0; i < json_array_size(outputs); i++) {
		const json_t *output = json_array_get(outputs, i);
		struct pb_writer inner = { .memory = NULL };

		answer_put_output(&inner, output);
		pb_put_key(writer, RESPONSE_OUTPUTS, PB_BYTES);
		pb_put_varint(writer, inner.bytes);
		answer_put_output(writer, output);
	}
}

/* Pieces */

/* Writes the frame of a message of @bytes. */
static void answer_put_frame(unsigned char *memory, uint64_t bytes)
{
	memory[0] = 0;
	for (int i = 1; i < ANSWER_FRAME_BYTES; i++)
		memory[i] = (unsigned char)(bytes >> 8 * (ANSWER_FRAME_BYTES - 1 - i));
}

static void answer_add_piece(struct answer *answer, const unsigned char *data,
                             size_t bytes)
{
	answer->pieces[answer->n_pieces++] = (struct pb_text){ data, bytes };
	answer->bytes += bytes;
}

/* The size of an output's tensor; -1: it does not say. */
static int64_t answer_size_of(const json_t *output)
{
	const json_t *parameters = json_object_get(output, "parameters");
	const json_t *size = json_object_get(parameters, "binary_data_size");

	return json_is_integer(size) ? json_integer_value(size) : -1;
}

/* Bytes of all fields of raw_output_contents. 0; or 500: they are not as long as @tensors_bytes. */
static int answer_measure(const json_t *outputs, size_t tensors_bytes,
                          uint64_t *ret_bytes, struct err *err)
{
	size_t left = tensors_bytes;

	*ret_bytes = 0;
	if (json_array_size(outputs) > CONFIG_TENSORS_MAX)
		return answer_refuse(err);
	for (size_t i = 0; i < json_array_size(outputs); i++) {
		int64_t size = answer_size_of(json_array_get(outputs, i));

		if (size < 0 || (uint64_t)size > left)
			return answer_refuse(err);
		left -= (size_t)size;
		*ret_bytes += pb_bytes_of(RESPONSE_RAW, (uint64_t)size);
	}
	return left == 0 ? 0 : answer_refuse(err);
}

/* Writes the message into answer->memory, which has room, with its tensors beside. */
static void answer_fill(struct answer *answer, const json_t *json, struct pb_text tensors)
{
	const json_t *outputs = json_object_get(json, "outputs");
	struct pb_writer writer = { answer->memory, ANSWER_FRAME_BYTES };
	size_t begun = 0;

	answer_put_response(&writer, json);
	for (size_t i = 0; i < json_array_size(outputs); i++) {
		size_t size = (size_t)answer_size_of(json_array_get(outputs, i));

		pb_put_key(&writer, RESPONSE_RAW, PB_BYTES);
		pb_put_varint(&writer, size);
		answer_add_piece(answer, answer->memory + begun, writer.bytes - begun);
		begun = writer.bytes;
		answer_add_piece(answer, tensors.data, size);
		tensors.data += size;
	}
	if (writer.bytes > begun)
		answer_add_piece(answer, answer->memory + begun, writer.bytes - begun);
}

static int answer_make_of(struct answer *answer, const json_t *json,
                          struct pb_text tensors, struct err *err)
{
	struct pb_writer measured = { .memory = NULL };
	uint64_t raw_bytes;
	int r = answer_measure(json_object_get(json, "outputs"), tensors.bytes,
	                       &raw_bytes, err);

	if (r)
		return r;
	answer_put_response(&measured, json);
	if (measured.bytes + raw_bytes > ANSWER_BYTES_MAX)
		return err_set(err, 500, "the answer is larger than a message may be");
	answer->memory =
		malloc(ANSWER_FRAME_BYTES + measured.bytes + raw_bytes - tensors.bytes);
	if (!answer->memory)
		return err_set(err, 500, "the server is out of memory");
	answer_put_frame(answer->memory, measured.bytes + raw_bytes);
	answer_fill(answer, json, tensors);
	return 0;
}

int answer_make(struct answer *answer, struct pb_text text, struct pb_text tensors,
                struct err *err)
{
	json_t *json = json_loadb((const char *)text.data, text.bytes, 0, NULL);
	int r;

	*answer = (struct answer){ .memory = NULL };
	r = json_is_object(json) ? answer_make_of(answer, json, tensors, err)
	                         : answer_refuse(err);
	json_decref(json);
	return r;
}

unsigned char *answer_make_room(struct answer *answer, size_t bytes)
{
	*answer = (struct answer){ .memory = malloc(ANSWER_FRAME_BYTES + bytes) };
	if (!answer->memory)
		return NULL;
	answer_put_frame(answer->memory, bytes);
	answer_add_piece(answer, answer->memory, ANSWER_FRAME_BYTES + bytes);
	return answer->memory + ANSWER_FRAME_BYTES;
}

void answer_fini(struct answer *answer)
{
	free(answer->memory);
	*answer = (struct answer){ .memory = NULL };
}

void answer_read_error(struct pb_text text, struct err *err)
{
	json_t *json = json_loadb((const char *)text.data, text.bytes, 0, NULL);
	const char *error = json_string_value(json_object_get(json, "error"));

	if (error)
		(void)err_set(err, 0, "%s", error);
	json_decref(json);
}
