/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The numbers are those of onnx.proto: ModelProto.graph, GraphProto.initializer, and so on. Fields
 * are copied as they are, but for the tensors that are taken: for each the graph ends with an input
 * of its name, type and shape. A tensor that is an input as well, as all are in files of ONNX before
 * IR version 4, stays.
 *
 * A tensor begins at any byte of the file. The kernels of x86-64 load from any address, which the
 * runtime itself relies on where weights are in a file beside a model; elsewhere a tensor is taken
 * only from a multiple of its element's size.
 */
#include "loader/onnx/graph.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/engine.h"

/* A smaller tensor may be a shape, which the runtime computes with while it builds. */
#define GRAPH_TENSOR_MIN 4096

enum {
	MODEL_GRAPH = 7,
	GRAPH_INITIALIZER = 5,
	GRAPH_INPUT = 11,
	GRAPH_OUTPUT = 12,
	TENSOR_DIMS = 1,
	TENSOR_TYPE = 2,
	TENSOR_NAME = 8,
	TENSOR_RAW = 9,
	TENSOR_DOC = 12,
	/* ValueInfoProto, TypeProto and what it consists of */
	INFO_NAME = 1,
	INFO_TYPE = 2,
	TYPE_TENSOR = 1,
	TYPE_ELEMENT = 1,
	TYPE_SHAPE = 2,
	SHAPE_DIM = 1,
	DIM_VALUE = 1,
};

/* Kinds of a field */
enum { FIELD_NUMBER = 0, FIELD_8 = 1, FIELD_BYTES = 2, FIELD_4 = 5 };

struct field {
	uint64_t tag;
	uint64_t number; /* the value of a FIELD_NUMBER */
	const unsigned char *data;
	size_t bytes;
	const unsigned char *begin; /* with its tag */
	const unsigned char *end;
};

/* What is left of a message. */
struct fields {
	const unsigned char *at;
	const unsigned char *end;
};

/* Reading */

static bool fields_number(struct fields *fields, uint64_t *ret_number)
{
	*ret_number = 0;
	for (unsigned int shift = 0; shift < 64 && fields->at < fields->end; shift += 7) {
		unsigned char byte = *fields->at++;

		*ret_number |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return true;
	}
	return false;
}

static bool fields_skip(struct fields *fields, struct field *field, uint64_t bytes)
{
	if (bytes > (uint64_t)(fields->end - fields->at))
		return false;
	field->data = fields->at;
	field->bytes = (size_t)bytes;
	fields->at += bytes;
	return true;
}

/* True: *@ret_field is the next one. False at the end, and where the message is damaged:
 * there fields->at is not its end. */
static bool fields_next(struct fields *fields, struct field *ret_field)
{
	struct fields start = *fields;
	uint64_t bytes = 0;
	bool is_whole = true;

	*ret_field = (struct field){ .begin = fields->at };
	if (fields->at == fields->end)
		return false;
	if (!fields_number(fields, &ret_field->tag))
		goto damaged;
	switch (ret_field->tag & 7) {
	case FIELD_NUMBER:
		is_whole = fields_number(fields, &ret_field->number);
		break;
	case FIELD_BYTES:
		is_whole = fields_number(fields, &bytes) &&
		           fields_skip(fields, ret_field, bytes);
		break;
	case FIELD_8:
	case FIELD_4:
		is_whole = fields_skip(fields, ret_field,
		                       (ret_field->tag & 7) == FIELD_8 ? 8 : 4);
		break;
	default:
		is_whole = false;
	}
	ret_field->end = fields->at;
	if (is_whole)
		return true;
damaged:
	*fields = start;
	return false;
}

static uint64_t field_tag(unsigned int number, unsigned int kind)
{
	return number << 3 | kind;
}

/* A tensor */

static size_t tensor_element(uint64_t type)
{
	switch (type) {
	case ORT_TYPE_UINT8:
	case ORT_TYPE_INT8:
	case ORT_TYPE_BOOL:
		return 1;
	case ORT_TYPE_UINT16:
	case ORT_TYPE_INT16:
	case ORT_TYPE_FLOAT16:
	case ORT_TYPE_BFLOAT16:
		return 2;
	case ORT_TYPE_FLOAT:
	case ORT_TYPE_INT32:
	case ORT_TYPE_UINT32:
		return 4;
	case ORT_TYPE_DOUBLE:
	case ORT_TYPE_INT64:
	case ORT_TYPE_UINT64:
		return 8;
	default:
		return 0;
	}
}

