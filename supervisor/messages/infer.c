/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading is done in three walks over what has come: one that finds the inputs, one that
 * measures their contents, where these are in the message, and one that writes them. None of
 * them makes a tree, and none believes what another one has seen of hostile bytes without
 * having checked it. infer_json.c writes the JSON.
 */
#include "supervisor/messages/infer.h"

#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
/* Bytes that are gathered before a sink gets them. */
#define INFER_CHUNK 4096

/* Fields of ModelInferRequest and InferInputTensor. */
enum {
	REQUEST_MODEL = 1,
	REQUEST_VERSION,
	REQUEST_ID,
	REQUEST_PARAMETERS,
	REQUEST_INPUTS
};
enum { INPUT_NAME = 1, INPUT_DATATYPE, INPUT_SHAPE, INPUT_PARAMETERS, INPUT_CONTENTS };

/* A field of InferTensorContents: what it holds, and how. */
struct infer_contents {
	const char *name;
	uint32_t dtypes;    /* that it may hold: bits of enum tensor_dtype */
	size_t fixed_bytes; /* of an element on the wire; 0: a varint */
	bool is_signed;     /* what varints mean */
};

#define BIT(dtype) (1u << TENSOR_DTYPE_##dtype)

static const struct infer_contents infer_rows[] = {
	[1] = { "bool_contents", BIT(BOOL), 0, false },
	[2] = { "int_contents", BIT(INT8) | BIT(INT16) | BIT(INT32), 0, true },
	[3] = { "int64_contents", BIT(INT64), 0, true },
	[4] = { "uint_contents", BIT(UINT8) | BIT(UINT16) | BIT(UINT32), 0, false },
	[5] = { "uint64_contents", BIT(UINT64), 0, false },
	[6] = { "fp32_contents", BIT(FP32), 4, false },
	[7] = { "fp64_contents", BIT(FP64), 8, false },
	[8] = { "bytes_contents", BIT(BYTES), 0, false },
};

static int infer_refuse(struct err *err)
{
	return err_set(err, 400, "the message is no ModelInferRequest");
}

/* The inputs */

/* Whether @field is a string. 0 or 400. */
static int infer_check_text(const struct pb_field *field, struct err *err)
{
	if (field->type != PB_BYTES)
		return infer_refuse(err);
	return pb_is_utf8(field->text)
	               ? 0
	               : err_set(err, 400, "a string of the message is not UTF-8");
}

static int infer_find_dtype(struct infer_input *input, struct err *err)
{
	struct pb_text text = input->datatype;
	char name[16];

	if (text.bytes < sizeof(name)) {
		memcpy(name, text.data, text.bytes);
		name[text.bytes] = '\0';
		if (tensor_dtype_from_name(name, &input->dtype) == 0)
			return 0;
	}
	return err_set(err, 400, "input '%.*s' has datatype '%.*s', which is none",
	               (int)(input->name.bytes < 64 ? input->name.bytes : 64),
	               input->name.data, (int)(text.bytes < 16 ? text.bytes : 16),
	               text.data);
}

static int infer_read_input_field(struct infer_input *input, const struct pb_field *field,
                                  struct err *err)
{
	switch (field->number) {
	case INPUT_NAME:
		input->name = field->text;
		return infer_check_text(field, err);
	case INPUT_DATATYPE:
		input->datatype = field->text;
		return infer_check_text(field, err);
	case INPUT_CONTENTS:
		input->has_contents |= field->text.bytes > 0;
		return field->type == PB_BYTES ? 0 : infer_refuse(err);
	default:
		return 0;
	}
}

static int infer_read_input(struct infer_input *input, struct pb_text message,
                            struct err *err)
{
	const struct pb_text nothing = { (const unsigned char *)"", 0 };
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;
	int r;

	*input = (struct infer_input){ .message = message,
		                       .name = nothing,
		                       .datatype = nothing };
	while ((r = pb_next(&reader, &field)) == 1) {
		r = infer_read_input_field(input, &field, err);
		if (r)
			return r;
	}
	return r < 0 ? infer_refuse(err) : infer_find_dtype(input, err);
}

