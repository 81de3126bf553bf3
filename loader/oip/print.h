/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One tensor element as JSON text: what reads back as the same number, in as few digits as
 * that takes, whatever the locale is.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/tensor.h"

/* Longest text of an unsigned or a signed integer. */
#define OIP_PRINT_INTEGER_MAX 20

/* Longest text of one element of @dtype; not for BYTES, FP16 and BF16. */
size_t oip_print_max(enum tensor_dtype dtype);

/* Writes the element at @from, aligned or not, to @to, which holds oip_print_max() bytes.
 * Returns its bytes. What is not finite is NaN, Infinity or -Infinity, as Triton Inference
 * Server and Python write it; strict JSON has no word for it. */
size_t oip_print_element(enum tensor_dtype dtype, const void *from, char *to);

/* Likewise, @to holding OIP_PRINT_INTEGER_MAX bytes. */
size_t oip_print_unsigned(uint64_t value, char *to);
