/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Turns one JSON value of the tree into one tensor element. The tree's integers are int64. */

#include <jansson.h>

#include "shared/err.h"
#include "shared/tensor.h"

/* Stores @value at @to; not for BYTES, FP16 and BF16. 0, or -EINVAL with a sentence about the
 * value, to be put behind the tensor's name. */
int oip_number_store(enum tensor_dtype dtype, const json_t *value, void *to,
                     struct err *err);

/* Writes the sentence that @dtype does not hold the number @text. Returns -EINVAL. */
int oip_number_refuse(enum tensor_dtype dtype, const char *text, struct err *err);
