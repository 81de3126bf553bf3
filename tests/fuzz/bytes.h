/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The input of a fuzzer as a sequence of small decisions. Behind the end everything is zero, so
 * that every prefix of an input is an input.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FUZZ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct fuzz_bytes {
	const uint8_t *at;
	size_t left;
};

/* Copies @size bytes into @to. */
static inline void fuzz_copy(struct fuzz_bytes *bytes, void *to, size_t size)
{
	size_t n = size < bytes->left ? size : bytes->left;

	memset(to, 0, size);
	if (n > 0)
		memcpy(to, bytes->at, n);
	bytes->at += n;
	bytes->left -= n;
}

static inline uint8_t fuzz_u8(struct fuzz_bytes *bytes)
{
	uint8_t value;

	fuzz_copy(bytes, &value, sizeof(value));
	return value;
}

static inline uint16_t fuzz_u16(struct fuzz_bytes *bytes)
{
	uint16_t value;

	fuzz_copy(bytes, &value, sizeof(value));
	return value;
}

static inline uint32_t fuzz_u32(struct fuzz_bytes *bytes)
{
	uint32_t value;

	fuzz_copy(bytes, &value, sizeof(value));
	return value;
}

static inline uint64_t fuzz_u64(struct fuzz_bytes *bytes)
{
	uint64_t value;

	fuzz_copy(bytes, &value, sizeof(value));
	return value;
}

/* Returns a number near @value, or any: faulty bounds fail mostly next to them. */
static inline uint64_t fuzz_near(struct fuzz_bytes *bytes, uint64_t value)
{
	uint8_t how = fuzz_u8(bytes);

	switch (how >> 6) {
	case 0:
		return value;
	case 1:
		return value + (how & 3) + 1;
	case 2:
		return value - (how & 3) - 1;
	default:
		return fuzz_u64(bytes) >> (how & 0x3f);
	}
}
