/* SPDX-License-Identifier: Apache-2.0 */

/*
 * golden_alike() compares shapes, then element by element: golden_texts_alike() BYTES by their
 * lengths and contents, golden_numbers_alike() integers bit by bit and real numbers with a
 * tolerance. The sentence names the first difference by its place, "[1,3]", because an operator
 * has to find it in the golden file.
 */
#include "loader/proof/golden_compare.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* "[255,255,...]" */
#define GOLDEN_SHAPE_TEXT 176

bool golden_is_real(enum tensor_dtype dtype)
{
	return dtype == TENSOR_DTYPE_FP16 || dtype == TENSOR_DTYPE_BF16 ||
	       dtype == TENSOR_DTYPE_FP32 || dtype == TENSOR_DTYPE_FP64;
}

struct golden_tolerance golden_tolerance_of(enum tensor_dtype dtype)
{
	switch (dtype) {
	case TENSOR_DTYPE_FP16:
		return (struct golden_tolerance){ .abs = 1e-3, .rel = 1e-2 };
	case TENSOR_DTYPE_BF16:
		return (struct golden_tolerance){ .abs = 1e-2, .rel = 5e-2 };
	case TENSOR_DTYPE_FP32:
		return (struct golden_tolerance){ .abs = 1e-5, .rel = 1e-4 };
	case TENSOR_DTYPE_FP64:
		return (struct golden_tolerance){ .abs = 1e-8, .rel = 1e-7 };
	case TENSOR_DTYPE_BOOL:
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
	case TENSOR_DTYPE_UINT64:
	case TENSOR_DTYPE_INT8:
	case TENSOR_DTYPE_INT16:
	case TENSOR_DTYPE_INT32:
	case TENSOR_DTYPE_INT64:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	return (struct golden_tolerance){ 0, 0 };
}

/* The place of element @index, "[1,3]"; a scalar's is "[]". */
static const char *golden_place(const struct tensor_shape *shape, size_t index,
                                char *text, size_t size)
{
	struct tensor_shape place = { .rank = shape->rank };

	for (uint32_t i = shape->rank; i-- > 0;) {
		place.dims[i] = (int64_t)(index % (size_t)shape->dims[i]);
		index /= (size_t)shape->dims[i];
	}
	return tensor_shape_print(&place, text, size);
}

/* Numbers */

static double golden_half(uint16_t bits)
{
	int exponent = bits >> 10 & 0x1f;
	double fraction = bits & 0x3ff;
	double value;

	if (exponent == 0x1f)
		value = fraction != 0 ? (double)NAN : (double)INFINITY;
	else if (exponent == 0)
		value = ldexp(fraction, -24);
	else
		value = ldexp(fraction + 1024, exponent - 25);
	return bits & 0x8000 ? -value : value;
}

static double golden_real(enum tensor_dtype dtype, const unsigned char *from)
{
	uint16_t half;
	uint32_t bits;
	float single;
	double value;

	if (dtype == TENSOR_DTYPE_FP64) {
		memcpy(&value, from, sizeof(value));
		return value;
	}
	if (dtype == TENSOR_DTYPE_FP32) {
		memcpy(&single, from, sizeof(single));
		return (double)single;
	}
	memcpy(&half, from, sizeof(half));
	if (dtype == TENSOR_DTYPE_FP16)
		return golden_half(half);
	bits = (uint32_t)half << 16; /* BF16 */
	memcpy(&single, &bits, sizeof(single));
	return (double)single;
}

static bool golden_reals_alike(double expected, double got,
                               const struct golden_tolerance *tolerance)
{
	if (isnan(expected) || isnan(got))
		return isnan(expected) && isnan(got);
	if (isinf(expected) || isinf(got))
		return expected == got;
	return fabs(got - expected) <= tolerance->abs + tolerance->rel * fabs(expected);
}

static uint64_t golden_bits(const unsigned char *from, size_t element)
{
	uint64_t bits = 0;

	memcpy(&bits, from, element); /* little-endian */
	return bits;
}

static bool golden_is_signed(enum tensor_dtype dtype)
{
	return dtype == TENSOR_DTYPE_INT8 || dtype == TENSOR_DTYPE_INT16 ||
	       dtype == TENSOR_DTYPE_INT32 || dtype == TENSOR_DTYPE_INT64;
}

static const char *golden_number(enum tensor_dtype dtype, const unsigned char *from,
                                 char *text, size_t size)
{
	size_t element = tensor_dtype_bytes(dtype);
	uint64_t bits = golden_is_real(dtype) ? 0 : golden_bits(from, element);
	unsigned int unused = (unsigned int)(64 - 8 * element);

	if (golden_is_real(dtype))
		(void)snprintf(text, size, "%.9g", golden_real(dtype, from));
	else if (dtype == TENSOR_DTYPE_BOOL)
		(void)snprintf(text, size, "%s", bits ? "true" : "false");
	else if (golden_is_signed(dtype)) /* the shift back brings the sign along */
		(void)snprintf(text, size, "%" PRId64,
		               (int64_t)(bits << unused) >> unused);
	else
		(void)snprintf(text, size, "%" PRIu64, bits);
	return text;
}

static bool golden_element_alike(enum tensor_dtype dtype, const unsigned char *expected,
                                 const unsigned char *got,
                                 const struct golden_tolerance *tolerance)
{
	size_t element = tensor_dtype_bytes(dtype);

	if (golden_is_real(dtype))
		return golden_reals_alike(golden_real(dtype, expected),
		                          golden_real(dtype, got), tolerance);
	if (dtype == TENSOR_DTYPE_BOOL)
		return !*expected == !*got;
	return memcmp(expected, got, element) == 0;
}

static bool golden_numbers_alike(const struct engine_tensor *expected,
                                 const struct engine_tensor *got,
                                 const struct golden_tolerance *tolerance,
                                 struct err *err)
{
	enum tensor_dtype dtype = expected->dtype;
	size_t element = tensor_dtype_bytes(dtype);
	size_t count = expected->bytes / element;
	const unsigned char *want = expected->data;
	const unsigned char *have = got->data;
	char place[GOLDEN_SHAPE_TEXT];
	char range[64] = "exactly";
	char texts[2][32];
	size_t n_wrong = 0;
	size_t first = 0;

