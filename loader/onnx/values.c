/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts: the runtime has each as a string of C++'s, and hands them out as one run of bytes with
 * offsets; the loader's have their length before each.
 */
#include "loader/onnx/values.h"

#include <stdlib.h>
#include <string.h>

#include "loader/onnx/signature.h"
#include "loader/onnx/status.h"

static int values_fail(const struct values *values, struct ort_status *status,
                       struct err *err)
{
	return status_fail(values->api, status, values->config, ENGINE_E_FAILED,
	                   "ONNX Runtime: ", err);
}

/* Inputs */

/* Copies the elements of a BYTES tensor, which the loader has measured, into @value. */
static struct ort_status *values_fill_texts(const struct ort_api *api,
                                            struct ort_value *value,
                                            const struct engine_tensor *tensor)
{
	const unsigned char *data = tensor->data;
	struct ort_status *status = NULL;
	size_t at = 0;

	for (size_t i = 0; at < tensor->bytes && !status; i++) {
		uint32_t length;
		char *text;

		memcpy(&length, data + at, sizeof(length));
		at += sizeof(length);
		status = api->resize_text(value, i, length, &text);
		if (!status && length > 0)
			memcpy(text, data + at, length);
		at += length;
	}
	return status;
}

static struct ort_status *values_put_texts(struct values *values, size_t i,
                                           const struct engine_tensor *tensor)
{
	const struct ort_api *api = values->api;
	struct ort_allocator *allocator;
	struct ort_status *status = api->default_allocator(&allocator);

	if (!status)
		status = api->create_tensor(allocator, tensor->shape.dims,
		                            tensor->shape.rank, ORT_TYPE_STRING,
		                            &values->inputs[i]);
	return status ? status : values_fill_texts(api, values->inputs[i], tensor);
}

static struct ort_status *values_put_one(struct values *values, size_t i,
                                         const struct engine_tensor *tensor)
{
	/* The runtime reads its inputs, and wants a place also for no bytes. */
	static uint64_t nothing;
	void *data = tensor->bytes > 0 ? (void *)(uintptr_t)tensor->data : &nothing;

	if (tensor->dtype == TENSOR_DTYPE_BYTES)
		return values_put_texts(values, i, tensor);
	return values->api->create_tensor_over(values->memory, data, tensor->bytes,
	                                       tensor->shape.dims, tensor->shape.rank,
	                                       signature_type(tensor->dtype),
	                                       &values->inputs[i]);
}

int values_put(struct values *values, const struct engine_tensor *tensors,
               struct err *err)
{
	struct ort_status *status = NULL;

	for (size_t i = 0; i < values->config->n_inputs && !status; i++)
		status = values_put_one(values, i, &tensors[i]);
	return status ? values_fail(values, status, err) : 0;
}

/* Outputs */

/* Puts a uint32 length before each of @n texts, which lie one behind the other at the end of
 * @data and begin at @offsets. */
static void values_space_texts(unsigned char *data, size_t text_bytes,
                               const size_t *offsets, size_t n)
{
	const unsigned char *from = data + n * sizeof(uint32_t);
	unsigned char *to = data;

	for (size_t i = 0; i < n; i++) {
		size_t end = i + 1 < n ? offsets[i + 1] : text_bytes;
		uint32_t length = (uint32_t)(end - offsets[i]);

		memcpy(to, &length, sizeof(length));
		memmove(to + sizeof(length), from + offsets[i], length);
		to += sizeof(length) + length;
	}
}

/* Gets @n texts of @bytes together, with room for their lengths, as texts[i]. */
static struct ort_status *values_get_texts(struct values *values, size_t i, size_t n,
                                           size_t bytes)
{
	unsigned char *data = values->texts[i];
	size_t *offsets = calloc(n + 1, sizeof(*offsets));
	struct ort_status *status = NULL;

	if (!offsets) {
		free(data);
		values->texts[i] = NULL;
		return NULL;
	}
	if (n > 0)
		status = values->api->texts(values->outputs[i],
		                            data + n * sizeof(uint32_t), bytes, offsets,
		                            n);
	if (!status)
		values_space_texts(data, bytes, offsets, n);
	free(offsets);
	return status;
}

static int values_take_texts(struct values *values, size_t i, size_t n,
                             struct engine_tensor *ret_tensor, struct err *err)
{
	struct ort_status *status;
	size_t bytes;

