/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The JSON of a request, written straight from the message into memory with a bound. The first
 * thing that is wrong ends the writing; what is written after it is of no use, and harmless.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "supervisor/messages/infer.h"

/* Fields of ModelInferRequest, InferInputTensor and InferRequestedOutputTensor, of an entry of
 * parameters, and of InferParameter. */
enum { REQUEST_PARAMETERS = 4, REQUEST_OUTPUTS = 6 };
enum { INPUT_SHAPE = 3, INPUT_PARAMETERS = 4 };
enum { OUTPUT_NAME = 1, OUTPUT_PARAMETERS = 2 };
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };
enum {
	PARAMETER_BOOL = 1,
	PARAMETER_INT64,
	PARAMETER_STRING,
	PARAMETER_DOUBLE,
	PARAMETER_UINT64
};

/* A text that grows to its bound. */
struct json_writer {
	char *at;
	char *end;
	struct err *err;
	int status; /* 0: all is well so far */
};

static void json_fail(struct json_writer *writer, int status, const char *why)
{
	if (writer->status == 0)
		writer->status = err_set(writer->err, status, "%s", why);
}

static void json_put(struct json_writer *writer, const char *data, size_t bytes)
{
	if ((size_t)(writer->end - writer->at) < bytes) {
		json_fail(writer, 413,
		          "the names, shapes and parameters of the request take more "
		          "memory than one request may have");
		return;
	}
	memcpy(writer->at, data, bytes);
	writer->at += bytes;
}

static void json_puts(struct json_writer *writer, const char *text)
{
	json_put(writer, text, strlen(text));
}

static void json_put_signed(struct json_writer *writer, int64_t value)
{
	char text[24];

	json_put(writer, text,
	         (size_t)snprintf(text, sizeof(text), "%lld", (long long)value));
}

static void json_put_unsigned(struct json_writer *writer, uint64_t value)
{
	char text[24];

	json_put(writer, text,
	         (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)value));
}

static void json_put_string(struct json_writer *writer, struct pb_text string)
{
	size_t plain = 0; /* where bytes begin that go as they are */

	json_puts(writer, "\"");
	for (size_t i = 0; i < string.bytes; i++) {
		unsigned char byte = string.data[i];
		char text[8];

		if (byte >= ' ' && byte != '"' && byte != '\\')
			continue;
		json_put(writer, (const char *)string.data + plain, i - plain);
		json_put(writer, text,
		         (size_t)snprintf(text, sizeof(text), "\\u%04x", byte));
		plain = i + 1;
	}
	json_put(writer, (const char *)string.data + plain, string.bytes - plain);
	json_puts(writer, "\"");
}

/* Parameters */

static void json_put_double(struct json_writer *writer, uint64_t bits)
{
	char text[40];
	double value;

	memcpy(&value, &bits, sizeof(value));
	if (!isfinite(value)) {
		json_fail(writer, 400, "a parameter of the request is no finite number");
		return;
	}
	json_put(writer, text, (size_t)snprintf(text, sizeof(text), "%.17g", value));
}

/* The last value of an InferParameter; its number is 0: there is none. */
static struct pb_field json_find_value(struct json_writer *writer, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field value = { .number = 0 };
	struct pb_field field;
	int r;

	while ((r = pb_next(&reader, &field)) == 1)
		if (field.number <= PARAMETER_UINT64)
			value = field;
	if (r < 0)
		json_fail(writer, 400, "a parameter of the request is malformed");
	return value;
}

static void json_put_value(struct json_writer *writer, const struct pb_field *value)
{
	static const enum pb_type types[] = {
		[PARAMETER_BOOL] = PB_VARINT,   [PARAMETER_INT64] = PB_VARINT,
		[PARAMETER_STRING] = PB_BYTES,  [PARAMETER_DOUBLE] = PB_FIXED64,
		[PARAMETER_UINT64] = PB_VARINT,
	};

	if (value->number == 0) {
		json_puts(writer, "null");
		return;
	}
	if (value->type != types[value->number] ||
	    (value->type == PB_BYTES && !pb_is_utf8(value->text)))
		json_fail(writer, 400, "a parameter of the request is malformed");
	else if (value->number == PARAMETER_BOOL)
		json_puts(writer, value->value ? "true" : "false");
	else if (value->number == PARAMETER_STRING)
		json_put_string(writer, value->text);
	else if (value->number == PARAMETER_DOUBLE)
		json_put_double(writer, value->value);
	else if (value->number == PARAMETER_INT64)
		json_put_signed(writer, (int64_t)value->value);
	else if (value->value <= INT64_MAX)
		json_put_unsigned(writer, value->value);
	else
		json_fail(
			writer, 400,
			"a parameter of the request is larger than 9223372036854775807");
}

