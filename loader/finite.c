/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/finite.h"

#include <stdint.h>
#include <string.h>

/* IEEE 754: all bits of the exponent are set in NaN and the infinities, and in nothing else.
 * bfloat16 is the upper half of a binary32. */
#define FINITE_FP16 UINT16_C(0x7c00)
#define FINITE_BF16 UINT16_C(0x7f80)
#define FINITE_FP32 UINT32_C(0x7f800000)
#define FINITE_FP64 UINT64_C(0x7ff0000000000000)

/* No early end: a loop without one is done in vectors. */

static bool finite_look16(const unsigned char *data, size_t count, uint16_t exponent)
{
	unsigned int n_bad = 0;

	for (size_t i = 0; i < count; i++) {
		uint16_t bits;

		memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
		n_bad += (bits & exponent) == exponent;
	}
	return n_bad == 0;
}

static bool finite_look32(const unsigned char *data, size_t count)
{
	unsigned int n_bad = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t bits;

		memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
		n_bad += (bits & FINITE_FP32) == FINITE_FP32;
	}
	return n_bad == 0;
}

static bool finite_look64(const unsigned char *data, size_t count)
{
	unsigned int n_bad = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t bits;

		memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
		n_bad += (bits & FINITE_FP64) == FINITE_FP64;
	}
	return n_bad == 0;
}

bool finite_look(const struct engine_tensor *tensor)
{
	size_t element = tensor_dtype_bytes(tensor->dtype);
	size_t count = element > 0 ? tensor->bytes / element : 0;

	if (count > FINITE_LOOK_MAX)
		count = FINITE_LOOK_MAX;
	switch (tensor->dtype) {
	case TENSOR_DTYPE_FP16:
		return finite_look16(tensor->data, count, FINITE_FP16);
	case TENSOR_DTYPE_BF16:
		return finite_look16(tensor->data, count, FINITE_BF16);
	case TENSOR_DTYPE_FP32:
		return finite_look32(tensor->data, count);
	case TENSOR_DTYPE_FP64:
		return finite_look64(tensor->data, count);
	case TENSOR_DTYPE_BOOL:
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
	case TENSOR_DTYPE_UINT64:
	case TENSOR_DTYPE_INT8:
	case TENSOR_DTYPE_INT16:
	case TENSOR_DTYPE_INT32:
	case TENSOR_DTYPE_INT64:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	return true;
}
