/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Differences of sizes and times that end at 0. */

#include <stdint.h>

static inline uint64_t saturate_minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}