/* How contents are sent is gRPC's own to say. */
static bool json_is_ours(struct pb_text key)
{
	static const char *const ours[] = { "binary_data", "binary_data_output",
		                            "binary_data_size" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (key.bytes == strlen(ours[i]) &&
		    memcmp(key.data, ours[i], key.bytes) == 0)
			return true;
	return false;
}

/* Writes an entry of a map of parameters, and a comma. */
static void json_put_entry(struct json_writer *writer, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_text key = { (const unsigned char *)"", 0 };
	struct pb_field value = { .number = 0 };
	struct pb_field field;
	int r;

	while ((r = pb_next(&reader, &field)) == 1) {
		if (field.number > ENTRY_VALUE)
			continue;
		if (field.type != PB_BYTES)
			break;
		if (field.number == ENTRY_KEY)
			key = field.text;
		else
			value = json_find_value(writer, field.text);
	}
	/* No reader of JSON in C takes a key with a NUL in it. */
	if (r != 0 || !pb_is_utf8(key) || memchr(key.data, '\0', key.bytes)) {
		json_fail(writer, 400, "a parameter of the request is malformed");
		return;
	}
	if (json_is_ours(key))
		return;
	json_put_string(writer, key);
	json_puts(writer, ":");
	json_put_value(writer, &value);
	json_puts(writer, ",");
}

/* Writes all entries that @message has in its field @number, each with a comma. */
static void json_put_entries(struct json_writer *writer, struct pb_text message,
                             uint32_t number)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;

	while (writer->status == 0 && pb_next(&reader, &field) == 1) {
		if (field.number != number)
			continue;
		if (field.type == PB_BYTES)
			json_put_entry(writer, field.text);
		else
			json_fail(writer, 400, "a parameter of the request is malformed");
	}
}

/* Tensors */

static void json_put_dim(struct json_writer *writer, uint64_t dim, bool *is_first)
{
	if (!*is_first)
		json_puts(writer, ",");
	*is_first = false;
	json_put_signed(writer, (int64_t)dim);
}

/* Dims come packed, or one in a field, or both. */
static void json_put_shape(struct json_writer *writer, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;
	bool is_first = true;
	uint64_t dim;
	int r = 0;

	json_puts(writer, "\"shape\":[");
	while (writer->status == 0 && r >= 0 && pb_next(&reader, &field) == 1) {
		struct pb_reader packed;

		if (field.number != INPUT_SHAPE)
			continue;
		if (field.type == PB_VARINT) {
			json_put_dim(writer, field.value, &is_first);
			continue;
		}
		if (field.type != PB_BYTES) {
			r = -1;
			break;
		}
		packed = pb_reader_of(field.text);
		while ((r = pb_next_varint(&packed, &dim)) == 1)
			json_put_dim(writer, dim, &is_first);
	}
	if (r < 0)
		json_fail(writer, 400, "the shape of an input is malformed");
	json_puts(writer, "]");
}

static void json_put_input(struct json_writer *writer, const struct infer_input *input)
{
	json_puts(writer, "{\"name\":");
	json_put_string(writer, input->name);
	json_puts(writer, ",\"datatype\":\"");
	json_puts(writer, tensor_dtype_name(input->dtype));
	json_puts(writer, "\",");
	json_put_shape(writer, input->message);
	json_puts(writer, ",\"parameters\":{");
	json_put_entries(writer, input->message, INPUT_PARAMETERS);
	json_puts(writer, "\"binary_data_size\":");
	json_put_unsigned(writer, input->bytes);
	json_puts(writer, "}}");
}

static void json_put_output(struct json_writer *writer, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_text name = { (const unsigned char *)"", 0 };
	struct pb_field field;
	int r;

	while ((r = pb_next(&reader, &field)) == 1)
		if (field.number == OUTPUT_NAME && field.type == PB_BYTES)
			name = field.text;
	if (r < 0 || !pb_is_utf8(name)) {
		json_fail(writer, 400, "an output of the request is malformed");
		return;
	}
	json_puts(writer, "{\"name\":");
	json_put_string(writer, name);
	json_puts(writer, ",\"parameters\":{");
	json_put_entries(writer, message, OUTPUT_PARAMETERS);
	json_puts(writer, "\"binary_data\":true}}");
}

/* Writes "outputs" where the client names any, and a comma before it. */
static void json_put_outputs(struct json_writer *writer, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;
	size_t n = 0;

	while (writer->status == 0 && pb_next(&reader, &field) == 1) {
		if (field.number != REQUEST_OUTPUTS)
			continue;
		json_puts(writer, n++ == 0 ? ",\"outputs\":[" : ",");
		if (field.type == PB_BYTES)
			json_put_output(writer, field.text);
		else
			json_fail(writer, 400, "an output of the request is malformed");
	}
	if (n > 0)
		json_puts(writer, "]");
}

int infer_write_json(const struct infer *infer, char *memory, size_t size,
                     size_t *ret_bytes, struct err *err)
{
	struct json_writer writer = { memory, memory + size, err, 0 };

	json_puts(&writer, "{");
	if (infer->id.bytes > 0) {
		json_puts(&writer, "\"id\":");
		json_put_string(&writer, infer->id);
		json_puts(&writer, ",");
	}
	json_puts(&writer, "\"parameters\":{");
	json_put_entries(&writer, infer->message, REQUEST_PARAMETERS);
	json_puts(&writer, "\"binary_data_output\":true},\"inputs\":[");
	for (size_t i = 0; i < infer->n_inputs && writer.status == 0; i++) {
		if (i > 0)
			json_puts(&writer, ",");
		json_put_input(&writer, &infer->inputs[i]);
	}
	json_puts(&writer, "]");
	json_put_outputs(&writer, infer->message);
	json_puts(&writer, "}");
	*ret_bytes = (size_t)(writer.at - memory);
	return writer.status;
}
