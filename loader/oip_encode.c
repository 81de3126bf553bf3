/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/oip.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Longest text of one element, with its comma. */
static const size_t oip_element_text[TENSOR_DTYPE_COUNT] = {
	[TENSOR_DTYPE_BOOL] = 6,    [TENSOR_DTYPE_UINT8] = 4,   [TENSOR_DTYPE_UINT16] = 6,
	[TENSOR_DTYPE_UINT32] = 11, [TENSOR_DTYPE_UINT64] = 21, [TENSOR_DTYPE_INT8] = 5,
	[TENSOR_DTYPE_INT16] = 7,   [TENSOR_DTYPE_INT32] = 12,  [TENSOR_DTYPE_INT64] = 21,
	[TENSOR_DTYPE_FP32] = 17,   [TENSOR_DTYPE_FP64] = 26,
};

/* "\u001f": the longest form of one byte in a JSON string. */
#define OIP_ESCAPE_MAX ((size_t)6)
/* Braces, keys and numbers around the variable parts, generously. */
#define OIP_FIXED_TEXT   ((size_t)512)
#define OIP_COMPRESS_MIN ((size_t)16 * 1024)

/* Text goes where it stays. The bound was computed before: the end is only asserted. */
struct oip_writer {
	char *at;
	char *end;
};

static void oip_put(struct oip_writer *writer, const char *text, size_t bytes)
{
	assert((size_t)(writer->end - writer->at) >= bytes);
	memcpy(writer->at, text, bytes);
	writer->at += bytes;
}

static void oip_puts(struct oip_writer *writer, const char *text)
{
	oip_put(writer, text, strlen(text));
}

static void oip_put_unsigned(struct oip_writer *writer, uint64_t value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	oip_put(writer, digits + sizeof(digits) - n, n);
}

static void oip_put_signed(struct oip_writer *writer, int64_t value)
{
	if (value < 0)
		oip_put(writer, "-", 1);
	oip_put_unsigned(writer, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/* Bytes that are no UTF-8 are passed on as they are: the client gets what the model said. */
static void oip_put_string(struct oip_writer *writer, const char *text, size_t bytes)
{
	static const char hex[] = "0123456789abcdef";

	oip_put(writer, "\"", 1);
	for (size_t i = 0; i < bytes; i++) {
		unsigned char c = (unsigned char)text[i];
		char escape[] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

		if (c == '"' || c == '\\') {
			escape[1] = (char)c;
			oip_put(writer, escape, 2);
		} else if (c < 0x20) {
			oip_put(writer, escape, sizeof(escape));
		} else {
			oip_put(writer, text + i, 1);
		}
	}
	oip_put(writer, "\"", 1);
}

/* Elements */

/* The shortest of what reads back as the same number: small integers, which classifiers
 * and masks are full of, without a call to printf. */
static int oip_put_real(struct oip_writer *writer, double value, int digits)
{
	char text[32];
	int n;

	if (!isfinite(value))
		return 400;
	if (fabs(value) < 1e9 && value == (double)(int64_t)value &&
	    (value != 0 || !signbit(value))) {
		oip_put_signed(writer, (int64_t)value);
		oip_put(writer, ".0", 2);
		return 0;
	}
	n = snprintf(text, sizeof(text), "%.*g", digits, value);
	oip_put(writer, text, (size_t)n);
	return 0;
}

static int oip_put_element(struct oip_writer *writer, enum tensor_dtype dtype,
                           const unsigned char *from)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
		uint64_t u64;
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
		oip_puts(writer, value.u8 ? "true" : "false");
		return 0;
	case TENSOR_DTYPE_UINT8:
	case TENSOR_DTYPE_UINT16:
	case TENSOR_DTYPE_UINT32:
	case TENSOR_DTYPE_UINT64:
		oip_put_unsigned(writer, value.u64);
		return 0;
	case TENSOR_DTYPE_INT8:
		oip_put_signed(writer, value.i8);
		return 0;
	case TENSOR_DTYPE_INT16:
		oip_put_signed(writer, value.i16);
		return 0;
	case TENSOR_DTYPE_INT32:
		oip_put_signed(writer, value.i32);
		return 0;
	case TENSOR_DTYPE_INT64:
		oip_put_signed(writer, value.i64);
		return 0;
	case TENSOR_DTYPE_FP32:
		return oip_put_real(writer, (double)value.f32, 9);
	case TENSOR_DTYPE_FP64:
		return oip_put_real(writer, value.f64, 17);
	case TENSOR_DTYPE_FP16:
	case TENSOR_DTYPE_BF16:
	case TENSOR_DTYPE_BYTES:
	case TENSOR_DTYPE_COUNT:
		break;
	}
	return 400;
}

