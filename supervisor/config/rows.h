/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Macros and units of the rows, for keys.c and keys_supervisor.c alone. */

#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/keys.h"

#define AT(type, field)                                                                  \
	.offset = offsetof(struct type, field),                                          \
	.bytes = sizeof(((struct type *)NULL)->field)
#define COUNTED_BY(type, field) .count_offset = offsetof(struct type, field)
#define COUNT_OF(array)         (sizeof(array) / sizeof((array)[0]))

#define KIB  (UINT64_C(1) << 10)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define US   UINT64_C(1000)
#define MS   (1000 * US)
#define SEC  (1000 * MS)
#define HOUR (3600 * SEC)
