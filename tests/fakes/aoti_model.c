/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A compiled model, for tests on machines without torch: y = x W + b of 4 by 2, whose weights come
 * from beside the code (or are inside: AOTI_INSIDE). A first element of 666 fails as an index does
 * that is out of range. Built with a name that no torch has (AOTI_LACKS) it can never be linked.
 */
#include <stdio.h>
#include <string.h>

#include "loader/aoti/abi.h"

#define MODEL(name) AOTInductorModelContainer##name

struct aoti_container {
	const float *weights; /* NULL: not given yet */
};

int32_t aoti_torch_get_data_ptr(struct aoti_tensor *tensor, void **ret_data);
int32_t aoti_torch_get_sizes(struct aoti_tensor *tensor, int64_t **ret_sizes);
int32_t aoti_torch_delete_tensor_object(struct aoti_tensor *tensor);
int32_t aoti_torch_empty_strided(int64_t rank, const int64_t *sizes,
                                 const int64_t *strides, int32_t dtype,
                                 int32_t device_type, int32_t device,
                                 struct aoti_tensor **ret_tensor);
int32_t MODEL(CreateWithDevice)(struct aoti_container **ret_container, size_t n,
                                const char *device, const char *cubin_dir);
int32_t MODEL(Delete)(struct aoti_container *container);
int32_t MODEL(Run)(struct aoti_container *container, struct aoti_tensor **inputs,
                   size_t n_inputs, struct aoti_tensor **outputs, size_t n_outputs,
                   void *stream, void *proxy);
int32_t MODEL(GetNumInputs)(struct aoti_container *container, size_t *ret_n);
int32_t MODEL(GetNumOutputs)(struct aoti_container *container, size_t *ret_n);
int32_t MODEL(GetCallSpec)(struct aoti_container *container, const char **ret_in,
                           const char **ret_out);
int32_t MODEL(GetNumConstants)(struct aoti_container *container, size_t *ret_n);
int32_t MODEL(GetConstantName)(struct aoti_container *container, size_t i,
                               const char **ret_name);
int32_t MODEL(GetConstantOriginalFQN)(struct aoti_container *container, size_t i,
                                      const char **ret_name);
int32_t MODEL(GetConstantDtype)(struct aoti_container *container, size_t i,
                                int32_t *ret_dtype);
int32_t MODEL(GetConstantFromFolded)(struct aoti_container *container, size_t i,
                                     bool *ret_is_folded);
int32_t MODEL(UpdateUserManagedConstantBufferPairs)(struct aoti_container *container,
                                                    const struct aoti_pair *pairs,
                                                    size_t n, bool is_inactive,
                                                    bool is_full);

#ifdef AOTI_INSIDE
/* A row of W for each output, then b. */
static const float model_inside[] = { 0, 2, 4, 6, 1, 3, 5, 7, 1, -1 };
#endif
static struct aoti_container model_container;

#ifdef AOTI_LACKS
int32_t AOTI_LACKS(void);
#endif

int32_t MODEL(CreateWithDevice)(struct aoti_container **ret_container, size_t n,
                                const char *device, const char *cubin_dir)
{
	(void)cubin_dir;
#ifdef AOTI_LACKS
	(void)AOTI_LACKS();
#endif
#ifdef AOTI_INSIDE
	model_container.weights = model_inside;
#endif
	*ret_container = &model_container;
	return n != 1 || strcmp(device, "cpu") != 0;
}

int32_t MODEL(Delete)(struct aoti_container *container)
{
	container->weights = NULL;
	return 0;
}

