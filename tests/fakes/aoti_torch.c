/* SPDX-License-Identifier: Apache-2.0 */

/* As much of torch as engine aoti and fakes/aoti_model.c call, for tests on machines without one.
 * A tensor is what it was made of. */
#include <stdlib.h>
#include <string.h>

#include "loader/aoti/abi.h"

struct aoti_tensor {
	void *data;
	void *own; /* NULL: the data is somebody else's */
	int64_t rank;
	int64_t sizes[8];
	int64_t strides[8];
	int32_t dtype;
};

int32_t aoti_torch_create_tensor_from_blob(void *data, int64_t rank, const int64_t *sizes,
                                           const int64_t *strides, int64_t offset,
                                           int32_t dtype, int32_t device_type,
                                           int32_t device,
                                           struct aoti_tensor **ret_tensor);
int32_t aoti_torch_empty_strided(int64_t rank, const int64_t *sizes,
                                 const int64_t *strides, int32_t dtype,
                                 int32_t device_type, int32_t device,
                                 struct aoti_tensor **ret_tensor);
int32_t aoti_torch_delete_tensor_object(struct aoti_tensor *tensor);
int32_t aoti_torch_get_data_ptr(struct aoti_tensor *tensor, void **ret_data);
int32_t aoti_torch_get_dtype(struct aoti_tensor *tensor, int32_t *ret_dtype);
int32_t aoti_torch_get_dim(struct aoti_tensor *tensor, int64_t *ret_rank);
int32_t aoti_torch_get_sizes(struct aoti_tensor *tensor, int64_t **ret_sizes);
int32_t aoti_torch_get_strides(struct aoti_tensor *tensor, int64_t **ret_strides);
int32_t aoti_torch_get_device_type(struct aoti_tensor *tensor, int32_t *ret_type);
/* at::set_num_threads(int) */
void fake_set_threads(int threads) __asm__("_ZN2at15set_num_threadsEi");

int32_t aoti_torch_create_tensor_from_blob(void *data, int64_t rank, const int64_t *sizes,
                                           const int64_t *strides, int64_t offset,
                                           int32_t dtype, int32_t device_type,
                                           int32_t device,
                                           struct aoti_tensor **ret_tensor)
{
	struct aoti_tensor *tensor = calloc(1, sizeof(*tensor));

	(void)device;
	if (!tensor || rank > 8 || device_type != AOTI_DEVICE_CPU || offset != 0) {
		free(tensor);
		return 1;
	}
	tensor->data = data;
	tensor->rank = rank;
	tensor->dtype = dtype;
	memcpy(tensor->sizes, sizes, (size_t)rank * sizeof(*sizes));
	memcpy(tensor->strides, strides, (size_t)rank * sizeof(*strides));
	*ret_tensor = tensor;
	return 0;
}

int32_t aoti_torch_empty_strided(int64_t rank, const int64_t *sizes,
                                 const int64_t *strides, int32_t dtype,
                                 int32_t device_type, int32_t device,
                                 struct aoti_tensor **ret_tensor)
{
	size_t count = 1;
	int32_t r =
		aoti_torch_create_tensor_from_blob(NULL, rank, sizes, strides, 0, dtype,
	                                           device_type, device, ret_tensor);

	for (int64_t i = 0; r == 0 && i < rank; i++)
		count *= (size_t)sizes[i];
	if (r == 0)
		(*ret_tensor)->data = (*ret_tensor)->own = calloc(count + 1, 8);
	return r;
}

int32_t aoti_torch_delete_tensor_object(struct aoti_tensor *tensor)
{
	if (tensor)
		free(tensor->own);
	free(tensor);
	return 0;
}

int32_t aoti_torch_get_data_ptr(struct aoti_tensor *tensor, void **ret_data)
{
	*ret_data = tensor->data;
	return 0;
}

int32_t aoti_torch_get_dtype(struct aoti_tensor *tensor, int32_t *ret_dtype)
{
	*ret_dtype = tensor->dtype;
	return 0;
}

int32_t aoti_torch_get_dim(struct aoti_tensor *tensor, int64_t *ret_rank)
{
	*ret_rank = tensor->rank;
	return 0;
}

int32_t aoti_torch_get_sizes(struct aoti_tensor *tensor, int64_t **ret_sizes)
{
	*ret_sizes = tensor->sizes;
	return 0;
}

int32_t aoti_torch_get_strides(struct aoti_tensor *tensor, int64_t **ret_strides)
{
	*ret_strides = tensor->strides;
	return 0;
}

int32_t aoti_torch_get_device_type(struct aoti_tensor *tensor, int32_t *ret_type)
{
	(void)tensor;
	*ret_type = AOTI_DEVICE_CPU;
	return 0;
}

void fake_set_threads(int threads)
{
	(void)threads;
}
