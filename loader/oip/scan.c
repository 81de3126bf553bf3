/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A recursive walk over brackets, as deep as the shape (oip_scan_level()), with one function per
 * kind of element: integers, real numbers, truth values. numbers/decimal.c reads the digits.
 * Anything unexpected is OIP_SCAN_E_OTHER, without a sentence: the caller parses the text
 * again with the JSON library, whose tree knows better what is wrong.
 */
#include "loader/oip/scan.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "loader/numbers/decimal.h"
#include "loader/oip/number.h"

/* A sentence shows so many characters of a number. */
#define OIP_SCAN_SHOWN_MAX 40

struct oip_scan {
	enum tensor_dtype dtype;
	const struct tensor_shape *shape;
	const char *at;
	const char *end;
	unsigned char *to;
	size_t n_stored;
	struct err *err;
};

static void oip_scan_spaces(struct oip_scan *scan)
{
	while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\n' ||
	                                *scan->at == '\t' || *scan->at == '\r'))
		scan->at++;
}

static bool oip_scan_take(struct oip_scan *scan, char c)
{
	oip_scan_spaces(scan);
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

static int oip_scan_beyond(struct oip_scan *scan, const struct decimal *number)
{
	const size_t bytes = (size_t)(number->end - number->text);
	const bool is_long = bytes > OIP_SCAN_SHOWN_MAX;
	char shown[OIP_SCAN_SHOWN_MAX + 4];

	(void)snprintf(shown, sizeof(shown), "%.*s%s",
	               (int)(is_long ? OIP_SCAN_SHOWN_MAX : bytes), number->text,
	               is_long ? "..." : "");
	(void)oip_number_refuse(scan->dtype, shown, scan->err);
	return err_prefix(scan->err, -EINVAL, "element %zu", scan->n_stored);
}

static int oip_scan_integer(struct oip_scan *scan, const struct decimal *number)
{
	const size_t bytes = tensor_dtype_bytes(scan->dtype);
	const bool is_signed = scan->dtype >= TENSOR_DTYPE_INT8;
	/* The largest magnitude: as many ones as the datatype has bits, without the sign. */
	uint64_t max = UINT64_MAX >> (64 - 8 * bytes + is_signed);
	uint64_t magnitude = UINT64_MAX;

	if (!number->is_whole)
		return OIP_SCAN_E_OTHER;
	if (number->is_negative)
		max = is_signed ? max + 1 : 0;
	if (decimal_to_magnitude(number, &magnitude) || magnitude > max)
		return oip_scan_beyond(scan, number);
	if (number->is_negative)
		magnitude = 0 - magnitude;
	/* Little-endian: the low bytes are the narrow number. */
	memcpy(scan->to, &magnitude, bytes);
	return 0;
}

static int oip_scan_real(struct oip_scan *scan, const struct decimal *number)
{
	float single;
	double real;
	int r;

	if (scan->dtype == TENSOR_DTYPE_FP32) {
		r = decimal_to_float(number, &single);
		memcpy(scan->to, &single, sizeof(single));
	} else {
		r = decimal_to_double(number, &real);
		memcpy(scan->to, &real, sizeof(real));
	}
	if (r == DECIMAL_E_RANGE)
		return oip_scan_beyond(scan, number);
	return r ? OIP_SCAN_E_OTHER : 0;
}

static bool oip_scan_word(struct oip_scan *scan, const char *word)
{
	const size_t bytes = strlen(word);

	if ((size_t)(scan->end - scan->at) < bytes || memcmp(scan->at, word, bytes) != 0)
		return false;
	scan->at += bytes;
	return true;
}

/* Scans true, false, 1 or 0. */
static int oip_scan_truth(struct oip_scan *scan)
{
	const bool is_true = oip_scan_word(scan, "true") || oip_scan_word(scan, "1");

	if (!is_true && !oip_scan_word(scan, "false") && !oip_scan_word(scan, "0"))
		return OIP_SCAN_E_OTHER;
	*scan->to = is_true;
	return 0;
}

static int oip_scan_element(struct oip_scan *scan)
{
	struct decimal number;
	int r;

	oip_scan_spaces(scan);
	if (scan->dtype == TENSOR_DTYPE_BOOL) {
		r = oip_scan_truth(scan);
	} else {
		if (!decimal_read(scan->at, scan->end, &number))
			return OIP_SCAN_E_OTHER;
		scan->at = number.end;
		r = scan->dtype == TENSOR_DTYPE_FP32 || scan->dtype == TENSOR_DTYPE_FP64
		            ? oip_scan_real(scan, &number)
		            : oip_scan_integer(scan, &number);
	}
	scan->to += tensor_dtype_bytes(scan->dtype);
	scan->n_stored++;
	return r;
}

/* Scans @count elements and the closing bracket. */
static int oip_scan_elements(struct oip_scan *scan, size_t count)
{
	int r;

	for (size_t i = 0; i < count; i++) {
		if (i > 0 && !oip_scan_take(scan, ','))
			return OIP_SCAN_E_OTHER;
		r = oip_scan_element(scan);
		if (r)
			return r;
	}
	return oip_scan_take(scan, ']') ? 0 : OIP_SCAN_E_OTHER;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as the shape */
static int oip_scan_level(struct oip_scan *scan, uint32_t level)
{
	const size_t want = (size_t)scan->shape->dims[level];
	int r;

	if (!oip_scan_take(scan, '['))
		return OIP_SCAN_E_OTHER;
	if (level + 1 == scan->shape->rank)
		return oip_scan_elements(scan, want);
	for (size_t i = 0; i < want; i++) {
		if (i > 0 && !oip_scan_take(scan, ','))
			return OIP_SCAN_E_OTHER;
		r = oip_scan_level(scan, level + 1);
		if (r)
			return r;
	}
	return oip_scan_take(scan, ']') ? 0 : OIP_SCAN_E_OTHER;
}

bool oip_scan_may_hold(const struct tensor_shape *shape, size_t bytes)
{
	size_t count;

	/* An element takes at least one character, and a comma or a bracket behind it. */
	return tensor_count(shape, &count) == 0 && count <= bytes / 2;
}

int oip_scan(enum tensor_dtype dtype, const struct tensor_shape *shape, const char *text,
             size_t bytes, unsigned char *to, struct err *err)
{
	struct oip_scan scan = {
		.dtype = dtype,
		.shape = shape,
		.at = text,
		.end = text + bytes,
		.to = to,
		.err = err,
	};
	size_t count;
	int r;

	if (tensor_count(shape, &count) < 0 || !oip_scan_take(&scan, '['))
		return OIP_SCAN_E_OTHER;
	oip_scan_spaces(&scan);
	if (scan.at < scan.end && *scan.at == '[' && shape->rank > 0) {
		scan.at = text;
		r = oip_scan_level(&scan, 0);
	} else {
		r = oip_scan_elements(&scan, count);
	}
	if (r)
		return r;
	oip_scan_spaces(&scan);
	return scan.at == scan.end ? 0 : OIP_SCAN_E_OTHER;
}
