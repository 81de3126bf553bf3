/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/oip.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "loader/inflate.h"
#include "loader/oip_number.h"

#define OIP_ALIGN ((size_t)64)
/* Nesting of `data`: one list per dim, and a bound on our own recursion. */
#define OIP_DEPTH_MAX (TENSOR_RANK_MAX + 1)
#define OIP_NO_HEADER SIZE_MAX
/* A header that is longer is not worth keeping. */
#define OIP_HEADER_MAX ((size_t)4096)
#define OIP_NOT_COPIED SIZE_MAX

/* One decode in the making. */
struct oip_decoding {
	struct oip_request *request;
	const struct oip_model *model;
	const unsigned char *binary; /* behind the JSON part */
	size_t binary_bytes;
	size_t binary_used;
	size_t offsets[ENGINE_TENSORS_MAX]; /* into scratch, or OIP_NOT_COPIED */
	bool is_given[ENGINE_TENSORS_MAX];
	bool binary_output; /* the request's default */
	struct err *err;
};

void oip_request_init(struct oip_request *request)
{
	memset(request, 0, sizeof(*request));
}

void oip_request_fini(struct oip_request *request)
{
	free(request->header.data);
	free(request->scratch.data);
	free(request->inflated.data);
	memset(request, 0, sizeof(*request));
}

uint64_t oip_request_rows(const struct oip_request *request)
{
	const struct tensor_shape *shape = &request->inputs[0].shape;

	return shape->rank > 0 ? (uint64_t)shape->dims[0] : 1;
}

/* Room in scratch. It may move: offsets count until the decoding is done. */
static int oip_scratch(struct oip_decoding *decoding, size_t bytes, size_t *ret_offset)
{
	struct oip_buffer *scratch = &decoding->request->scratch;
	size_t offset = (scratch->used_bytes + OIP_ALIGN - 1) & ~(OIP_ALIGN - 1);
	size_t capacity = scratch->capacity_bytes ? scratch->capacity_bytes : 4096;
	unsigned char *data;

	if (bytes > SIZE_MAX / 2 - offset)
		return err_set(decoding->err, 413, "the tensors are too large");
	while (capacity < offset + bytes)
		capacity *= 2;
	if (capacity > scratch->capacity_bytes) {
		data = aligned_alloc(OIP_ALIGN, capacity);
		if (!data)
			return err_set(decoding->err, 500, "out of memory for a tensor");
		if (scratch->used_bytes > 0)
			memcpy(data, scratch->data, scratch->used_bytes);
		free(scratch->data);
		scratch->data = data;
		scratch->capacity_bytes = capacity;
	}
	scratch->used_bytes = offset + bytes;
	*ret_offset = offset;
	return 0;
}

/* The head */

struct oip_head {
	size_t json_bytes; /* or OIP_NO_HEADER */
	struct proto_text encoding;
};

static bool oip_token_is(struct proto_text text, const char *token)
{
	return text.bytes == strlen(token) &&
	       strncasecmp(text.data, token, text.bytes) == 0;
}

/* accept-encoding: the first of gzip and deflate that is not refused by ;q=0. */
static void oip_read_accepts(struct oip_request *request, struct proto_text value)
{
	const char *at = value.data;
	const char *end = value.data + value.bytes;

	while (at < end && request->accepts == OIP_PLAIN) {
		const char *stop = memchr(at, ',', (size_t)(end - at));
		const char *semicolon;
		struct proto_text token;
		bool is_refused = false;

		stop = stop ? stop : end;
		while (at < stop && *at == ' ')
			at++;
		semicolon = memchr(at, ';', (size_t)(stop - at));
		token = (struct proto_text){ at, (size_t)((semicolon ? semicolon : stop) -
			                                  at) };
		while (token.bytes > 0 && token.data[token.bytes - 1] == ' ')
			token.bytes--;
		if (semicolon) {
			const char *q =
				memchr(semicolon, '=', (size_t)(stop - semicolon));

			is_refused = q && strspn(q + 1, "0.") >= (size_t)(stop - q - 1);
		}
		if (!is_refused && oip_token_is(token, "gzip"))
			request->accepts = OIP_GZIP;
		else if (!is_refused && oip_token_is(token, "deflate"))
			request->accepts = OIP_DEFLATE;
		at = stop + 1;
	}
}