int32_t MODEL(Run)(struct aoti_container *container, struct aoti_tensor **inputs,
                   size_t n_inputs, struct aoti_tensor **outputs, size_t n_outputs,
                   void *stream, void *proxy)
{
	const int64_t strides[] = { 2, 1 };
	int64_t sizes[] = { 0, 2 };
	const float *w = container->weights;
	const float *x;
	int64_t *dims;
	void *data;
	float *y;

	(void)stream;
	(void)proxy;
	if (n_inputs != 1 || n_outputs != 1 || !w ||
	    aoti_torch_get_data_ptr(inputs[0], &data) ||
	    aoti_torch_get_sizes(inputs[0], &dims))
		return 1;
	x = data;
	if (dims[0] > 0 && *x == 666) {
		(void)fputs("Exception in aoti_torch: index out of range in self\n"
		            "Error: call failed at wrapper.cpp, line 7\n",
		            stderr);
		return 1;
	}
	sizes[0] = dims[0];
	if (aoti_torch_empty_strided(2, sizes, strides, AOTI_DTYPE_FLOAT32,
	                             AOTI_DEVICE_CPU, 0, outputs) ||
	    aoti_torch_get_data_ptr(outputs[0], &data))
		return 1;
	y = data;
	for (int64_t row = 0; row < sizes[0]; row++)
		for (int64_t j = 0; j < 2; j++) {
			float sum = w[8 + j];

			for (int64_t i = 0; i < 4; i++)
				sum += x[row * 4 + i] * w[j * 4 + i];
			y[row * 2 + j] = sum;
		}
	(void)aoti_torch_delete_tensor_object(inputs[0]);
	inputs[0] = NULL;
	return 0;
}

int32_t MODEL(GetNumInputs)(struct aoti_container *container, size_t *ret_n)
{
	(void)container;
	*ret_n = 1;
	return 0;
}

int32_t MODEL(GetNumOutputs)(struct aoti_container *container, size_t *ret_n)
{
	(void)container;
	*ret_n = 1;
	return 0;
}

int32_t MODEL(GetCallSpec)(struct aoti_container *container, const char **ret_in,
                           const char **ret_out)
{
	(void)container;
	*ret_in = "[1, {\"type\": \"builtins.tuple\", \"context\": \"null\", "
		  "\"children_spec\": [{\"type\": \"builtins.tuple\", \"context\": "
		  "\"null\", "
		  "\"children_spec\": []}, {\"type\": \"builtins.dict\", \"context\": "
		  "\"[\\\"x\\\"]\", \"children_spec\": [{\"type\": null, \"context\": "
		  "null, "
		  "\"children_spec\": []}]}]}]";
	*ret_out = "[1, {\"type\": null, \"context\": null, \"children_spec\": []}]";
	return 0;
}

int32_t MODEL(GetNumConstants)(struct aoti_container *container, size_t *ret_n)
{
	(void)container;
	*ret_n = 1;
	return 0;
}

int32_t MODEL(GetConstantName)(struct aoti_container *container, size_t i,
                               const char **ret_name)
{
	(void)container;
	*ret_name = "weights";
	return i != 0;
}

int32_t MODEL(GetConstantOriginalFQN)(struct aoti_container *container, size_t i,
                                      const char **ret_name)
{
	(void)container;
	*ret_name = "fc.weights";
	return i != 0;
}

int32_t MODEL(GetConstantDtype)(struct aoti_container *container, size_t i,
                                int32_t *ret_dtype)
{
	(void)container;
	*ret_dtype = AOTI_DTYPE_FLOAT32;
	return i != 0;
}

int32_t MODEL(GetConstantFromFolded)(struct aoti_container *container, size_t i,
                                     bool *ret_is_folded)
{
	(void)container;
	*ret_is_folded = false;
	return i != 0;
}

int32_t MODEL(UpdateUserManagedConstantBufferPairs)(struct aoti_container *container,
                                                    const struct aoti_pair *pairs,
                                                    size_t n, bool is_inactive,
                                                    bool is_full)
{
	void *data;

	(void)is_inactive;
	(void)is_full;
	if (n != 1 || strcmp(pairs[0].name, "weights") != 0 ||
	    aoti_torch_get_data_ptr(pairs[0].tensor, &data))
		return 1;
	container->weights = data;
	return 0;
}