static bool tensor_lies_well(size_t at, size_t element)
{
#ifdef __x86_64__
	(void)at;
	(void)element;
	return true;
#else
	return at % element == 0;
#endif
}

static bool tensor_add_dim(struct graph_tensor *tensor, uint64_t dim)
{
	if (tensor->rank == GRAPH_RANK_MAX || dim > INT64_MAX)
		return false;
	tensor->dims[tensor->rank++] = (int64_t)dim;
	return true;
}

static bool tensor_add_dims(struct graph_tensor *tensor, const struct field *field)
{
	struct fields packed;
	uint64_t dim;

	if ((field->tag & 7) == FIELD_NUMBER)
		return tensor_add_dim(tensor, field->number);
	if ((field->tag & 7) != FIELD_BYTES)
		return false;
	packed = (struct fields){ field->data, field->data + field->bytes };
	while (packed.at < packed.end)
		if (!fields_number(&packed, &dim) || !tensor_add_dim(tensor, dim))
			return false;
	return true;
}

/* The members of a tensor that say where its bytes are; each comes once. */
struct tensor_parts {
	struct field type;
	struct field name;
	struct field raw;
	bool is_unusual; /* the bytes are not in one piece, or elsewhere */
};

static bool tensor_note(struct field *part, const struct field *field)
{
	bool is_first = !part->tag;

	*part = *field;
	return is_first;
}

static bool tensor_add(struct graph_tensor *tensor, struct tensor_parts *parts,
                       const struct field *field)
{
	if (field->tag >> 3 == TENSOR_DIMS)
		return tensor_add_dims(tensor, field);
	if (field->tag == field_tag(TENSOR_TYPE, FIELD_NUMBER))
		return tensor_note(&parts->type, field);
	if (field->tag == field_tag(TENSOR_NAME, FIELD_BYTES))
		return tensor_note(&parts->name, field);
	if (field->tag == field_tag(TENSOR_RAW, FIELD_BYTES))
		return tensor_note(&parts->raw, field);
	return field->tag == field_tag(TENSOR_DOC, FIELD_BYTES);
}

static bool tensor_fills(const struct graph_tensor *tensor, size_t element)
{
	uint64_t bytes = element;

	for (size_t i = 0; i < tensor->rank; i++)
		if (__builtin_mul_overflow(bytes, (uint64_t)tensor->dims[i], &bytes))
			return false;
	return element > 0 && bytes == tensor->bytes;
}

/* Reads what @message says of a tensor. False: it stays in the model. */
static bool tensor_read(struct graph_tensor *tensor, struct tensor_parts *parts,
                        const struct field *message, const unsigned char *file)
{
	struct fields fields = { message->data, message->data + message->bytes };
	struct field field;
	bool is_usual = true;
	size_t element;

	*tensor = (struct graph_tensor){ 0 };
	*parts = (struct tensor_parts){ 0 };
	while (fields_next(&fields, &field))
		is_usual &= tensor_add(tensor, parts, &field);
	if (!is_usual || fields.at != fields.end || parts->raw.bytes < GRAPH_TENSOR_MIN ||
	    parts->name.bytes == 0 || memchr(parts->name.data, '\0', parts->name.bytes))
		return false;
	element = tensor_element(parts->type.number);
	tensor->type = (enum ort_type)parts->type.number;
	tensor->at = (size_t)(parts->raw.data - file);
	tensor->bytes = parts->raw.bytes;
	return tensor_fills(tensor, element) && tensor_lies_well(tensor->at, element);
}

/* Writing: what fails shows when the stream is closed. */

static void put_number(FILE *out, uint64_t number)
{
	for (; number >= 0x80; number >>= 7)
		(void)fputc((int)(number & 0x7f) | 0x80, out);
	(void)fputc((int)number, out);
}

static void put_bytes(FILE *out, unsigned int number, const void *data, size_t bytes)
{
	put_number(out, field_tag(number, FIELD_BYTES));
	put_number(out, bytes);
	(void)fwrite(data, 1, bytes, out);
}

static void put_as_is(FILE *out, const struct field *field)
{
	(void)fwrite(field->begin, 1, (size_t)(field->end - field->begin), out);
}

/* 0, or ENGINE_E_FAILED: out of memory. Closes @out. */
static int put_end(FILE *out, struct err *err)
{
	bool has_failed = ferror(out);

	return fclose(out) || has_failed ? err_set(err, ENGINE_E_FAILED, "out of memory")
	                                 : 0;
}

/* A message inside another one. @in is written, and closed. */
struct put_inner {
	FILE *in;
	char *text;
	size_t bytes;
};

