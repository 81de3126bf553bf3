/* SPDX-License-Identifier: Apache-2.0 */

/*
 * decimal_read() splits a number's text into digits and exponent. Most numbers then become a
 * float by one exact multiplication or division (Clinger's fast path). strtod() and strtof(),
 * which are slow and go by the locale, get only those for which that could be off by a bit.
 */
#include "loader/numbers/decimal.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 64 bits hold any number of so many digits. */
#define DECIMAL_DIGITS_MAX 19
/* An exponent beyond every double, however many digits stand before it. */
#define DECIMAL_EXPONENT_MAX 100000
/* Powers of ten that a double holds exactly. */
#define DECIMAL_POWER_MAX 22
/* Integers that a double holds exactly. */
#define DECIMAL_EXACT_MAX (UINT64_C(1) << DBL_MANT_DIG)

static const double decimal_powers[DECIMAL_POWER_MAX + 1] = {
	1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static bool decimal_is_digit(const char *at, const char *end)
{
	return at < end && *at >= '0' && *at <= '9';
}

/* Reads one run of digits. Each one that is kept moves the exponent by @shift (0 before the
 * point, -1 behind it), each one that is dropped by one more. */
static const char *decimal_read_digits(struct decimal *number, const char *at,
                                       const char *end, unsigned int *n_digits, int shift)
{
	for (; decimal_is_digit(at, end); at++) {
		const unsigned int digit = (unsigned int)(*at - '0');

		if (*n_digits < DECIMAL_DIGITS_MAX) {
			number->digits = number->digits * 10 + digit;
			*n_digits += number->digits != 0;
			number->exponent += shift;
		} else {
			number->is_cut = true;
			number->exponent += shift + 1;
		}
	}
	return at;
}

static const char *decimal_read_exponent(struct decimal *number, const char *at,
                                         const char *end)
{
	const bool is_negative = at < end && *at == '-';
	int exponent = 0;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	if (!decimal_is_digit(at, end))
		return NULL;
	for (; decimal_is_digit(at, end); at++)
		if (exponent < DECIMAL_EXPONENT_MAX)
			exponent = exponent * 10 + (*at - '0');
	number->exponent += is_negative ? -exponent : exponent;
	return at;
}

bool decimal_read(const char *text, const char *end, struct decimal *ret_number)
{
	struct decimal number = { .text = text, .is_whole = true };
	unsigned int n_digits = 0;
	const char *at = text;

	if (at < end && *at == '-') {
		number.is_negative = true;
		at++;
	}
	if (!decimal_is_digit(at, end))
		return false;
	/* RFC 8259: no digit follows a leading zero. */
	if (*at == '0' && decimal_is_digit(at + 1, end))
		return false;
	at = decimal_read_digits(&number, at, end, &n_digits, 0);
	if (at < end && *at == '.') {
		if (!decimal_is_digit(at + 1, end))
			return false;
		number.is_whole = false;
		at = decimal_read_digits(&number, at + 1, end, &n_digits, -1);
	}
	if (at < end && (*at == 'e' || *at == 'E')) {
		number.is_whole = false;
		at = decimal_read_exponent(&number, at + 1, end);
		if (!at)
			return false;
	}
	number.end = at;
	*ret_number = number;
	return true;
}

/* Copies the text for strtod() and strtof(), with the decimal point of the locale: a library of an
 * engine may have set one. A point of several bytes is not supported. */
static int decimal_copy(const struct decimal *number, char text[DECIMAL_TEXT_MAX + 1])
{
	const size_t bytes = (size_t)(number->end - number->text);
	const char *point = localeconv()->decimal_point;
	char *at;

	if (bytes > DECIMAL_TEXT_MAX || strlen(point) != 1)
		return DECIMAL_E_LONG;
	memcpy(text, number->text, bytes);
	text[bytes] = '\0';
	at = memchr(text, '.', bytes);
	if (at)
		*at = *point;
	return 0;
}

/* True when one multiplication or division by an exact power of ten gives the value. */
static bool decimal_is_simple(const struct decimal *number)
{
	return !number->is_cut && number->exponent >= -DECIMAL_POWER_MAX &&
	       number->exponent <= DECIMAL_POWER_MAX;
}

static double decimal_compute(const struct decimal *number)
{
	double value = (double)number->digits;

	value = number->exponent < 0 ? value / decimal_powers[-number->exponent]
	                             : value * decimal_powers[number->exponent];
	return number->is_negative ? -value : value;
}

int decimal_to_double(const struct decimal *number, double *ret_value)
{
	char text[DECIMAL_TEXT_MAX + 1];
	int r;

	if (decimal_is_simple(number) && number->digits <= DECIMAL_EXACT_MAX) {
		*ret_value = decimal_compute(number);
		return 0;
	}
	r = decimal_copy(number, text);
	if (r)
		return r;
	*ret_value = strtod(text, NULL);
	return isinf(*ret_value) ? DECIMAL_E_RANGE : 0;
}

/* A double on its way to a float is rounded a second time. The result differs from rounding once
 * only beside the middle of two floats: where the low bits of the double, which the float has
 * no place for, are within its own error of one half. */
static bool decimal_is_doubtful(double value)
{
	const unsigned int spare = DBL_MANT_DIG - FLT_MANT_DIG;
	const uint64_t half = UINT64_C(1) << (spare - 1);
	const uint64_t error = 4; /* of decimal_compute(), in the last place: below 2 */
	uint64_t bits;

	if (fabs(value) < 2 * (double)FLT_MIN)
		return value != 0; /* the float has fewer bits there */
	memcpy(&bits, &value, sizeof(bits));
	bits &= (UINT64_C(1) << spare) - 1;
	return bits >= half - error && bits <= half + error;
}

int decimal_to_float(const struct decimal *number, float *ret_value)
{
	char text[DECIMAL_TEXT_MAX + 1];
	double value;
	int r;

	if (decimal_is_simple(number)) {
		value = decimal_compute(number);
		if (!decimal_is_doubtful(value)) {
			*ret_value = (float)value;
			return isinf(*ret_value) ? DECIMAL_E_RANGE : 0;
		}
	}
	r = decimal_copy(number, text);
	if (r)
		return r;
	*ret_value = strtof(text, NULL);
	return isinf(*ret_value) ? DECIMAL_E_RANGE : 0;
}

int decimal_to_magnitude(const struct decimal *number, uint64_t *ret_magnitude)
{
	uint64_t magnitude = 0;

	if (!number->is_cut) {
		*ret_magnitude = number->digits;
		return 0;
	}
	for (const char *at = number->text + number->is_negative; at < number->end; at++)
		if (__builtin_mul_overflow(magnitude, 10U, &magnitude) ||
		    __builtin_add_overflow(magnitude, (uint64_t)(*at - '0'), &magnitude))
			return DECIMAL_E_RANGE;
	*ret_magnitude = magnitude;
	return 0;
}
