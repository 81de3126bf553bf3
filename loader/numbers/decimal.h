/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Numbers of JSON, read from their text where it lies: exactly the grammar of RFC 8259,
 * section 6. No byte behind the end is read, no locale counts, no memory is allocated.
 *
 * The JSON library's numbers are int64 or double, which is less than the protocol's datatypes
 * hold: UINT64 above 2^63, and whole numbers of 20 digits and more, which some clients write
 * for an FP32 of 1e20.
 */

#include <stdbool.h>
#include <stdint.h>

/* A number as it is written: digits * 10^exponent. text and end are borrowed. */
struct decimal {
	const char *text;
	const char *end;
	uint64_t digits; /* the first 19 significant digits */
	int exponent;    /* saturated where it is beyond every double */
	bool is_negative;
	bool is_whole; /* written without a point and an exponent */
	bool is_cut;   /* the text has more digits than that */
};

enum {
	_DECIMAL_E_SUCCESS,
	DECIMAL_E_RANGE, /* the datatype does not hold it */
	DECIMAL_E_LONG,  /* the text is longer than DECIMAL_TEXT_MAX */
};

/* The exact value of a double takes 767 digits; what is longer is no honest number. */
#define DECIMAL_TEXT_MAX 1100

/* Reads the number at @text. False: no number begins there. */
bool decimal_read(const char *text, const char *end, struct decimal *ret_number);

/* Both round once, to the nearest. 0, or DECIMAL_E_*. */
int decimal_to_float(const struct decimal *number, float *ret_value);
int decimal_to_double(const struct decimal *number, double *ret_value);

/* The magnitude of a whole number. 0, or DECIMAL_E_RANGE beyond 64 bits. */
int decimal_to_magnitude(const struct decimal *number, uint64_t *ret_magnitude);
