/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Numbers into text. A large answer is mostly floats, so oip_print_float() finds the shortest
 * digits with double arithmetic and hands only subnormal numbers to printf, in oip_print_long().
 * FP64 goes through printf, unless it is a whole number. Integers are written digit by digit.
 */
#include "loader/oip/print.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Powers of ten that take any normal float to nine digits and back. Powers beyond 1e22 are
 * rounded; the tolerance in oip_print_float() covers that. */
static const double oip_print_powers[] = {
	1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23,
	1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35,
	1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46,
};

/* Smaller whole numbers, which classifiers and masks are full of, are printed as integers with a
 * ".0" behind them, so that every reader takes them for real numbers. */
#define OIP_PRINT_WHOLE_MAX 1e9
/* A float is printed without an exponent when at most so many zeros stand before its digits, or
 * at most so many digits before its point. */
#define OIP_PRINT_POINT_MIN (-4)
#define OIP_PRINT_POINT_MAX 15
/* Bytes of "%.17g", with room for the longest decimal point. */
#define OIP_PRINT_LONG_MAX 40

size_t oip_print_unsigned(uint64_t value, char *to)
{
	char digits[OIP_PRINT_INTEGER_MAX];
	size_t n = 0;

	do {
		digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(to, digits + sizeof(digits) - n, n);
	return n;
}

static size_t oip_print_signed(int64_t value, char *to)
{
	if (value >= 0)
		return oip_print_unsigned((uint64_t)value, to);
	*to = '-';
	return 1 + oip_print_unsigned(0 - (uint64_t)value, to + 1);
}

/* Writes @digits times ten to the power of @exponent. */
static size_t oip_print_decimal(uint64_t digits, int exponent, char *to)
{
	char text[OIP_PRINT_INTEGER_MAX];
	char *at = to;
	int n;
	int point;

	while (digits % 10 == 0) {
		digits /= 10;
		exponent++;
	}
	n = (int)oip_print_unsigned(digits, text);
	point = n + exponent;
	if (point <= OIP_PRINT_POINT_MIN || point > OIP_PRINT_POINT_MAX) {
		*at++ = text[0];
		if (n > 1)
			*at++ = '.';
		memcpy(at, text + 1, (size_t)(n - 1));
		at += n - 1;
		*at++ = 'e';
		at += oip_print_signed(point - 1, at);
	} else if (point <= 0) {
		memcpy(at, "0.0000", (size_t)(2 - point));
		at += 2 - point;
		memcpy(at, text, (size_t)n);
		at += n;
	} else {
		for (int i = 0; i < point; i++)
			*at++ = i < n ? text[i] : '0';
		*at++ = '.';
		if (n > point)
			memcpy(at, text + point, (size_t)(n - point));
		else
			*at = '0';
		at += n > point ? n - point : 1;
	}
	return (size_t)(at - to);
}

static double oip_print_scaled(double value, int power)
{
	return power >= 0 ? value * oip_print_powers[power]
	                  : value / oip_print_powers[-power];
}

/* Writes any number, at the price of printf: with the fewest of @digits to @digits_max digits that
 * read back. The locale's decimal point may be several bytes. */
static size_t oip_print_long(double value, int digits, int digits_max, char *to)
{
	char text[OIP_PRINT_LONG_MAX];
	char *at = to;

	do
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
	while (digits++ < digits_max && strtod(text, NULL) != value);
	for (const char *from = text; *from; from++) {
		if ((*from >= '0' && *from <= '9') || strchr("+-e", *from))
			*at++ = *from;
		else if (at == to || at[-1] != '.')
			*at++ = '.';
	}
	if (!memchr(to, '.', (size_t)(at - to)) && !memchr(to, 'e', (size_t)(at - to))) {
		memcpy(at, ".0", 2);
		at += 2;
	}
	return (size_t)(at - to);
}

/*
 * Writes the fewest of 6 to 9 digits that read back: a decimal closer to @value than half
 * the way to the next float does. Below a power of two the next float is half as far.
 * Nine digits are always close enough, and the error of the double arithmetic, some
 * 1e-15, is far below what the tolerance leaves free.
 */
static size_t oip_print_float(float value, char *to)
{
	const double magnitude = fabs((double)value);
	double tolerance;
	size_t n = 0;
	int exponent;
	int power;
	double digits;
	int bits;

	if (magnitude < (double)FLT_MIN)
		return oip_print_long((double)value, FLT_DECIMAL_DIG, FLT_DECIMAL_DIG,
		                      to);
	if (signbit(value))
		to[n++] = '-';
	tolerance = frexp(magnitude, &bits) > 0.5 ? 0.49 : 0.24;
	tolerance = ldexp(tolerance, bits - FLT_MANT_DIG);
	/* log10(2) * 2^18 = 78913.2: the decimal exponent, or one less. */
	exponent = ((bits - 1) * 78913) >> 18;
	if (oip_print_scaled(magnitude, -exponent) >= 10)
		exponent++;
	for (power = FLT_DIG - 1 - exponent;; power++) {
		digits = (double)(uint64_t)(oip_print_scaled(magnitude, power) + 0.5);
		if (power == FLT_DECIMAL_DIG - 1 - exponent ||
		    fabs(oip_print_scaled(digits, -power) - magnitude) <= tolerance)
			break;
	}
	return n + oip_print_decimal((uint64_t)digits, -power, to + n);
}

static size_t oip_print_real(double value, bool is_single, char *to)
{
	size_t n;

	if (!isfinite(value)) {
		const char *text = isnan(value)     ? "NaN"
		                   : signbit(value) ? "-Infinity"
		                                    : "Infinity";

		n = strlen(text);
		memcpy(to, text, n);
		return n;
	}
	if (fabs(value) < OIP_PRINT_WHOLE_MAX && value == (double)(int64_t)value &&
	    !(value == 0 && signbit(value))) {
		n = oip_print_signed((int64_t)value, to);
		memcpy(to + n, ".0", 2);
		return n + 2;
	}
	if (value == 0) {
		memcpy(to, "-0.0", 4);
		return 4;
	}
	return is_single ? oip_print_float((float)value, to)
	                 : oip_print_long(value, DBL_DIG, DBL_DECIMAL_DIG, to);
}

size_t oip_print_max(enum tensor_dtype dtype)
{
	static const size_t text_max[TENSOR_DTYPE_COUNT] = {
		[TENSOR_DTYPE_BOOL] = 5,    [TENSOR_DTYPE_UINT8] = 3,
		[TENSOR_DTYPE_UINT16] = 5,  [TENSOR_DTYPE_UINT32] = 10,
		[TENSOR_DTYPE_UINT64] = 20, [TENSOR_DTYPE_INT8] = 4,
		[TENSOR_DTYPE_INT16] = 6,   [TENSOR_DTYPE_INT32] = 11,
		[TENSOR_DTYPE_INT64] = 20,  [TENSOR_DTYPE_FP32] = 20,
		[TENSOR_DTYPE_FP64] = 24,
	};

	return text_max[dtype];
}

size_t oip_print_element(enum tensor_dtype dtype, const void *from, char *to)
{
	union {
		uint64_t u64; /* little-endian: shorter numbers lie in the low bytes */
		int8_t i8;
		int16_t i16;
		int32_t i32;
		int64_t i64;
		float f32;
		double f64;
	} value = { .u64 = 0 };

	memcpy(&value, from, tensor_dtype_bytes(dtype));
	switch (dtype) {
	case TENSOR_DTYPE_BOOL:
		memcpy(to, value.u64 ? "true" : "false", value.u64 ? 4 : 5);
		return value.u64 ? 4 : 5;
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
	case TENSOR_DTYPE_UINT64:
		return oip_print_unsigned(value.u64, to);
	case TENSOR_DTYPE_INT8:
		return oip_print_signed(value.i8, to);
	case TENSOR_DTYPE_INT16:
		return oip_print_signed(value.i16, to);
	case TENSOR_DTYPE_INT32:
		return oip_print_signed(value.i32, to);
	case TENSOR_DTYPE_INT64:
		return oip_print_signed(value.i64, to);
	case TENSOR_DTYPE_FP32:
		return oip_print_real((double)value.f32, true, to);
	case TENSOR_DTYPE_FP64:
		return oip_print_real(value.f64, false, to);
	case TENSOR_DTYPE_FP16:
	case TENSOR_DTYPE_BF16:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	/* oip_decode() refuses to answer other datatypes in JSON. */
	assert(false);
	return 0;
}
