/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/oip/number.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* "-9223372036854775808", "-1.79769e+308" */
#define OIP_NUMBER_TEXT_MAX 24

struct oip_range {
	json_int_t min;
	json_int_t max;
};

/* UINT64 ends here where the JSON library's integers end; oip/scan.h reads larger ones. */
static const struct oip_range oip_ranges[TENSOR_DTYPE_COUNT] = {
	[TENSOR_DTYPE_UINT8] = { 0, UINT8_MAX },
	[TENSOR_DTYPE_UINT16] = { 0, UINT16_MAX },
	[TENSOR_DTYPE_UINT32] = { 0, UINT32_MAX },
	[TENSOR_DTYPE_UINT64] = { 0, INT64_MAX },
	[TENSOR_DTYPE_INT8] = { INT8_MIN, INT8_MAX },
	[TENSOR_DTYPE_INT16] = { INT16_MIN, INT16_MAX },
	[TENSOR_DTYPE_INT32] = { INT32_MIN, INT32_MAX },
	[TENSOR_DTYPE_INT64] = { INT64_MIN, INT64_MAX },
};

int oip_number_refuse(enum tensor_dtype dtype, const char *text, struct err *err)
{
	const struct oip_range *range = &oip_ranges[dtype];

	if (range->max == 0)
		return err_set(err, -EINVAL, "is %s, which %s does not hold", text,
		               tensor_dtype_name(dtype));
	return err_set(err, -EINVAL, "is %s; %s holds %lld to %llu", text,
	               tensor_dtype_name(dtype), (long long)range->min,
	               dtype == TENSOR_DTYPE_UINT64 ? UINT64_MAX
	                                            : (unsigned long long)range->max);
}

static int oip_number_store_integer(enum tensor_dtype dtype, const json_t *value,
                                    void *to, struct err *err)
{
	const struct oip_range *range = &oip_ranges[dtype];
	json_int_t number = json_integer_value(value);
	char text[OIP_NUMBER_TEXT_MAX];

	if (!json_is_integer(value))
		return err_set(err, -EINVAL, "must be an integer%s",
		               json_is_real(value) ? " without a point" : "");
	if (number < range->min || number > range->max) {
		(void)snprintf(text, sizeof(text), "%lld", (long long)number);
		return oip_number_refuse(dtype, text, err);
	}
	/* Little-endian: the low bytes are the narrow number. */
	memcpy(to, &number, tensor_dtype_bytes(dtype));
	return 0;
}

static int oip_number_store_real(enum tensor_dtype dtype, const json_t *value, void *to,
                                 struct err *err)
{
	double real = json_number_value(value);
	float single = (float)real;
	char text[OIP_NUMBER_TEXT_MAX];

	if (!json_is_number(value))
		return err_set(err, -EINVAL, "must be a number");
	if (dtype == TENSOR_DTYPE_FP64) {
		memcpy(to, &real, sizeof(real));
		return 0;
	}
	if (isinf(single)) {
		(void)snprintf(text, sizeof(text), "%g", real);
		return oip_number_refuse(dtype, text, err);
	}
	memcpy(to, &single, sizeof(single));
	return 0;
}

int oip_number_store(enum tensor_dtype dtype, const json_t *value, void *to,
                     struct err *err)
{
	unsigned char truth;

	switch (dtype) {
	case TENSOR_DTYPE_BOOL:
		truth = json_is_true(value) || json_integer_value(value) == 1;
		if (!truth && !json_is_false(value) &&
		    !(json_is_integer(value) && json_integer_value(value) == 0))
			return err_set(err, -EINVAL, "must be true or false");
		memcpy(to, &truth, 1);
		return 0;
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
	case TENSOR_DTYPE_UINT64:
	case TENSOR_DTYPE_INT8:
	case TENSOR_DTYPE_INT16:
	case TENSOR_DTYPE_INT32:
	case TENSOR_DTYPE_INT64:
		return oip_number_store_integer(dtype, value, to, err);
	case TENSOR_DTYPE_FP32:
	case TENSOR_DTYPE_FP64:
		return oip_number_store_real(dtype, value, to, err);
	case TENSOR_DTYPE_FP16:
	case TENSOR_DTYPE_BF16:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	return err_set(err, -EINVAL, "has no form in JSON");
}