static int oip_read_length(struct proto_text value, size_t *ret_bytes, struct err *err)
{
	size_t bytes = 0;

	for (size_t i = 0; i < value.bytes; i++) {
		if (value.data[i] < '0' || value.data[i] > '9' || bytes > SIZE_MAX / 100)
			return err_set(
				err, 400,
				"Inference-Header-Content-Length must be a number of "
				"bytes");
		bytes = bytes * 10 + (size_t)(value.data[i] - '0');
	}
	if (value.bytes == 0)
		return err_set(err, 400, "Inference-Header-Content-Length is empty");
	*ret_bytes = bytes;
	return 0;
}

static int oip_read_head(struct oip_request *request, const struct proto_head *head,
                         struct oip_head *ret_head, struct err *err)
{
	struct proto_head walk = *head;
	struct proto_field field;
	int r;

	*ret_head = (struct oip_head){ .json_bytes = OIP_NO_HEADER };
	while ((r = proto_head_next(&walk, &field)) == 1) {
		if (proto_text_equals(field.name, "accept-encoding"))
			oip_read_accepts(request, field.value);
		else if (proto_text_equals(field.name, "content-encoding"))
			ret_head->encoding = field.value;
		else if (proto_text_equals(field.name,
		                           "inference-header-content-length")) {
			r = oip_read_length(field.value, &ret_head->json_bytes, err);
			if (r)
				return r;
		}
	}
	return r < 0 ? err_set(err, 400, "the request's headers cannot be read") : 0;
}

/* Tensors */

static int oip_refuse(struct oip_decoding *decoding, const struct tensor_spec *spec,
                      const char *text)
{
	const char *kind = decoding->model->kind;

	return err_set(decoding->err, 400, "model '%s', %s '%s': %.300s",
	               decoding->model->name, kind ? kind : "input", spec->name, text);
}

static int oip_check_bytes(const unsigned char *data, size_t bytes, size_t count)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t length;

		if (bytes - at < sizeof(length))
			return -EINVAL;
		memcpy(&length, data + at, sizeof(length));
		at += sizeof(length);
		if (bytes - at < length)
			return -EINVAL;
		at += length;
	}
	return at == bytes ? 0 : -EINVAL;
}

/* Sets the data of input @i to @bytes of the binary part. */
static int oip_take_binary(struct oip_decoding *decoding, size_t i, size_t bytes)
{
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	const unsigned char *data = decoding->binary + decoding->binary_used;
	size_t element = tensor_dtype_bytes(tensor->dtype);
	size_t count;
	int r;

	if (bytes > decoding->binary_bytes - decoding->binary_used)
		return oip_refuse(decoding, spec,
		                  "binary_data_size is more than the body has left");
	decoding->binary_used += bytes;
	(void)tensor_count(&tensor->shape, &count);
	if (element == 0 ? oip_check_bytes(data, bytes, count) < 0
	                 : bytes != count * element) {
		char text[192];

		(void)snprintf(
			text, sizeof(text),
			element ? "%zu bytes of binary data for %zu elements of %s"
				: "%zu bytes of binary data are not %zu elements of "
				  "%s, each a uint32 length and its bytes",
			bytes, count, tensor_dtype_name(tensor->dtype));
		return oip_refuse(decoding, spec, text);
	}
	tensor->bytes = bytes;
	decoding->offsets[i] = OIP_NOT_COPIED;
	tensor->data = data;
	if (element > 1 && (uintptr_t)data % element != 0) {
		r = oip_scratch(decoding, bytes, &decoding->offsets[i]);
		if (r)
			return r;
		memcpy(decoding->request->scratch.data + decoding->offsets[i], data,
		       bytes);
	}
	return 0;
}

