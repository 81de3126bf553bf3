/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The fewest decimal digits that read back as the same number, and the nearest of those, by the
 * library dragonbox (Junekey Jeon, "Dragonbox: A New Floating-Point Binary-to-Decimal Conversion
 * Algorithm"). shortest.cpp is the shim over it. Pure; no locale counts, no memory is allocated.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* digits * 10^exponent; the last digit is not 0. */
struct shortest {
	uint64_t digits; /* at most 9 of a float, 17 of a double */
	int exponent;
};

/* The magnitude of @value, which is finite and not 0. */
struct shortest shortest_float(float value);
struct shortest shortest_double(double value);

#ifdef __cplusplus
}
#endif
