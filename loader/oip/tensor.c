/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads one input at a time. oip_tensor_read() checks its datatype and shape, then takes
 * the data from one of three places: the text that was cut out (oip_tensor_take_cut()), the
 * tree (oip_tensor_take_json()), or the binary part (oip_tensor_take()). Binary data that is
 * aligned stays in the body; all other data is copied to scratch. Every size is checked before
 * memory is taken for it.
 */
#include "loader/oip/tensor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/oip/json.h"
#include "loader/oip/list.h"
#include "loader/oip/scan.h"

#define OIP_TENSOR_ALIGN ((size_t)64)
/* "-9223372036854775808," per dim. */
#define OIP_TENSOR_SHAPE_MAX (TENSOR_RANK_MAX * 24)

void oip_tensor_init(struct oip_decoding *decoding)
{
	oip_buffer_use(&decoding->request->scratch, 0);
	for (size_t i = 0; i < decoding->model->n_inputs; i++)
		decoding->offsets[i] = OIP_TENSOR_IN_BODY;
}

void oip_tensor_forget(struct oip_request *request)
{
	request->n_sequence = 0;
}

void oip_tensor_settle(struct oip_decoding *decoding)
{
	struct oip_request *request = decoding->request;

	for (size_t i = 0; i < decoding->model->n_inputs; i++)
		if (decoding->offsets[i] != OIP_TENSOR_IN_BODY)
			request->inputs[i].data =
				request->scratch.data + decoding->offsets[i];
}

