/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/numbers/finite.h"

#include <stdint.h>
#include <string.h>

/*
 * IEEE 754: all bits of the exponent are set in NaN and the infinities, and in no other number
 * (bfloat16 is the upper half of a binary32). Adding 1 to the exponent's lowest place then
 * carries into the place of the sign, which was cleared before, and no farther. So one word of
 * 64 bits checks as many elements as it holds.
 */
struct finite_word {
	uint64_t signs;
	uint64_t ones; /* in the lowest place of each exponent */
};

static const struct finite_word finite_words[TENSOR_DTYPE_COUNT] = {
	[TENSOR_DTYPE_FP16] = { UINT64_C(0x8000800080008000),
	                        UINT64_C(0x0400040004000400) },
	[TENSOR_DTYPE_BF16] = { UINT64_C(0x8000800080008000),
	                        UINT64_C(0x0080008000800080) },
	[TENSOR_DTYPE_FP32] = { UINT64_C(0x8000000080000000),
	                        UINT64_C(0x0080000000800000) },
	[TENSOR_DTYPE_FP64] = { UINT64_C(0x8000000000000000),
	                        UINT64_C(0x0010000000000000) },
};

#define FINITE_BLOCK 8 /* words */

bool finite_look(const struct engine_tensor *tensor)
{
	const uint64_t signs = finite_words[tensor->dtype].signs;
	const uint64_t ones = finite_words[tensor->dtype].ones;
	const unsigned char *data = tensor->data;
	size_t element = tensor_dtype_bytes(tensor->dtype);
	size_t bytes = element * FINITE_LOOK_MAX;
	uint64_t sums[FINITE_BLOCK] = { 0 };
	uint64_t block[FINITE_BLOCK];
	uint64_t found = 0;
	uint64_t word;
	size_t i;

	if (signs == 0)
		return true;
	if (tensor->bytes < bytes)
		bytes = tensor->bytes;
	/* Compilers make vectors of blocks of a fixed length. */
	for (i = 0; i + sizeof(block) <= bytes; i += sizeof(block)) {
		memcpy(block, data + i, sizeof(block));
		for (size_t j = 0; j < FINITE_BLOCK; j++)
			sums[j] |= (block[j] & ~signs) + ones;
	}
	for (size_t j = 0; j < FINITE_BLOCK; j++)
		found |= sums[j];
	for (; i + sizeof(word) <= bytes; i += sizeof(word)) {
		memcpy(&word, data + i, sizeof(word));
		found |= (word & ~signs) + ones;
	}
	/* The last word is filled up with zeros, which are finite. */
	word = 0;
	if (bytes > i)
		memcpy(&word, data + i, bytes - i);
	found |= (word & ~signs) + ones;
	return (found & signs) == 0;
}
