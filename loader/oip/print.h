/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Prints tensor elements as JSON text, in the fewest digits that read back as the same number,
 * whatever the locale is.
 */

#include <stddef.h>
#include <stdint.h>

#include "shared/tensor.h"

/* Longest text of an unsigned or a signed integer. */
#define OIP_PRINT_INTEGER_MAX 20

/* What lies so far behind an element's text may be written over: copies of a fixed length are faster
 * than those of the right one. */
#define OIP_PRINT_SLACK 24

/* Longest text of one element of @dtype; not for BYTES, FP16 and BF16. */
size_t oip_print_max(enum tensor_dtype dtype);

/* Writes the element at @from, aligned or not, to @to, which holds oip_print_max() +
 * OIP_PRINT_SLACK bytes. Returns the bytes of the text. Numbers that are not finite become NaN, Infinity or -Infinity, as in Triton
 * Inference Server and Python; strict JSON has no word for them. */
size_t oip_print_element(enum tensor_dtype dtype, const void *from, char *to);

/* Writes @value to @to, which holds OIP_PRINT_INTEGER_MAX bytes. Returns the bytes written. */
size_t oip_print_unsigned(uint64_t value, char *to);