static int infer_read_field(struct infer *infer, const struct pb_field *field,
                            struct err *err)
{
	switch (field->number) {
	case REQUEST_MODEL:
		infer->model = field->text;
		return infer_check_text(field, err);
	case REQUEST_VERSION:
		infer->version = field->text;
		return infer_check_text(field, err);
	case REQUEST_ID:
		infer->id = field->text;
		return infer_check_text(field, err);
	case REQUEST_INPUTS:
		if (field->type != PB_BYTES)
			return infer_refuse(err);
		if (infer->n_inputs == COUNT(infer->inputs))
			return err_set(err, 400, "the request has more than %d inputs",
			               CONFIG_TENSORS_MAX);
		return infer_read_input(&infer->inputs[infer->n_inputs++], field->text,
		                        err);
	default:
		return 0;
	}
}

int infer_read(struct infer *infer, struct pb_text message, struct err *err)
{
	const struct pb_text nothing = { (const unsigned char *)"", 0 };
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;
	int r;

	infer->message = message;
	infer->model = infer->version = infer->id = nothing;
	infer->n_inputs = 0;
	while ((r = pb_next(&reader, &field)) == 1) {
		r = infer_read_field(infer, &field, err);
		if (r)
			return r;
	}
	return r < 0 ? infer_refuse(err) : 0;
}

int infer_set_raw(struct infer *infer, const uint64_t *bytes, size_t n, struct err *err)
{
	if (n != infer->n_inputs)
		return err_set(
			err, 400,
			"the request has %zu inputs and %zu raw_input_contents: one "
			"is needed for each",
			infer->n_inputs, n);
	for (size_t i = 0; i < n; i++) {
		if (infer->inputs[i].has_contents)
			return err_set(
				err, 400,
				"an input's contents are in raw_input_contents or in "
				"its own field contents, not in both");
		infer->inputs[i].bytes = bytes[i];
	}
	return 0;
}

void infer_set_bound(struct infer *infer, uint64_t bytes)
{
	for (size_t i = 0; i < infer->n_inputs; i++)
		infer->inputs[i].bytes = bytes;
}

/* Contents */

/* A walk over the elements of an input. */
struct infer_walk {
	const struct infer_input *input;
	const struct infer_sink *sink; /* NULL: elements are measured */
	struct err *err;
	uint64_t bytes;
	bool is_over; /* the sink wants no more */
	size_t chunk_bytes;
	unsigned char chunk[INFER_CHUNK];
};

static void infer_flush(struct infer_walk *walk)
{
	if (walk->chunk_bytes > 0 && !walk->is_over)
		walk->is_over = !walk->sink->put(walk->sink->context, walk->chunk,
		                                 walk->chunk_bytes);
	walk->chunk_bytes = 0;
}

static void infer_emit(struct infer_walk *walk, const void *data, size_t bytes)
{
	walk->bytes += bytes;
	if (!walk->sink || walk->is_over)
		return;
	if (bytes > sizeof(walk->chunk) - walk->chunk_bytes)
		infer_flush(walk);
	if (bytes > sizeof(walk->chunk)) {
		walk->is_over = !walk->sink->put(walk->sink->context, data, bytes);
		return;
	}
	memcpy(walk->chunk + walk->chunk_bytes, data, bytes);
	walk->chunk_bytes += bytes;
}

/* Whether @value, sign-extended where @is_signed, fits into @bytes bytes. */
static bool infer_fits(uint64_t value, size_t bytes, bool is_signed)
{
	unsigned int bits = (unsigned int)bytes * 8;

	if (bits == 64)
		return true;
	if (!is_signed)
		return value >> bits == 0;
	return (int64_t)value >= -(INT64_C(1) << (bits - 1)) &&
	       (int64_t)value < INT64_C(1) << (bits - 1);
}

/* One number, in @value. 0 or 400. */
static int infer_number(struct infer_walk *walk, const struct infer_contents *row,
                        uint64_t value)
{
	enum tensor_dtype dtype = walk->input->dtype;
	struct pb_text name = walk->input->name;
	size_t bytes = tensor_dtype_bytes(dtype);

	if (dtype == TENSOR_DTYPE_BOOL)
		value = value != 0;
	/* Fields of 32 bits take the lower ones, as all readers of the format do. */
	if (row->dtypes & BIT(INT32))
		value = (uint64_t)(int64_t)(int32_t)(uint32_t)value;
	if (row->dtypes & BIT(UINT32))
		value = (uint32_t)value;
	if (!infer_fits(value, bytes, row->is_signed))
		return err_set(walk->err, 400,
		               "input '%.*s' has a number in %s that %s does not hold",
		               (int)(name.bytes < 64 ? name.bytes : 64), name.data,
		               row->name, tensor_dtype_name(dtype));
	/* Little-endian, as the machine is. */
	infer_emit(walk, &value, bytes);
	return 0;
}