static int put_begin(struct put_inner *inner, struct err *err)
{
	*inner = (struct put_inner){ 0 };
	inner->in = open_memstream(&inner->text, &inner->bytes);
	return inner->in ? 0 : err_set(err, ENGINE_E_FAILED, "out of memory");
}

static int put_inner(FILE *out, unsigned int number, struct put_inner *inner,
                     struct err *err)
{
	int r = put_end(inner->in, err);

	if (r == 0)
		put_bytes(out, number, inner->text, inner->bytes);
	free(inner->text);
	return r;
}

static int put_shape(FILE *out, const struct graph_tensor *tensor, struct err *err)
{
	struct put_inner shape;
	int r = put_begin(&shape, err);

	for (size_t i = 0; i < tensor->rank && r == 0; i++) {
		struct put_inner dim;

		r = put_begin(&dim, err);
		if (r)
			break;
		put_number(dim.in, field_tag(DIM_VALUE, FIELD_NUMBER));
		put_number(dim.in, (uint64_t)tensor->dims[i]);
		r = put_inner(shape.in, SHAPE_DIM, &dim, err);
	}
	if (shape.in) {
		int closed = put_inner(out, TYPE_SHAPE, &shape, err);

		r = r ? r : closed;
	}
	return r;
}

/* TypeProto.Tensor */
static int put_type(FILE *out, const struct graph_tensor *tensor, struct err *err)
{
	struct put_inner type;
	int closed;
	int r = put_begin(&type, err);

	if (r)
		return r;
	put_number(type.in, field_tag(TYPE_ELEMENT, FIELD_NUMBER));
	put_number(type.in, tensor->type);
	r = put_shape(type.in, tensor, err);
	closed = put_inner(out, TYPE_TENSOR, &type, err);
	return r ? r : closed;
}

/* The tensor, as an input of its graph. */
static int put_tensor(FILE *out, const struct graph_tensor *tensor, struct err *err)
{
	struct put_inner info;
	struct put_inner type;
	int closed;
	int r = put_begin(&info, err);

	if (r)
		return r;
	put_bytes(info.in, INFO_NAME, tensor->name, strlen(tensor->name));
	r = put_begin(&type, err);
	if (r == 0) {
		r = put_type(type.in, tensor, err);
		closed = put_inner(info.in, INFO_TYPE, &type, err);
		r = r ? r : closed;
	}
	closed = put_inner(out, GRAPH_INPUT, &info, err);
	return r ? r : closed;
}

/* Inputs and outputs that the file has */

/* The field of @number in @message, whose last one counts. False: there is none. */
static bool field_find(const struct field *message, uint64_t tag, struct field *ret_field)
{
	struct fields fields = { message->data, message->data + message->bytes };
	struct field field;
	bool is_found = false;

	while (fields_next(&fields, &field))
		if (field.tag == tag) {
			*ret_field = field;
			is_found = true;
		}
	return is_found;
}

static bool info_has_shape(const struct field *info)
{
	struct field type;
	struct field tensor;
	struct field shape;

	return field_find(info, field_tag(INFO_TYPE, FIELD_BYTES), &type) &&
	       field_find(&type, field_tag(TYPE_TENSOR, FIELD_BYTES), &tensor) &&
	       field_find(&tensor, field_tag(TYPE_SHAPE, FIELD_BYTES), &shape);
}

static int graph_room(void *list, size_t n, size_t *room, size_t bytes, struct err *err)
{
	void **items = list;
	void *larger;

	if (n < *room)
		return 0;
	larger = reallocarray(*items, *room * 2 + 16, bytes);
	if (!larger)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	*items = larger;
	*room = *room * 2 + 16;
	return 0;
}

/* Notes what the graph has beside its tensors. */
static int graph_note(struct graph *graph, const struct field *message, struct err *err)
{
	struct fields fields = { message->data, message->data + message->bytes };
	struct field field;
	struct field name;

	graph->has_shapes = true;
	while (fields_next(&fields, &field)) {
		bool is_input = field.tag == field_tag(GRAPH_INPUT, FIELD_BYTES);

		if (is_input || field.tag == field_tag(GRAPH_OUTPUT, FIELD_BYTES))
			graph->has_shapes &= info_has_shape(&field);
		if (!is_input ||
		    !field_find(&field, field_tag(INFO_NAME, FIELD_BYTES), &name))
			continue;
		if (graph_room(&graph->inputs, graph->n_inputs, &graph->inputs_room,
		               sizeof(*graph->inputs), err))
			return ENGINE_E_FAILED;
		graph->inputs[graph->n_inputs++] =
			(struct graph_name){ name.data, name.bytes };
	}
	return 0;
}

