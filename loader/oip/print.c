/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Numbers into text. numbers/shortest.h finds the digits of a real number; where its point goes,
 * and whether it has an exponent, is decided here. Integers are written digit by digit.
 */
#include "loader/oip/print.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "loader/numbers/shortest.h"

/* Smaller whole numbers, which classifiers and masks are full of, are printed as integers with a
 * ".0" behind them, so that every reader takes them for real numbers. */
#define OIP_PRINT_WHOLE_MAX 1e9
/* A real number is printed without an exponent when fewer zeros stand before its digits, or at most
 * so many digits before its point: as Python prints it. */
#define OIP_PRINT_POINT_MIN (-4)
#define OIP_PRINT_POINT_MAX 16

/* "00" to "99": a division for every two digits. */
static const char oip_print_pairs[] =
	"00010203040506070809101112131415161718192021222324"
	"25262728293031323334353637383940414243444546474849"
	"50515253545556575859606162636465666768697071727374"
	"75767778798081828384858687888990919293949596979899";

static unsigned int oip_print_count(uint64_t value)
{
	unsigned int n = 1;

	for (; value >= 10000; value /= 10000)
		n += 4;
	return n + (value >= 10) + (value >= 100) + (value >= 1000);
}

size_t oip_print_unsigned(uint64_t value, char *to)
{
	const unsigned int n = oip_print_count(value);
	char *at = to + n;

	for (; value >= 100; value /= 100) {
		at -= 2;
		memcpy(at, &oip_print_pairs[2 * (value % 100)], 2);
	}
	if (value >= 10)
		memcpy(to, &oip_print_pairs[2 * value], 2);
	else
		*to = (char)('0' + value);
	return n;
}

static size_t oip_print_signed(int64_t value, char *to)
{
	if (value >= 0)
		return oip_print_unsigned((uint64_t)value, to);
	*to = '-';
	return 1 + oip_print_unsigned(0 - (uint64_t)value, to + 1);
}

/* Writes the number, whose last digit is not 0. */
static size_t oip_print_shortest(struct shortest number, char *to)
{
	/* Room for a copy of OIP_PRINT_SLACK bytes from behind the point. */
	char text[OIP_PRINT_POINT_MAX + OIP_PRINT_SLACK] = { 0 };
	const int n = (int)oip_print_unsigned(number.digits, text);
	const int point = n + number.exponent;
	int at = 0;

	if (point <= OIP_PRINT_POINT_MIN || point > OIP_PRINT_POINT_MAX) {
		to[at++] = text[0];
		if (n > 1)
			to[at++] = '.';
		memcpy(to + at, text + 1, OIP_PRINT_SLACK);
		at += n - 1;
		to[at++] = 'e';
		return (size_t)at + oip_print_signed(point - 1, to + at);
	}
	if (point <= 0) {
		memcpy(to, "0.0000", 6);
		memcpy(to + 2 - point, text, OIP_PRINT_SLACK);
		return (size_t)(2 - point + n);
	}
	memcpy(to, text, OIP_PRINT_POINT_MAX);
	if (n <= point) {
		memset(to + n, '0', (size_t)(point - n));
		memcpy(to + point, ".0", 2);
		return (size_t)(point + 2);
	}
	to[point] = '.';
	memcpy(to + point + 1, text + point, OIP_PRINT_SLACK);
	return (size_t)(n + 1);
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
	n = 0;
	if (signbit(value))
		to[n++] = '-';
	return n + oip_print_shortest(is_single ? shortest_float((float)value)
	                                        : shortest_double(value),
	                              to + n);
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