/* One string of BYTES. */
static int infer_bytes(struct infer_walk *walk, struct pb_text text)
{
	uint32_t bytes = (uint32_t)text.bytes;

	infer_emit(walk, &bytes, sizeof(bytes));
	infer_emit(walk, text.data, text.bytes);
	return 0;
}

/* The elements of a packed field. */
static int infer_packed(struct infer_walk *walk, const struct infer_contents *row,
                        struct pb_text text)
{
	struct pb_reader reader = pb_reader_of(text);
	uint64_t value;
	int r;

	/* Numbers that lie there as they are to lie. */
	if (row->fixed_bytes > 0) {
		if (text.bytes % row->fixed_bytes != 0)
			return infer_refuse(walk->err);
		infer_emit(walk, text.data, text.bytes);
		return 0;
	}
	while ((r = pb_next_varint(&reader, &value)) == 1) {
		r = infer_number(walk, row, value);
		if (r)
			return r;
	}
	return r < 0 ? infer_refuse(walk->err) : 0;
}

static int infer_contents_field(struct infer_walk *walk, const struct pb_field *field)
{
	const struct infer_contents *row = &infer_rows[field->number];
	enum pb_type single = row->fixed_bytes == 4   ? PB_FIXED32
	                      : row->fixed_bytes == 8 ? PB_FIXED64
	                                              : PB_VARINT;

	if (!(row->dtypes & 1u << walk->input->dtype)) {
		if (field->type == PB_BYTES && field->text.bytes == 0)
			return 0;
		return err_set(walk->err, 400,
		               "an input of datatype %s has its contents in %s: %s",
		               tensor_dtype_name(walk->input->dtype), row->name,
		               walk->input->dtype == TENSOR_DTYPE_FP16 ||
		                               walk->input->dtype == TENSOR_DTYPE_BF16
		                       ? "send them in raw_input_contents"
		                       : "the protocol has another field for it");
	}
	if (row->dtypes == BIT(BYTES))
		return field->type == PB_BYTES ? infer_bytes(walk, field->text)
		                               : infer_refuse(walk->err);
	if (field->type == PB_BYTES)
		return infer_packed(walk, row, field->text);
	if (field->type != single)
		return infer_refuse(walk->err);
	return infer_number(walk, row, field->value);
}

/* An InferTensorContents. */
static int infer_walk_contents(struct infer_walk *walk, struct pb_text message)
{
	struct pb_reader reader = pb_reader_of(message);
	struct pb_field field;
	int r;

	while ((r = pb_next(&reader, &field)) == 1) {
		if (field.number >= COUNT(infer_rows))
			continue;
		r = infer_contents_field(walk, &field);
		if (r)
			return r;
	}
	return r < 0 ? infer_refuse(walk->err) : 0;
}

static int infer_walk_input(struct infer_walk *walk)
{
	struct pb_reader reader = pb_reader_of(walk->input->message);
	struct pb_field field;
	int r;

	while ((r = pb_next(&reader, &field)) == 1) {
		if (field.number != INPUT_CONTENTS)
			continue;
		r = infer_walk_contents(walk, field.text);
		if (r)
			return r;
	}
	return 0;
}

int infer_measure(struct infer *infer, struct err *err)
{
	for (size_t i = 0; i < infer->n_inputs; i++) {
		struct infer_walk walk;
		int r;

		walk.input = &infer->inputs[i];
		walk.sink = NULL;
		walk.err = err;
		walk.bytes = walk.chunk_bytes = 0;
		walk.is_over = false;
		r = infer_walk_input(&walk);
		if (r)
			return r;
		infer->inputs[i].bytes = walk.bytes;
	}
	return 0;
}

bool infer_write_contents(const struct infer *infer, const struct infer_sink *sink)
{
	struct infer_walk walk = { .sink = sink };

	for (size_t i = 0; i < infer->n_inputs && !walk.is_over; i++) {
		walk.input = &infer->inputs[i];
		(void)infer_walk_input(&walk);
	}
	infer_flush(&walk);
	return !walk.is_over;
}