	status = values->api->text_bytes(values->outputs[i], &bytes);
	if (status)
		return values_fail(values, status, err);
	/* One text is not longer than all of them. */
	if (bytes > UINT32_MAX)
		return err_set(
			err, ENGINE_E_MODEL,
			"output '%s' has %zu bytes of texts, and 4 GiB is the most",
			values->config->outputs[i].name, bytes);
	values->texts[i] = malloc(n * sizeof(uint32_t) + bytes + 1);
	if (values->texts[i])
		status = values_get_texts(values, i, n, bytes);
	if (status)
		return values_fail(values, status, err);
	if (!values->texts[i])
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	ret_tensor->data = values->texts[i];
	ret_tensor->bytes = n * sizeof(uint32_t) + bytes;
	return 0;
}

/* Reads datatype and shape of @info into @ret_tensor. */
static struct ort_status *values_read_info(const struct ort_api *api,
                                           const struct ort_tensor_info *info,
                                           struct engine_tensor *ret_tensor,
                                           bool *ret_fits)
{
	enum ort_type type = ORT_TYPE_UNDEFINED;
	size_t rank = 0;
	struct ort_status *status = api->element_type(info, &type);

	if (!status)
		status = api->count_dims(info, &rank);
	*ret_fits = rank <= TENSOR_RANK_MAX && signature_dtype(type, &ret_tensor->dtype);
	ret_tensor->shape.rank = (uint32_t)rank;
	return status || !*ret_fits ? status
	                            : api->dims(info, ret_tensor->shape.dims, rank);
}

static int values_take_shape(struct values *values, size_t i,
                             struct engine_tensor *ret_tensor, struct err *err)
{
	const struct ort_api *api = values->api;
	struct ort_tensor_info *info = NULL;
	bool fits = false;
	int is_tensor = 0;
	struct ort_status *status = api->is_tensor(values->outputs[i], &is_tensor);

	if (!status && is_tensor)
		status = api->tensor_info(values->outputs[i], &info);
	if (!status && info)
		status = values_read_info(api, info, ret_tensor, &fits);
	if (info)
		api->release_tensor_info(info);
	if (status)
		return values_fail(values, status, err);
	return fits ? 0
	            : err_set(err, ENGINE_E_MODEL,
	                      "output '%s' is of a kind or datatype, or has more dims, "
	                      "than an answer can carry",
	                      values->config->outputs[i].name);
}

static int values_take_one(struct values *values, size_t i,
                           struct engine_tensor *ret_tensor, struct err *err)
{
	struct ort_status *status;
	size_t count;
	void *data;
	int r;

	r = values_take_shape(values, i, ret_tensor, err);
	if (r)
		return r;
	if (tensor_count(&ret_tensor->shape, &count) < 0 ||
	    (ret_tensor->dtype != TENSOR_DTYPE_BYTES &&
	     tensor_bytes(ret_tensor->dtype, &ret_tensor->shape, &ret_tensor->bytes) < 0))
		return err_set(err, ENGINE_E_MODEL, "output '%s' is too large",
		               values->config->outputs[i].name);
	if (ret_tensor->dtype == TENSOR_DTYPE_BYTES)
		return values_take_texts(values, i, count, ret_tensor, err);
	status = values->api->tensor_data(values->outputs[i], &data);
	ret_tensor->data = status ? NULL : data;
	return status ? values_fail(values, status, err) : 0;
}

int values_take(struct values *values, struct engine_tensor *ret_tensors, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < values->config->n_outputs && r == 0; i++)
		r = values_take_one(values, i, &ret_tensors[i], err);
	return r;
}

static void values_release(const struct values *values, struct ort_value **list)
{
	for (size_t i = 0; i < ENGINE_TENSORS_MAX; i++) {
		if (list[i])
			values->api->release_value(list[i]);
		list[i] = NULL;
	}
}

void values_drop_inputs(struct values *values)
{
	values_release(values, values->inputs);
}

void values_drop(struct values *values)
{
	values_release(values, values->inputs);
	values_release(values, values->outputs);
	for (size_t i = 0; i < ENGINE_TENSORS_MAX; i++) {
		free(values->texts[i]);
		values->texts[i] = NULL;
	}
}