static int oip_put_data(struct oip_writer *writer, const struct engine_tensor *tensor)
{
	const unsigned char *at = tensor->data;
	const unsigned char *end = at + tensor->bytes;
	size_t element = tensor_dtype_bytes(tensor->dtype);
	int r;

	for (bool is_first = true; at < end; is_first = false) {
		uint32_t length;

		if (!is_first)
			oip_put(writer, ",", 1);
		if (element > 0) {
			r = oip_put_element(writer, tensor->dtype, at);
			if (r)
				return r;
			at += element;
			continue;
		}
		/* The caller has checked that the elements are whole. */
		memcpy(&length, at, sizeof(length));
		oip_put_string(writer, (const char *)at + sizeof(length), length);
		at += sizeof(length) + length;
	}
	return 0;
}

/* Answers */

size_t oip_answer_bound(const struct oip_request *request, const struct oip_model *model,
                        const struct engine_tensor *outputs)
{
	size_t bytes = OIP_FIXED_TEXT +
	               OIP_ESCAPE_MAX * (strlen(model->name) + strlen(model->version) +
	                                 strlen(request->id));

	for (size_t i = 0; i < request->n_wanted; i++) {
		const struct oip_wanted *wanted = &request->wanted[i];
		const struct engine_tensor *tensor = &outputs[wanted->output];
		size_t element = tensor_dtype_bytes(tensor->dtype);

		bytes += OIP_FIXED_TEXT + OIP_ESCAPE_MAX * TENSOR_NAME_MAX;
		if (wanted->is_binary || tensor->dtype == TENSOR_DTYPE_FP16 ||
		    tensor->dtype == TENSOR_DTYPE_BF16)
			bytes += tensor->bytes;
		else if (element == 0)
			bytes += OIP_ESCAPE_MAX * tensor->bytes;
		else
			bytes +=
				tensor->bytes / element * oip_element_text[tensor->dtype];
	}
	return bytes;
}

static int oip_put_output(struct oip_writer *writer, const struct tensor_spec *spec,
                          const struct engine_tensor *tensor, bool is_binary,
                          struct err *err)
{
	oip_puts(writer, "{\"name\":");
	oip_put_string(writer, spec->name, strlen(spec->name));
	oip_puts(writer, ",\"datatype\":\"");
	oip_puts(writer, tensor_dtype_name(tensor->dtype));
	oip_puts(writer, "\",\"shape\":[");
	for (uint32_t i = 0; i < tensor->shape.rank; i++) {
		if (i > 0)
			oip_put(writer, ",", 1);
		oip_put_signed(writer, tensor->shape.dims[i]);
	}
	if (is_binary) {
		oip_puts(writer, "],\"parameters\":{\"binary_data_size\":");
		oip_put_unsigned(writer, tensor->bytes);
		oip_puts(writer, "}}");
		return 0;
	}
	if (tensor->dtype == TENSOR_DTYPE_FP16 || tensor->dtype == TENSOR_DTYPE_BF16)
		return err_set(err, 400,
		               "output '%s' is %s, which has no form in JSON: ask for "
		               "binary_data",
		               spec->name, tensor_dtype_name(tensor->dtype));
	oip_puts(writer, "],\"data\":[");
	if (oip_put_data(writer, tensor) != 0)
		return err_set(
			err, 400,
			"output '%s' holds a number that is not finite, which JSON "
			"cannot say: ask for binary_data",
			spec->name);
	oip_puts(writer, "]}");
	return 0;
}