__attribute__((format(printf, 3, 4))) static int
oip_tensor_refuse(struct oip_decoding *decoding, const struct tensor_spec *spec,
                  const char *format, ...)
{
	const char *kind = decoding->model->kind;
	char text[ERR_TEXT_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return err_set(decoding->err, 400, "model '%s', %s '%s': %.380s",
	               decoding->model->name, kind ? kind : "input", spec->name, text);
}

/* Makes room in scratch. Scratch may move, hence the offset: pointers are set at the end. */
static int oip_tensor_scratch(struct oip_decoding *decoding, size_t bytes,
                              size_t *ret_offset)
{
	struct oip_buffer *scratch = &decoding->request->scratch;
	size_t offset =
		(scratch->used_bytes + OIP_TENSOR_ALIGN - 1) & ~(OIP_TENSOR_ALIGN - 1);

	if (bytes > SIZE_MAX / 2 - offset)
		return err_set(decoding->err, 413, "the tensors are too large");
	if (!oip_buffer_reserve(scratch, offset + bytes))
		return err_set(decoding->err, 500, "out of memory for a tensor");
	oip_buffer_use(scratch, offset + bytes);
	*ret_offset = offset;
	return 0;
}

/* Binary data */

/* Checks that @bytes are the elements of input @i. The size of the shape was checked. */
static int oip_tensor_check_binary(struct oip_decoding *decoding, size_t i,
                                   const unsigned char *data, size_t bytes)
{
	const struct engine_tensor *tensor = &decoding->request->inputs[i];
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	size_t count = 0;
	size_t want = 0;

	(void)tensor_count(&tensor->shape, &count);
	(void)tensor_bytes(tensor->dtype, &tensor->shape, &want);
	if (tensor->dtype == TENSOR_DTYPE_BYTES)
		return tensor_measure_texts(data, bytes, count, &want) && want == bytes
		               ? 0
		               : oip_tensor_refuse(
					 decoding, spec,
					 "%zu bytes of binary data are not the %zu "
					 "elements of its shape, each a uint32 length "
					 "and that many bytes",
					 bytes, count);
	if (bytes != want)
		return oip_tensor_refuse(
			decoding, spec,
			"%zu bytes of binary data, but %zu elements of %s take "
			"%zu",
			bytes, count, tensor_dtype_name(tensor->dtype), want);
	for (size_t k = 0; tensor->dtype == TENSOR_DTYPE_BOOL && k < bytes; k++)
		if (data[k] > 1)
			return oip_tensor_refuse(decoding, spec,
			                         "element %zu of BOOL is %u, not 0 or 1",
			                         k, data[k]);
	return 0;
}

/* Sets the data of input @i to @bytes of the binary part. */
int oip_tensor_take(struct oip_decoding *decoding, size_t i, size_t bytes)
{
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	const unsigned char *data = decoding->binary + decoding->binary_used;
	const size_t left = decoding->binary_bytes - decoding->binary_used;
	size_t element = tensor_dtype_bytes(tensor->dtype);
	int r;

	if (bytes > left)
		return oip_tensor_refuse(
			decoding, &decoding->model->inputs[i],
			"binary_data_size is %zu, more than the %zu bytes that "
			"the body has left",
			bytes, left);
	r = oip_tensor_check_binary(decoding, i, data, bytes);
	if (r)
		return r;
	decoding->binary_used += bytes;
	tensor->bytes = bytes;
	tensor->data = data;
	if (element > 1 && (uintptr_t)data % element != 0) {
		r = oip_tensor_scratch(decoding, bytes, &decoding->offsets[i]);
		if (r)
			return r;
		memcpy(decoding->request->scratch.data + decoding->offsets[i], data,
		       bytes);
	}
	return 0;
}

int oip_tensor_check_given(struct oip_decoding *decoding)
{
	for (size_t i = 0; i < decoding->model->n_inputs; i++)
		if (!decoding->is_given[i])
			return oip_tensor_refuse(decoding, &decoding->model->inputs[i],
			                         "it is missing");
	return 0;
}

int oip_tensor_check_end(struct oip_decoding *decoding)
{
	if (decoding->binary_used == decoding->binary_bytes)
		return 0;
	return err_set(
		decoding->err, 400,
		"unexpected additional input data for model '%s': %zu bytes behind "
		"the last tensor",
		decoding->model->name, decoding->binary_bytes - decoding->binary_used);
}

/* JSON */

static int oip_tensor_take_json(struct oip_decoding *decoding, size_t i,
                                const json_t *data)
{
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	struct err err = ERR_NULL;
	int r;

	if (oip_list_measure(spec->dtype, &tensor->shape, data, &tensor->bytes, &err) < 0)
		return oip_tensor_refuse(decoding, spec, "%s", err.text);
	r = oip_tensor_scratch(decoding, tensor->bytes, &decoding->offsets[i]);
	if (r)
		return r;
	if (oip_list_fill(spec->dtype, &tensor->shape, data,
	                  decoding->request->scratch.data + decoding->offsets[i],
	                  &err) < 0)
		return oip_tensor_refuse(decoding, spec, "%s", err.text);
	return 0;
}

/* Takes the data from the text that was cut out, without a tree. */
static int oip_tensor_take_cut(struct oip_decoding *decoding, size_t i)
{
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	const struct oip_cut *cut = decoding->cut;
	struct err err = ERR_NULL;
	int r;

	if (spec->dtype == TENSOR_DTYPE_BYTES || spec->dtype == TENSOR_DTYPE_FP16 ||
	    spec->dtype == TENSOR_DTYPE_BF16 ||
	    !oip_scan_may_hold(&tensor->shape, cut->bytes))
		return OIP_TENSOR_E_CUT;
	(void)tensor_bytes(spec->dtype, &tensor->shape, &tensor->bytes);
	r = oip_tensor_scratch(decoding, tensor->bytes, &decoding->offsets[i]);
	if (r)
		return r;
	r = oip_scan(spec->dtype, &tensor->shape, cut->text, cut->bytes,
	             decoding->request->scratch.data + decoding->offsets[i], &err);
	if (r < 0)
		return oip_tensor_refuse(decoding, spec, "%s", err.text);
	return r ? OIP_TENSOR_E_CUT : 0;
}

static int oip_tensor_read_shape(struct oip_decoding *decoding,
                                 const struct tensor_spec *spec, const json_t *json,
                                 struct tensor_shape *ret_shape)
{
	char got[OIP_TENSOR_SHAPE_MAX];
	char want[OIP_TENSOR_SHAPE_MAX];
	size_t bytes;

	if (!json_is_array(json))
		return oip_tensor_refuse(decoding, spec,
		                         "shape must be a list of numbers");
	if (json_array_size(json) > TENSOR_RANK_MAX)
		return oip_tensor_refuse(decoding, spec, "shape has %zu dims, %d at most",
		                         json_array_size(json), TENSOR_RANK_MAX);
	ret_shape->rank = (uint32_t)json_array_size(json);
	for (uint32_t i = 0; i < ret_shape->rank; i++) {
		const json_t *dim = json_array_get(json, i);

		if (!json_is_integer(dim) || json_integer_value(dim) < 0)
			return oip_tensor_refuse(
				decoding, spec,
				"dim %u of shape must be an integer, 0 or more", i);
		ret_shape->dims[i] = json_integer_value(dim);
	}
	if (!tensor_shape_matches(&spec->shape, ret_shape))
		return oip_tensor_refuse(decoding, spec,
		                         "its shape is %s, the model wants %s",
		                         tensor_shape_print(ret_shape, got, sizeof(got)),
		                         tensor_shape_print(&spec->shape, want,
		                                            sizeof(want)));
	if (tensor_count(ret_shape, &bytes) < 0 ||
	    tensor_bytes(spec->dtype, ret_shape, &bytes) < 0)
		return oip_tensor_refuse(decoding, spec,
		                         "shape has more elements than can be");
	return 0;
}

static int oip_tensor_read_type(struct oip_decoding *decoding,
                                const struct tensor_spec *spec, const json_t *json)
{
	const char *name = oip_json_text(json);

	if (!name)
		return oip_tensor_refuse(decoding, spec, "datatype must be a string");
	if (strcmp(name, tensor_dtype_name(spec->dtype)) == 0)
		return 0;
	return oip_tensor_refuse(decoding, spec,
	                         "its datatype is '%.40s', the model wants %s", name,
	                         tensor_dtype_name(spec->dtype));
}

/* Takes the data of input @i from wherever the client has put it. */
static int oip_tensor_read_data(struct oip_decoding *decoding, size_t i,
                                const json_t *data, const json_t *size)
{
	const struct tensor_spec *spec = &decoding->model->inputs[i];

	if (size && (data || decoding->cut))
		return oip_tensor_refuse(decoding, spec,
		                         "data and binary_data_size exclude one another");
	if (decoding->cut)
		return oip_tensor_take_cut(decoding, i);
	if (data)
		return oip_tensor_take_json(decoding, i, data);
	if (!size)
		return oip_tensor_refuse(decoding, spec,
		                         "neither data nor parameters.binary_data_size");
	if (!json_is_integer(size) || json_integer_value(size) < 0)
		return oip_tensor_refuse(decoding, spec,
		                         "binary_data_size must be a number of bytes");
	decoding->request->sequence[decoding->request->n_sequence++] =
		(struct oip_binary){
			.input = (uint32_t)i,
			.bytes = (size_t)json_integer_value(size),
		};
	return oip_tensor_take(decoding, i, (size_t)json_integer_value(size));
}

int oip_tensor_read(struct oip_decoding *decoding, size_t i, const json_t *json,
                    const json_t *parameters)
{
	const struct tensor_spec *spec = &decoding->model->inputs[i];
	struct engine_tensor *tensor = &decoding->request->inputs[i];
	int r;

	if (decoding->is_given[i])
		return oip_tensor_refuse(decoding, spec, "it is given twice");
	decoding->is_given[i] = true;
	*tensor = (struct engine_tensor){ .dtype = spec->dtype };
	r = oip_tensor_read_type(decoding, spec, oip_json_get(json, "datatype"));
	if (r == 0)
		r = oip_tensor_read_shape(decoding, spec, oip_json_get(json, "shape"),
		                          &tensor->shape);
	if (r)
		return r;
	return oip_tensor_read_data(decoding, i, oip_json_get(json, "data"),
	                            oip_json_get(parameters, "binary_data_size"));
}

/* Raw bodies */

/* Decides the shape of a raw body. The last variable dim follows from the body's size; a first
 * dim that is variable, too, is a batch of one row. */
static int oip_tensor_read_raw_shape(struct oip_decoding *decoding)
{
	const struct tensor_spec *spec = &decoding->model->inputs[0];
	struct tensor_shape *shape = &decoding->request->inputs[0].shape;
	uint32_t n_variable = 0;
	uint32_t variable = 0;
	size_t known;

	*shape = spec->shape;
	for (uint32_t i = 0; i < shape->rank; i++) {
		if (shape->dims[i] != TENSOR_DIM_ANY)
			continue;
		shape->dims[i] = 1;
		variable = i;
		n_variable++;
	}
	if (n_variable > 2 || (n_variable == 2 && spec->shape.dims[0] != TENSOR_DIM_ANY))
		return oip_tensor_refuse(
			decoding, spec, "its shape has several variable dims: send JSON");
	if (tensor_bytes(spec->dtype, shape, &known) < 0)
		return oip_tensor_refuse(decoding, spec,
		                         "shape has more elements than can be");
	if (n_variable > 0 && known > 0)
		shape->dims[variable] = (int64_t)(decoding->binary_bytes / known);
	return 0;
}

/* Takes the body as one text, and puts its length before it. */
static int oip_tensor_read_raw_bytes(struct oip_decoding *decoding)
{
	struct engine_tensor *tensor = &decoding->request->inputs[0];
	uint32_t length = (uint32_t)decoding->binary_bytes;
	unsigned char *to;
	size_t count;
	int r;

	if (tensor_count(&tensor->shape, &count) < 0 || count != 1)
		return oip_tensor_refuse(decoding, &decoding->model->inputs[0],
		                         "a raw request is one text, its shape has more");
	if (decoding->binary_bytes > UINT32_MAX)
		return err_set(decoding->err, 413, "the text is too large");
	r = oip_tensor_scratch(decoding, sizeof(length) + length, &decoding->offsets[0]);
	if (r)
		return r;
	to = decoding->request->scratch.data + decoding->offsets[0];
	memcpy(to, &length, sizeof(length));
	memcpy(to + sizeof(length), decoding->binary, length);
	tensor->bytes = sizeof(length) + length;
	return 0;
}

int oip_tensor_read_raw(struct oip_decoding *decoding)
{
	const struct tensor_spec *spec = &decoding->model->inputs[0];
	int r;

	decoding->request->inputs[0] = (struct engine_tensor){ .dtype = spec->dtype };
	r = oip_tensor_read_raw_shape(decoding);
	if (r)
		return r;
	return spec->dtype == TENSOR_DTYPE_BYTES
	               ? oip_tensor_read_raw_bytes(decoding)
	               : oip_tensor_take(decoding, 0, decoding->binary_bytes);
}
