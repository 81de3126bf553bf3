/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What engine aoti calls by name: of torch, its C interface for compiled models (shim.h); of a
 * compiled model, the functions of its container (interface.h). Both are extern "C" and are only
 * added to. Each call returns 0 or a failure without a text.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aoti_tensor;
struct aoti_container;

/* A constant for the container, which does not own the tensor. */
struct aoti_pair {
	const char *name;
	struct aoti_tensor *tensor;
};

/* Numbers of c10::ScalarType, which files hold, too. */
enum aoti_dtype {
	AOTI_DTYPE_UINT8 = 0,
	AOTI_DTYPE_INT8 = 1,
	AOTI_DTYPE_INT16 = 2,
	AOTI_DTYPE_INT32 = 3,
	AOTI_DTYPE_INT64 = 4,
	AOTI_DTYPE_FLOAT16 = 5,
	AOTI_DTYPE_FLOAT32 = 6,
	AOTI_DTYPE_FLOAT64 = 7,
	AOTI_DTYPE_BOOL = 11,
	AOTI_DTYPE_BFLOAT16 = 15,
	AOTI_DTYPE_UINT16 = 27,
	AOTI_DTYPE_UINT32 = 28,
	AOTI_DTYPE_UINT64 = 29,
};

enum { AOTI_DEVICE_CPU = 0 };

/* Of torch. */
struct aoti_torch {
	int32_t (*from_blob)(void *data, int64_t rank, const int64_t *sizes,
	                     const int64_t *strides, int64_t offset, int32_t dtype,
	                     int32_t device_type, int32_t device,
	                     struct aoti_tensor **ret_tensor);
	int32_t (*free)(struct aoti_tensor *tensor);
	int32_t (*data)(struct aoti_tensor *tensor, void **ret_data);
	int32_t (*dtype)(struct aoti_tensor *tensor, int32_t *ret_dtype);
	int32_t (*rank)(struct aoti_tensor *tensor, int64_t *ret_rank);
	int32_t (*sizes)(struct aoti_tensor *tensor, int64_t **ret_sizes);
	int32_t (*strides)(struct aoti_tensor *tensor, int64_t **ret_strides);
	int32_t (*device_type)(struct aoti_tensor *tensor, int32_t *ret_type);
	void (*set_threads)(int threads); /* at::set_num_threads() */
};

/* Of a compiled model. */
struct aoti_model {
	int32_t (*create)(struct aoti_container **ret_container, size_t n_models,
	                  const char *device, const char *cubin_dir);
	int32_t (*free)(struct aoti_container *container);
	/* Takes the inputs' tensors, and sets those that it took to NULL. */
	int32_t (*run)(struct aoti_container *container, struct aoti_tensor **inputs,
	               size_t n_inputs, struct aoti_tensor **outputs, size_t n_outputs,
	               void *stream, void *proxy);
	int32_t (*count_inputs)(struct aoti_container *container, size_t *ret_n);
	int32_t (*count_outputs)(struct aoti_container *container, size_t *ret_n);
	int32_t (*spec)(struct aoti_container *container, const char **ret_in,
	                const char **ret_out);
	int32_t (*count_constants)(struct aoti_container *container, size_t *ret_n);
	int32_t (*constant_name)(struct aoti_container *container, size_t i,
	                         const char **ret_name);
	int32_t (*constant_origin)(struct aoti_container *container, size_t i,
	                           const char **ret_name);
	int32_t (*constant_dtype)(struct aoti_container *container, size_t i,
	                          int32_t *ret_dtype);
	int32_t (*constant_folded)(struct aoti_container *container, size_t i,
	                           bool *ret_is_folded);
	/* NULL: the torch that compiled it had none yet. */
	int32_t (*use_pairs)(struct aoti_container *container,
	                     const struct aoti_pair *pairs, size_t n, bool is_inactive,
	                     bool is_full);
};
