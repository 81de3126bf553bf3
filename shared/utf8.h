/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reading UTF-8 (RFC 3629, table in section 4). */

#include <stddef.h>

/* Returns the bytes of the character at @at, which is before @end; 0: none begins there. */
static inline size_t utf8_bytes(const unsigned char *at, const unsigned char *end)
{
	const unsigned char first = *at;
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t n;

	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	n = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if ((size_t)(end - at) < n)
		return 0;
	if (first == 0xe0)
		low = 0xa0; /* shorter forms exist */
	else if (first == 0xed)
		high = 0x9f; /* surrogates */
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f; /* beyond U+10FFFF */
	for (size_t i = 1; i < n; i++) {
		if (at[i] < low || at[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return n;
}
