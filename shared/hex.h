/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes as hexadecimal digits. */

#include <stddef.h>
#include <stdint.h>

/* The value of one digit in either case; -1: @c is no digit. */
static inline int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* @text has room for 2 * @bytes digits, in lower case, and a NUL. */
static inline void hex_print(char *text, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		*text++ = "0123456789abcdef"[data[i] >> 4];
		*text++ = "0123456789abcdef"[data[i] & 15];
	}
	*text = '\0';
}