	for (size_t i = 0; i < count; i++)
		if (!golden_element_alike(dtype, want + i * element, have + i * element,
		                          tolerance) &&
		    n_wrong++ == 0)
			first = i;
	if (n_wrong == 0)
		return true;
	if (golden_is_real(dtype))
		(void)snprintf(range, sizeof(range), "within %g + %g of that",
		               tolerance->abs, tolerance->rel);
	(void)err_set(err, 0,
	              "element %s is %s, expected is %s %s; %zu of %zu elements differ",
	              golden_place(&expected->shape, first, place, sizeof(place)),
	              golden_number(dtype, have + first * element, texts[0],
	                            sizeof(texts[0])),
	              golden_number(dtype, want + first * element, texts[1],
	                            sizeof(texts[1])),
	              range, n_wrong, count);
	return false;
}

/* BYTES */

/* Returns the content of the BYTES element at *@at, and moves *@at on. */
static const unsigned char *golden_next(const unsigned char **at, uint32_t *ret_length)
{
	const unsigned char *content = *at + sizeof(*ret_length);

	memcpy(ret_length, *at, sizeof(*ret_length));
	*at = content + *ret_length;
	return content;
}

static bool golden_texts_alike(const struct engine_tensor *expected,
                               const struct engine_tensor *got, struct err *err)
{
	const unsigned char *want_at = expected->data;
	const unsigned char *have_at = got->data;
	char place[GOLDEN_SHAPE_TEXT];
	size_t count = 0;

	(void)tensor_count(&expected->shape, &count);
	for (size_t i = 0; i < count; i++) {
		uint32_t want_bytes;
		uint32_t have_bytes;
		const unsigned char *want = golden_next(&want_at, &want_bytes);
		const unsigned char *have = golden_next(&have_at, &have_bytes);
		uint32_t same = 0;

		while (same < want_bytes && same < have_bytes && want[same] == have[same])
			same++;
		if (same == want_bytes && same == have_bytes)
			continue;
		(void)err_set(err, 0,
		              "element %s has %" PRIu32 " bytes, expected are %" PRIu32
		              "; they differ from byte %" PRIu32 " on",
		              golden_place(&expected->shape, i, place, sizeof(place)),
		              have_bytes, want_bytes, same);
		return false;
	}
	return true;
}

static bool golden_is_same_shape(const struct tensor_shape *a,
                                 const struct tensor_shape *b)
{
	if (a->rank != b->rank)
		return false;
	for (uint32_t i = 0; i < a->rank; i++)
		if (a->dims[i] != b->dims[i])
			return false;
	return true;
}

bool golden_alike(const struct engine_tensor *expected, const struct engine_tensor *got,
                  const struct golden_tolerance *tolerance, struct err *err)
{
	char want[GOLDEN_SHAPE_TEXT];
	char have[GOLDEN_SHAPE_TEXT];

	assert(expected->dtype == got->dtype);
	if (!golden_is_same_shape(&expected->shape, &got->shape)) {
		(void)err_set(err, 0, "its shape is %s, expected is %s",
		              tensor_shape_print(&got->shape, have, sizeof(have)),
		              tensor_shape_print(&expected->shape, want, sizeof(want)));
		return false;
	}
	if (expected->dtype == TENSOR_DTYPE_BYTES)
		return golden_texts_alike(expected, got, err);
	return golden_numbers_alike(expected, got, tolerance, err);
}
