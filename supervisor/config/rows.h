/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Macros and units of the rows, for keys.c and keys_supervisor.c alone. A row begins with
 * the macro of its type, whose arguments are what every row of that type says; the help and
 * what few rows say stand behind it. Members lie in the struct OBJECT.
 */

#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/keys.h"

#define ROW(kind, key, when, field)                                                      \
	.name = (key), .type = CONFIG_TYPE_##kind, .class = CONFIG_##when,               \
	.offset = offsetof(struct OBJECT, field),                                        \
	.bytes = sizeof(((struct OBJECT *)NULL)->field)

#define PATH(key, when, field) ROW(PATH, key, when, field)
#define STRING(key, when, field, form, is_allowed)                                       \
	ROW(STRING, key, when, field), .value = (form), .check = (is_allowed)
#define BOOL(key, when, field, standard)                                                 \
	ROW(BOOL, key, when, field), .fallback = (standard)
#define ENUM(key, when, field, list, standard)                                           \
	ROW(ENUM, key, when, field), .words = (list), .fallback = (standard)
#define RANGE(kind, key, when, field, least, most, standard)                             \
	ROW(kind, key, when, field), .min = (least), .max = (most), .fallback = (standard)
#define SIZE(key, when, field, least, most, standard)                                    \
	RANGE(SIZE, key, when, field, least, most, standard)
#define DURATION(key, when, field, least, most, standard)                                \
	RANGE(DURATION, key, when, field, least, most, standard)
#define UINT(key, when, field, least, most, standard, what)                              \
	RANGE(UINT, key, when, field, least, most, standard), .unit = (what)
#define LIST(kind, key, when, field, count, most)                                        \
	ROW(kind, key, when, field), .count_offset = offsetof(struct OBJECT, count),     \
				     .max = (most)

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define KIB  (UINT64_C(1) << 10)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define US   UINT64_C(1000)
#define MS   (1000 * US)
#define SEC  (1000 * MS)
#define HOUR (3600 * SEC)
