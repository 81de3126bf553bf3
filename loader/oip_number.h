/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One JSON value into one tensor element. */

#include <jansson.h>

#include "shared/err.h"
#include "shared/tensor.h"

/* Stores @value at @to, not for BYTES, FP16 and BF16. 0, or -EINVAL with what is wrong with
 * the value, to be put behind the tensor's name. */
int oip_number_store(enum tensor_dtype dtype, const json_t *value, void *to,
                     struct err *err);
