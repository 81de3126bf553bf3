/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/aoti/tensors.h"

#include <stdlib.h>
#include <string.h>

void tensors_init(struct tensors *tensors, const struct aoti_torch *torch)
{
	*tensors = (struct tensors){ .torch = torch };
}

/* Strides of a tensor whose elements lie one behind the other, the last dim first. */
static void tensors_fill_strides(const struct tensor_shape *shape, int64_t *strides)
{
	int64_t step = 1;

	for (uint32_t i = shape->rank; i-- > 0;) {
		strides[i] = step;
		step *= shape->dims[i] > 1 ? shape->dims[i] : 1;
	}
}

int tensors_put(struct tensors *tensors, const struct call *call,
                const struct engine_tensor *given, size_t n, struct err *err)
{
	/* Torch wants a place also for no bytes. */
	static uint64_t nothing;

	for (size_t i = 0; i < n; i++) {
		const struct engine_tensor *tensor = &given[i];
		void *data =
			tensor->bytes > 0 ? (void *)(uintptr_t)tensor->data : &nothing;
		int64_t strides[TENSOR_RANK_MAX];

		tensors_fill_strides(&tensor->shape, strides);
		if (tensors->torch->from_blob(data, tensor->shape.rank,
		                              tensor->shape.dims, strides, 0,
		                              call_number(tensor->dtype), AOTI_DEVICE_CPU,
		                              0, &tensors->inputs[call->input_at[i]]))
			return err_set(err, ENGINE_E_FAILED,
			               "torch cannot make the tensor of an input");
	}
	return 0;
}

/* Copies @tensor's elements, of @element bytes, out of @data with @strides. */
static void tensors_gather(unsigned char *to, const unsigned char *data, size_t element,
                           const struct tensor_shape *shape, const int64_t *strides)
{
	int64_t at[TENSOR_RANK_MAX] = { 0 };
	size_t count = 0;

	(void)tensor_count(shape, &count);
	for (size_t n = 0; n < count; n++) {
		int64_t from = 0;

		for (uint32_t i = 0; i < shape->rank; i++)
			from += at[i] * strides[i];
		memcpy(to + n * element, data + (size_t)from * element, element);
		for (uint32_t i = shape->rank; i-- > 0 && ++at[i] == shape->dims[i];)
			at[i] = 0;
	}
}

static bool tensors_is_dense(const struct tensor_shape *shape, const int64_t *strides)
{
	int64_t dense[TENSOR_RANK_MAX];

	tensors_fill_strides(shape, dense);
	for (uint32_t i = 0; i < shape->rank; i++)
		if (shape->dims[i] > 1 && strides[i] != dense[i])
			return false;
	return true;
}

/* Reads datatype, shape and place of @tensor. False: torch does not tell, or no answer can carry
 * it. */
static bool tensors_read(const struct aoti_torch *torch, struct aoti_tensor *tensor,
                         struct engine_tensor *ret_tensor, int64_t **ret_strides)
{
	int32_t device = -1;
	int32_t dtype;
	int64_t rank;
	int64_t *sizes;
	void *data;

	if (!tensor || torch->dtype(tensor, &dtype) || torch->rank(tensor, &rank) ||
	    torch->sizes(tensor, &sizes) || torch->strides(tensor, ret_strides) ||
	    torch->device_type(tensor, &device) || torch->data(tensor, &data))
		return false;
	if (rank < 0 || rank > TENSOR_RANK_MAX || device != AOTI_DEVICE_CPU ||
	    !call_dtype(dtype, &ret_tensor->dtype))
		return false;
	ret_tensor->shape.rank = (uint32_t)rank;
	for (uint32_t i = 0; i < ret_tensor->shape.rank; i++)
		ret_tensor->shape.dims[i] = sizes[i];
	ret_tensor->data = data;
	return tensor_bytes(ret_tensor->dtype, &ret_tensor->shape, &ret_tensor->bytes) ==
	       0;
}

int tensors_take(struct tensors *tensors, size_t i, const char *name,
                 struct engine_tensor *ret_tensor, struct err *err)
{
	int64_t *strides;

	if (!tensors_read(tensors->torch, tensors->outputs[i], ret_tensor, &strides))
		return err_set(err, ENGINE_E_MODEL,
		               "output '%s' is no tensor on the CPU of a datatype and of "
		               "as few dims as an answer can carry",
		               name);
	if (ret_tensor->bytes == 0 || tensors_is_dense(&ret_tensor->shape, strides))
		return 0;
	tensors->copies[i] = malloc(ret_tensor->bytes);
	if (!tensors->copies[i])
		return err_set(err, ENGINE_E_FAILED, "out of memory");
	tensors_gather(tensors->copies[i], ret_tensor->data,
	               tensor_dtype_bytes(ret_tensor->dtype), &ret_tensor->shape,
	               strides);
	ret_tensor->data = tensors->copies[i];
	return 0;
}

static void tensors_release(const struct tensors *tensors, struct aoti_tensor **list)
{
	for (size_t i = 0; i < ENGINE_TENSORS_MAX; i++) {
		if (list[i])
			(void)tensors->torch->free(list[i]);
		list[i] = NULL;
	}
}

void tensors_drop_inputs(struct tensors *tensors)
{
	tensors_release(tensors, tensors->inputs);
}

void tensors_drop(struct tensors *tensors)
{
	tensors_release(tensors, tensors->inputs);
	tensors_release(tensors, tensors->outputs);
	for (size_t i = 0; i < ENGINE_TENSORS_MAX; i++) {
		free(tensors->copies[i]);
		tensors->copies[i] = NULL;
	}
}
