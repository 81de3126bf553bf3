/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Characters of header fields: RFC 9110 5.6.2, a token's (names, methods), and 5.5, a value's.
 */

#include <stdbool.h>
#include <stdint.h>

static inline bool field_is_token(unsigned char c)
{
	static const uint32_t map[4] = { 0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff };

	return c < 0x80 && (map[c / 32] >> c % 32 & 1);
}

static inline bool field_is_value(unsigned char c)
{
	return (c >= ' ' && c != 0x7f) || c == '\t';
}