static bool graph_is_input(const struct graph *graph, const struct field *name)
{
	for (size_t i = 0; i < graph->n_inputs; i++)
		if (graph->inputs[i].bytes == name->bytes &&
		    memcmp(graph->inputs[i].data, name->data, name->bytes) == 0)
			return true;
	return false;
}

/* The whole */

static int graph_keep(struct graph *graph, const struct graph_tensor *tensor,
                      const struct field *name, struct err *err)
{
	struct graph_tensor *kept;

	if (graph_room(&graph->tensors, graph->n_tensors, &graph->tensors_room,
	               sizeof(*tensor), err))
		return ENGINE_E_FAILED;
	kept = &graph->tensors[graph->n_tensors];
	*kept = *tensor;
	kept->name = strndup((const char *)name->data, name->bytes);
	if (!kept->name)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	graph->n_tensors++;
	graph->taken_bytes += tensor->bytes;
	return 0;
}

static int graph_take_tensor(struct graph *graph, FILE *out, const unsigned char *file,
                             const struct field *field, struct err *err)
{
	struct graph_tensor tensor;
	struct tensor_parts parts;

	if (tensor_read(&tensor, &parts, field, file) &&
	    !graph_is_input(graph, &parts.name))
		return graph_keep(graph, &tensor, &parts.name, err);
	graph->left_bytes += field->bytes < GRAPH_TENSOR_MIN ? 0 : field->bytes;
	put_as_is(out, field);
	return 0;
}

static int graph_damaged(struct err *err)
{
	return err_set(err, ENGINE_E_PRIVATE, "the .onnx file is cut off or damaged");
}

static int graph_take(struct graph *graph, FILE *out, const unsigned char *file,
                      const struct field *message, struct err *err)
{
	struct fields fields = { message->data, message->data + message->bytes };
	struct field field;
	struct put_inner body;
	int closed;
	int r = graph_note(graph, message, err);

	if (r == 0)
		r = put_begin(&body, err);
	if (r)
		return r;
	while (r == 0 && fields_next(&fields, &field)) {
		if (field.tag == field_tag(GRAPH_INITIALIZER, FIELD_BYTES))
			r = graph_take_tensor(graph, body.in, file, &field, err);
		else
			put_as_is(body.in, &field);
	}
	if (r == 0 && fields.at != fields.end)
		r = graph_damaged(err);
	/* Behind the inputs that the file has. */
	for (size_t i = 0; i < graph->n_tensors && r == 0; i++)
		r = put_tensor(body.in, &graph->tensors[i], err);
	closed = put_inner(out, MODEL_GRAPH, &body, err);
	return r ? r : closed;
}

static int graph_take_model(struct graph *graph, FILE *out, const unsigned char *file,
                            size_t bytes, struct err *err)
{
	struct fields fields = { file, file + bytes };
	struct field field;
	bool has_graph = false;
	int r = 0;

	while (r == 0 && fields_next(&fields, &field)) {
		if (field.tag != field_tag(MODEL_GRAPH, FIELD_BYTES)) {
			put_as_is(out, &field);
			continue;
		}
		if (has_graph)
			return err_set(err, ENGINE_E_PRIVATE,
			               "the .onnx file has its graph in pieces");
		has_graph = true;
		r = graph_take(graph, out, file, &field, err);
	}
	return r == 0 && fields.at != fields.end ? graph_damaged(err) : r;
}

int graph_read(struct graph *graph, const void *data, size_t bytes, struct err *err)
{
	FILE *out;
	int r;
	int closed;

	*graph = (struct graph){ 0 };
	out = open_memstream(&graph->model, &graph->model_bytes);
	if (!out)
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	r = graph_take_model(graph, out, data, bytes, err);
	closed = put_end(out, err);
	r = r ? r : closed;
	if (r == 0 && graph->left_bytes > graph->taken_bytes / 4)
		return err_set(
			err, ENGINE_E_PRIVATE,
			"%" PRIu64 " of %" PRIu64 " bytes of the .onnx file's "
			"weights cannot be used where they lie (inputs of the "
			"model as well, or numbers that are listed): convert it to "
			".ort to share them (python -m "
			"onnxruntime.tools.convert_onnx_models_to_ort)",
			graph->left_bytes, graph->left_bytes + graph->taken_bytes);
	return r;
}

void graph_drop(struct graph *graph)
{
	for (size_t i = 0; i < graph->n_tensors; i++)
		free(graph->tensors[i].name);
	free(graph->tensors);
	free(graph->inputs);
	free(graph->model);
	*graph = (struct graph){ 0 };
}