/* Where the elements of one JSON `data` go. */
struct oip_filling {
	struct oip_decoding *decoding;
	const struct tensor_spec *spec;
	size_t offset; /* into scratch */
	size_t used_bytes;
	size_t n;
	size_t count;
};

static int oip_fill_element(struct oip_filling *filling, const json_t *value)
{
	struct oip_decoding *decoding = filling->decoding;
	unsigned char *to =
		decoding->request->scratch.data + filling->offset + filling->used_bytes;
	struct err err = ERR_NULL;
	char text[256];
	int r = 0;

	if (filling->n == filling->count) {
		(void)snprintf(text, sizeof(text),
		               "more than the %zu elements of its shape", filling->count);
		return oip_refuse(decoding, filling->spec, text);
	}
	if (filling->spec->dtype == TENSOR_DTYPE_BYTES) {
		uint32_t length = (uint32_t)json_string_length(value);

		if (json_is_string(value)) {
			memcpy(to, &length, sizeof(length));
			memcpy(to + sizeof(length), json_string_value(value), length);
			filling->used_bytes += sizeof(length) + length;
		} else {
			r = err_set(&err, -EINVAL, "must be a string");
		}
	} else {
		r = oip_number_store(filling->spec->dtype, value, to, &err);
		filling->used_bytes += tensor_dtype_bytes(filling->spec->dtype);
	}
	if (r < 0) {
		(void)snprintf(text, sizeof(text), "element %zu %.200s", filling->n,
		               err.text);
		return oip_refuse(decoding, filling->spec, text);
	}
	filling->n++;
	return 0;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as OIP_DEPTH_MAX */
static int oip_fill(struct oip_filling *filling, const json_t *data, unsigned int depth)
{
	const json_t *value;
	size_t i;
	int r = 0;

	if (!json_is_array(data))
		return oip_fill_element(filling, data);
	if (depth == OIP_DEPTH_MAX)
		return oip_refuse(filling->decoding, filling->spec,
		                  "data is nested deeper than any shape");
	json_array_foreach(data, i, value)
	{
		r = oip_fill(filling, value, depth + 1);
		if (r)
			break;
	}
	return r;
}

/* Bytes that the strings in @data will need. */
/* NOLINTNEXTLINE(misc-no-recursion): as deep as OIP_DEPTH_MAX */
static size_t oip_text_bytes(const json_t *data, unsigned int depth)
{
	const json_t *value;
	size_t bytes = 0;
	size_t i;

	if (!json_is_array(data))
		return sizeof(uint32_t) + json_string_length(data);
	if (depth == OIP_DEPTH_MAX)
		return 0;
	json_array_foreach(data, i, value) bytes += oip_text_bytes(value, depth + 1);
	return bytes;
}

static int oip_take_json(struct oip_decoding *decoding, size_t i, const json_t *data)
{
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	struct oip_filling filling = { .decoding = decoding, .spec = spec };
	char text[128];
	size_t bytes;
	int r;

	if (!json_is_array(data))
		return oip_refuse(decoding, spec, "data must be a list");
	if (spec->dtype == TENSOR_DTYPE_FP16 || spec->dtype == TENSOR_DTYPE_BF16)
		return oip_refuse(decoding, spec,
		                  "FP16 and BF16 have no form in JSON: send binary data");
	(void)tensor_count(&tensor->shape, &filling.count);
	if (spec->dtype == TENSOR_DTYPE_BYTES)
		bytes = oip_text_bytes(data, 0);
	else
		(void)tensor_bytes(spec->dtype, &tensor->shape, &bytes);
	/* A huge shape with little data must not cost a huge allocation: JSON has at
	 * least one character per element, so the body bounds the count. */
	if (filling.count > decoding->model->max_body_bytes)
		return oip_refuse(decoding, spec, "its shape is larger than any body");
	r = oip_scratch(decoding, bytes, &decoding->offsets[i]);
	if (r)
		return r;
	filling.offset = decoding->offsets[i];
	r = oip_fill(&filling, data, 0);
	if (r)
		return r;
	if (filling.n < filling.count) {
		(void)snprintf(text, sizeof(text), "%zu elements, its shape has %zu",
		               filling.n, filling.count);
		return oip_refuse(decoding, spec, text);
	}
	tensor->bytes = filling.used_bytes;
	return 0;
}

static int oip_read_shape(struct oip_decoding *decoding, const struct tensor_spec *spec,
                          const json_t *json, struct tensor_shape *ret_shape)
{
	char got[128];
	char want[128];
	char text[300];
	size_t bytes;

	if (!json_is_array(json))
		return oip_refuse(decoding, spec, "shape must be a list of numbers");
	if (json_array_size(json) > TENSOR_RANK_MAX)
		return oip_refuse(decoding, spec, "shape has too many dims");
	ret_shape->rank = (uint32_t)json_array_size(json);
	for (uint32_t i = 0; i < ret_shape->rank; i++) {
		const json_t *dim = json_array_get(json, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return oip_refuse(
				decoding, spec,
				"each dim of shape must be an integer, 0 or more");
		ret_shape->dims[i] = json_integer_value(dim);
	}
	if (tensor_count(ret_shape, &bytes) < 0 ||
	    tensor_bytes(spec->dtype, ret_shape, &bytes) < 0)
		return oip_refuse(decoding, spec, "shape has more elements than can be");
	if (tensor_shape_matches(&spec->shape, ret_shape))
		return 0;
	(void)snprintf(text, sizeof(text), "its shape is %s, the model wants %s",
	               tensor_shape_print(ret_shape, got, sizeof(got)),
	               tensor_shape_print(&spec->shape, want, sizeof(want)));
	return oip_refuse(decoding, spec, text);
}

static int oip_read_type(struct oip_decoding *decoding, const struct tensor_spec *spec,
                         const json_t *json)
{
	const char *name = json_string_value(json);
	char text[160];

	if (!name)
		return oip_refuse(decoding, spec, "datatype must be a string");
	if (strcmp(name, tensor_dtype_name(spec->dtype)) == 0)
		return 0;
	(void)snprintf(text, sizeof(text), "its datatype is '%.40s', the model wants %s",
	               name, tensor_dtype_name(spec->dtype));
	return oip_refuse(decoding, spec, text);
}

static int oip_find(const struct tensor_spec *specs, size_t n, const char *name,
                    size_t *ret_index)
{
	for (size_t i = 0; name && i < n; i++) {
		if (strcmp(specs[i].name, name) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	return -ENOENT;
}

static int oip_unknown(struct oip_decoding *decoding, const char *kind, const char *name)
{
	if (!name)
		return err_set(decoding->err, 400, "each of %ss needs a name", kind);
	return err_set(decoding->err, 400, "model '%s' has no %s '%.64s'",
	               decoding->model->name, kind, name);
}

static int oip_read_input(struct oip_decoding *decoding, const json_t *json)
{
	const struct oip_model *model = decoding->model;
	const char *name = json_string_value(json_object_get(json, "name"));
	const json_t *size =
		json_object_get(json_object_get(json, "parameters"), "binary_data_size");
	const json_t *data = json_object_get(json, "data");
	const struct tensor_spec *spec;
	size_t i = 0;
	int r;

	if (oip_find(model->inputs, model->n_inputs, name, &i) < 0)
		return oip_unknown(decoding, "input", name);
	spec = &model->inputs[i];
	if (decoding->is_given[i])
		return oip_refuse(decoding, spec, "it is given twice");
	decoding->is_given[i] = true;
	decoding->request->inputs[i] = (struct engine_tensor){ .dtype = spec->dtype };
	r = oip_read_type(decoding, spec, json_object_get(json, "datatype"));
	if (r == 0)
		r = oip_read_shape(decoding, spec, json_object_get(json, "shape"),
		                   &decoding->request->inputs[i].shape);
	if (r)
		return r;
	if (size && data)
		return oip_refuse(decoding, spec,
		                  "data and binary_data_size exclude one another");
	if (data)
		return oip_take_json(decoding, i, data);
	if (!size)
		return oip_refuse(decoding, spec, "neither data nor binary_data_size");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return oip_refuse(decoding, spec,
		                  "binary_data_size must be a number of bytes");
	decoding->request->sequence[decoding->request->n_sequence++] =
		(struct oip_binary){
			.input = (uint32_t)i,
			.bytes = (size_t)json_integer_value(size),
		};
	return oip_take_binary(decoding, i, (size_t)json_integer_value(size));
}

static int oip_check_end(struct oip_decoding *decoding)
{
	if (decoding->binary_used == decoding->binary_bytes)
		return 0;
	return err_set(
		decoding->err, 400,
		"unexpected additional input data for model '%s': %zu bytes behind the "
		"last tensor",
		decoding->model->name, decoding->binary_bytes - decoding->binary_used);
}

static int oip_read_inputs(struct oip_decoding *decoding, const json_t *inputs)
{
	const json_t *input;
	size_t i;
	int r;

	if (!json_is_array(inputs))
		return err_set(decoding->err, 400, "the request needs a list of inputs");
	json_array_foreach(inputs, i, input)
	{
		r = oip_read_input(decoding, input);
		if (r)
			return r;
	}
	for (i = 0; i < decoding->model->n_inputs; i++)
		if (!decoding->is_given[i])
			return oip_refuse(decoding, &decoding->model->inputs[i],
			                  "it is missing");
	return oip_check_end(decoding);
}

static int oip_read_outputs(struct oip_decoding *decoding, const json_t *outputs)
{
	const struct oip_model *model = decoding->model;
	struct oip_request *request = decoding->request;
	const json_t *output;
	size_t i;

	request->n_wanted = 0;
	if (!outputs || json_array_size(outputs) == 0) {
		for (i = 0; i < model->n_outputs; i++)
			request->wanted[request->n_wanted++] =
				(struct oip_wanted){ (uint32_t)i,
				                     decoding->binary_output };
		return 0;
	}
	json_array_foreach(outputs, i, output)
	{
		const char *name = json_string_value(json_object_get(output, "name"));
		const json_t *binary =
			json_object_get(json_object_get(output, "parameters"),
		                        "binary_data");
		size_t index = 0;

		if (oip_find(model->outputs, model->n_outputs, name, &index) < 0)
			return oip_unknown(decoding, "output", name);
		for (size_t k = 0; k < request->n_wanted; k++)
			if (request->wanted[k].output == index)
				return err_set(decoding->err, 400,
				               "output '%s' is asked for twice", name);
		request->wanted[request->n_wanted++] =
			(struct oip_wanted){ (uint32_t)index,
			                     binary ? json_is_true(binary)
			                            : decoding->binary_output };
	}
	return 0;
}

/* The supervisor reads priority; it is checked here, where a request is refused. */
static int oip_read_parameters(struct oip_decoding *decoding, const json_t *parameters)
{
	static const char *const numbers[] = { "timeout", "priority" };
	uint64_t timeout_us;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const json_t *value = json_object_get(parameters, numbers[i]);

		if (value && (!json_is_integer(value) || json_integer_value(value) < 0))
			return err_set(decoding->err, 400,
			               "parameter %s must be an integer, 0 or more",
			               numbers[i]);
	}
	timeout_us = (uint64_t)json_integer_value(json_object_get(parameters, "timeout"));
	decoding->request->timeout_ns =
		timeout_us < UINT64_MAX / 1000 ? timeout_us * 1000 : 0;
	decoding->binary_output =
		json_is_true(json_object_get(parameters, "binary_data_output"));
	return 0;
}

static int oip_read_json(struct oip_decoding *decoding, const json_t *json)
{
	const char *id = json_string_value(json_object_get(json, "id"));
	const json_t *outputs = json_object_get(json, "outputs");
	int r;

	if (!json_is_object(json))
		return err_set(decoding->err, 400, "the request must be a JSON object");
	if (id && strlen(id) >= OIP_ID_MAX)
		return err_set(decoding->err, 400, "id is longer than %d bytes",
		               OIP_ID_MAX - 1);
	if (id)
		(void)strcpy(decoding->request->id, id);
	if (outputs && !json_is_array(outputs))
		return err_set(decoding->err, 400, "outputs must be a list");
	r = oip_read_parameters(decoding, json_object_get(json, "parameters"));
	if (r == 0)
		r = oip_read_outputs(decoding, outputs);
	if (r == 0)
		r = oip_read_inputs(decoding, json_object_get(json, "inputs"));
	return r;
}

/* Inference-Header-Content-Length: 0: the body is the one input, everything is binary. */
static int oip_read_raw(struct oip_decoding *decoding)
{
	const struct oip_model *model = decoding->model;
	const struct tensor_spec *spec = &model->inputs[0];
	struct engine_tensor *tensor = &decoding->request->inputs[0];
	size_t element = tensor_dtype_bytes(spec->dtype);
	uint32_t variable = TENSOR_RANK_MAX;
	size_t known = element;
	size_t offset;
	int r;

	if (model->n_inputs != 1)
		return err_set(
			decoding->err, 400,
			"model '%s' has %zu inputs: a raw request needs exactly one",
			model->name, model->n_inputs);
	decoding->binary_output = true;
	(void)oip_read_outputs(decoding, NULL);
	*tensor = (struct engine_tensor){ .dtype = spec->dtype, .shape = spec->shape };
	for (uint32_t i = 0; i < spec->shape.rank; i++) {
		if (spec->shape.dims[i] != TENSOR_DIM_ANY) {
			known *= (size_t)spec->shape.dims[i];
			continue;
		}
		/* The first variable dim is the batch: one row, unless it is the only
		 * one. */
		tensor->shape.dims[i] = 1;
		if (variable != TENSOR_RANK_MAX && variable != 0)
			return oip_refuse(
				decoding, spec,
				"its shape has several variable dims: send JSON");
		variable = i;
	}
	if (element == 0) {
		uint32_t length = (uint32_t)decoding->binary_bytes;

		tensor->shape = (struct tensor_shape){ .rank = 1, .dims = { 1 } };
		if (!tensor_shape_matches(&spec->shape, &tensor->shape))
			return oip_refuse(decoding, spec,
			                  "a raw request needs shape [1] or [-1]");
		r = oip_scratch(decoding, sizeof(length) + length, &offset);
		if (r)
			return r;
		memcpy(decoding->request->scratch.data + offset, &length, sizeof(length));
		memcpy(decoding->request->scratch.data + offset + sizeof(length),
		       decoding->binary, length);
		decoding->offsets[0] = offset;
		tensor->bytes = sizeof(length) + length;
		return 0;
	}
	if (variable != TENSOR_RANK_MAX && known > 0)
		tensor->shape.dims[variable] = (int64_t)(decoding->binary_bytes / known);
	return oip_take_binary(decoding, 0, decoding->binary_bytes);
}

static bool oip_is_same_header(const struct oip_request *request,
                               const unsigned char *json, size_t bytes)
{
	return bytes > 0 && request->header.used_bytes == bytes &&
	       memcmp(request->header.data, json, bytes) == 0;
}

/* The same header as last time: only the tensors are new. */
static int oip_read_again(struct oip_decoding *decoding)
{
	const struct oip_request *request = decoding->request;

	for (size_t i = 0; i < request->n_sequence; i++) {
		int r = oip_take_binary(decoding, request->sequence[i].input,
		                        request->sequence[i].bytes);

		if (r)
			return r;
	}
	return oip_check_end(decoding);
}

/* Without memory for it the next header is parsed, as this one was. */
static void oip_keep_header(struct oip_request *request, const unsigned char *json,
                            size_t bytes)
{
	if (bytes > OIP_HEADER_MAX)
		return;
	if (!request->header.data)
		request->header.data = malloc(OIP_HEADER_MAX);
	if (!request->header.data)
		return;
	memcpy(request->header.data, json, bytes);
	request->header.used_bytes = bytes;
}

static void oip_forget(struct oip_request *request)
{
	request->header.used_bytes = 0;
	request->n_sequence = 0;
	request->n_wanted = 0;
	request->timeout_ns = 0;
	request->id[0] = '\0';
}

static int oip_read_body(struct oip_decoding *decoding, const struct oip_head *head,
                         const unsigned char *body, size_t body_bytes)
{
	size_t json_bytes =
		head->json_bytes == OIP_NO_HEADER ? body_bytes : head->json_bytes;
	json_error_t error;
	json_t *json;
	int r;

	if (json_bytes > body_bytes)
		return err_set(
			decoding->err, 400,
			"Inference-Header-Content-Length is %zu, the body has only "
			"%zu bytes",
			json_bytes, body_bytes);
	decoding->binary = body + json_bytes;
	decoding->binary_bytes = body_bytes - json_bytes;
	if (oip_is_same_header(decoding->request, body, json_bytes))
		return oip_read_again(decoding);
	oip_forget(decoding->request);
	if (head->json_bytes == 0)
		return oip_read_raw(decoding);
	json = json_loadb((const char *)body, json_bytes,
	                  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!json)
		return err_set(decoding->err, 400,
		               "the request is no JSON: %s at byte %d", error.text,
		               error.position);
	r = oip_read_json(decoding, json);
	json_decref(json);
	if (r == 0 && decoding->request->n_sequence == decoding->model->n_inputs)
		oip_keep_header(decoding->request, body, json_bytes);
	return r;
}

int oip_decode(struct oip_request *request, const struct oip_model *model,
               const struct proto_head *head, const unsigned char *body,
               size_t body_bytes, struct err *err)
{
	struct oip_decoding decoding = { .request = request, .model = model, .err = err };
	struct oip_head read;
	int r;

	assert(model->n_inputs <= ENGINE_TENSORS_MAX);
	request->accepts = OIP_PLAIN;
	request->scratch.used_bytes = 0;
	for (size_t i = 0; i < model->n_inputs; i++)
		decoding.offsets[i] = OIP_NOT_COPIED;
	r = oip_read_head(request, head, &read, err);
	if (r)
		return r;
	if (read.encoding.bytes > 0 && !oip_token_is(read.encoding, "identity")) {
		if (!oip_token_is(read.encoding, "gzip") &&
		    !oip_token_is(read.encoding, "deflate"))
			return err_set(
				err, 415,
				"Content-Encoding must be gzip, deflate or identity");
		r = inflate_body(&request->inflated, body, body_bytes,
		                 model->max_body_bytes, err);
		if (r)
			return r;
		body = request->inflated.data;
		body_bytes = request->inflated.used_bytes;
	}
	r = oip_read_body(&decoding, &read, body, body_bytes);
	if (r)
		return r;
	/* Scratch moves no more. */
	for (size_t i = 0; i < model->n_inputs; i++)
		if (decoding.offsets[i] != OIP_NOT_COPIED)
			request->inputs[i].data =
				request->scratch.data + decoding.offsets[i];
	return 0;
}