int oip_encode(const struct oip_request *request, const struct oip_model *model,
               uint64_t generation, const struct engine_tensor *outputs,
               unsigned char *memory, struct oip_answer *ret_answer, struct err *err)
{
	struct oip_writer writer = {
		.at = (char *)memory,
		.end = (char *)memory + oip_answer_bound(request, model, outputs),
	};
	size_t json_bytes;
	bool has_binary = false;

	oip_puts(&writer, "{\"model_name\":");
	oip_put_string(&writer, model->name, strlen(model->name));
	oip_puts(&writer, ",\"model_version\":");
	oip_put_string(&writer, model->version, strlen(model->version));
	if (request->id[0]) {
		oip_puts(&writer, ",\"id\":");
		oip_put_string(&writer, request->id, strlen(request->id));
	}
	oip_puts(&writer, ",\"parameters\":{\"generation\":");
	oip_put_unsigned(&writer, generation);
	oip_puts(&writer, "},\"outputs\":[");
	for (size_t i = 0; i < request->n_wanted; i++) {
		const struct oip_wanted *wanted = &request->wanted[i];
		int r;

		if (i > 0)
			oip_put(&writer, ",", 1);
		r = oip_put_output(&writer, &model->outputs[wanted->output],
		                   &outputs[wanted->output], wanted->is_binary, err);
		if (r)
			return r;
		has_binary = has_binary || wanted->is_binary;
	}
	oip_puts(&writer, "]}");
	json_bytes = (size_t)(writer.at - (char *)memory);
	for (size_t i = 0; i < request->n_wanted; i++)
		if (request->wanted[i].is_binary)
			oip_put(&writer, outputs[request->wanted[i].output].data,
			        outputs[request->wanted[i].output].bytes);
	*ret_answer = (struct oip_answer){
		.body_bytes = (size_t)(writer.at - (char *)memory),
		.json_bytes = has_binary ? json_bytes : 0,
	};
	return 0;
}

size_t oip_encode_error(const char *text, unsigned char *memory, size_t size)
{
	struct oip_writer writer = { .at = (char *)memory, .end = (char *)memory + size };
	const size_t around = sizeof("{\"error\":\"\"}");
	size_t bytes = strlen(text);

	assert(size >= around);
	if (bytes > (size - around) / OIP_ESCAPE_MAX)
		bytes = (size - around) / OIP_ESCAPE_MAX;
	oip_puts(&writer, "{\"error\":");
	oip_put_string(&writer, text, bytes);
	oip_puts(&writer, "}");
	return (size_t)(writer.at - (char *)memory);
}

/* Compression */

static size_t oip_deflate(struct oip_buffer *scratch, const unsigned char *body,
                          size_t bytes, int window_bits)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)body };
	size_t done = 0;

	if (scratch->capacity_bytes < bytes) {
		unsigned char *data = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

		if (!data)
			return 0;
		free(scratch->data);
		scratch->data = data;
		scratch->capacity_bytes = (bytes + 63) & ~(size_t)63;
	}
	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, window_bits, 8,
	                 Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	stream.avail_in = (uInt)bytes;
	stream.next_out = scratch->data;
	stream.avail_out = (uInt)bytes; /* larger than the original does not pay */
	if (deflate(&stream, Z_FINISH) == Z_STREAM_END)
		done = (size_t)(stream.next_out - scratch->data);
	(void)deflateEnd(&stream);
	return done;
}

size_t oip_compress(struct oip_request *request, unsigned char *memory, size_t bytes,
                    const char **ret_encoding)
{
	bool is_gzip = request->accepts == OIP_GZIP;
	size_t done;

	*ret_encoding = NULL;
	if (request->accepts == OIP_PLAIN || bytes < OIP_COMPRESS_MIN || bytes > UINT_MAX)
		return bytes;
	done = oip_deflate(&request->scratch, memory, bytes, is_gzip ? 15 + 16 : 15);
	if (done == 0 || done >= bytes)
		return bytes;
	memcpy(memory, request->scratch.data, done);
	*ret_encoding = is_gzip ? "gzip" : "deflate";
	return done;
}
