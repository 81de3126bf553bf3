/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tensors into an answer, written once and in its place: oip_answer_bound() computes the most
 * bytes that the answer can take, the caller reserves them in the response arena, and
 * oip_encode() writes there. Both go over the same parts in the same order: whoever changes
 * the text has to change the bound.
 */
#include "loader/oip/oip.h"

#include <assert.h>
#include <string.h>

#include "loader/oip/compress.h"
#include "loader/oip/print.h"
#include "shared/utf8.h"

/* "\u001f": the longest form of one byte in a JSON string. */
#define OIP_ESCAPE_MAX ((size_t)6)
/* Braces, keys and numbers around the variable parts, generously. */
#define OIP_FIXED_TEXT   ((size_t)512)
#define OIP_COMPRESS_MIN ((size_t)16 * 1024)

/* Writes text to its final place. oip_answer_bound() has made room: the end is only asserted. */
struct oip_writer {
	char *at;
	char *end;
};

static void oip_put(struct oip_writer *writer, const void *text, size_t bytes)
{
	assert((size_t)(writer->end - writer->at) >= bytes);
	if (bytes > 0)
		memcpy(writer->at, text, bytes);
	writer->at += bytes;
}

static void oip_put_unsigned(struct oip_writer *writer, uint64_t value)
{
	char text[OIP_PRINT_INTEGER_MAX];

	oip_put(writer, text, oip_print_unsigned(value, text));
}

static void oip_puts(struct oip_writer *writer, const char *text)
{
	oip_put(writer, text, strlen(text));
}

/* Bytes of @c in a JSON string. */
static size_t oip_escaped_bytes(unsigned char c)
{
	if (c < 0x20)
		return OIP_ESCAPE_MAX;
	return c == '"' || c == '\\' ? 2 : 1;
}

/* The most bytes of BYTES elements as JSON strings. An element's length of 4 bytes is counted,
 * too, which makes room for the quotes and the comma. */
static size_t oip_texts_max(const unsigned char *data, size_t bytes)
{
	size_t sum = 0;

	_Static_assert(sizeof(uint32_t) > sizeof("\"\",") - 1, "takes the place of");
	for (size_t i = 0; i < bytes; i++)
		sum += oip_escaped_bytes(data[i]);
	return sum;
}

/* Writes a JSON string. Bytes that are not UTF-8 become question marks; false when there were
 * any. */
static bool oip_put_string(struct oip_writer *writer, const void *text, size_t bytes)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *at = text;
	const unsigned char *end = at + bytes;
	bool is_utf8 = true;

	oip_put(writer, "\"", 1);
	while (at < end) {
		const unsigned char *start = at;
		size_t n = 1;

		while (at < end && *at >= 0x20 && *at != '"' && *at != '\\' &&
		       (n = utf8_bytes(at, end)) > 0)
			at += n;
		oip_put(writer, start, (size_t)(at - start));
		if (at == end)
			break;
		if (n == 0) {
			is_utf8 = false;
			oip_put(writer, "?", 1);
		} else if (*at < 0x20) {
			char escape[] = { '\\', 'u',           '0',
				          '0',  hex[*at >> 4], hex[*at & 15] };

			oip_put(writer, escape, sizeof(escape));
		} else {
			char escape[] = { '\\', (char)*at };

			oip_put(writer, escape, sizeof(escape));
		}
		at++;
	}
	oip_put(writer, "\"", 1);
	return is_utf8;
}

/* Data */

static int oip_put_texts(struct oip_writer *writer, const struct tensor_spec *spec,
                         const struct engine_tensor *tensor, struct err *err)
{
	const unsigned char *at = tensor->data;
	const unsigned char *end = at + tensor->bytes;

	for (size_t i = 0; at < end; i++) {
		uint32_t length;

		if (i > 0)
			oip_put(writer, ",", 1);
		/* The caller has checked that the elements are whole. */
		memcpy(&length, at, sizeof(length));
		if (!oip_put_string(writer, at + sizeof(length), length))
			return err_set(
				err, 500,
				"output '%s' is no UTF-8 at element %zu, which JSON "
				"cannot hold: ask for binary_data",
				spec->name, i);
		at += sizeof(length) + length;
	}
	return 0;
}

static int oip_put_data(struct oip_writer *writer, const struct tensor_spec *spec,
                        const struct engine_tensor *tensor, struct err *err)
{
	const unsigned char *data = tensor->data;
	const size_t element = tensor_dtype_bytes(tensor->dtype);
	const size_t count = element > 0 ? tensor->bytes / element : 0;
	const size_t text_max = oip_print_max(tensor->dtype) + 1;

	if (tensor->dtype == TENSOR_DTYPE_BYTES)
		return oip_put_texts(writer, spec, tensor, err);
	assert((size_t)(writer->end - writer->at - OIP_PRINT_SLACK) / text_max >= count);
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			*writer->at++ = ',';
		writer->at +=
			oip_print_element(tensor->dtype, data + i * element, writer->at);
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

		bytes += OIP_FIXED_TEXT + OIP_ESCAPE_MAX * TENSOR_NAME_MAX;
		if (wanted->is_binary)
			bytes += tensor->bytes;
		else if (tensor->dtype == TENSOR_DTYPE_BYTES)
			bytes += oip_texts_max(tensor->data, tensor->bytes);
		else
			bytes += tensor->bytes / tensor_dtype_bytes(tensor->dtype) *
			                 (oip_print_max(tensor->dtype) + 1) +
			         OIP_PRINT_SLACK;
	}
	return bytes;
}

static int oip_put_output(struct oip_writer *writer, const struct tensor_spec *spec,
                          const struct engine_tensor *tensor, bool is_binary,
                          struct err *err)
{
	int r;

	oip_puts(writer, "{\"name\":");
	(void)oip_put_string(writer, spec->name, strlen(spec->name));
	oip_puts(writer, ",\"datatype\":\"");
	oip_puts(writer, tensor_dtype_name(tensor->dtype));
	oip_puts(writer, "\",\"shape\":[");
	for (uint32_t i = 0; i < tensor->shape.rank; i++) {
		if (i > 0)
			oip_put(writer, ",", 1);
		oip_put_unsigned(writer, (uint64_t)tensor->shape.dims[i]);
	}
	if (is_binary) {
		oip_puts(writer, "],\"parameters\":{\"binary_data_size\":");
		oip_put_unsigned(writer, tensor->bytes);
		oip_puts(writer, "}}");
		return 0;
	}
	oip_puts(writer, "],\"data\":[");
	r = oip_put_data(writer, spec, tensor, err);
	if (r)
		return r;
	oip_puts(writer, "]}");
	return 0;
}

int oip_encode(const struct oip_request *request, const struct oip_model *model,
               const struct oip_origin *origin, const struct engine_tensor *outputs,
               unsigned char *memory, struct oip_answer *ret_answer, struct err *err)
{
	struct oip_writer writer = {
		.at = (char *)memory,
		.end = (char *)memory + oip_answer_bound(request, model, outputs),
	};
	size_t json_bytes;
	bool has_binary = false;

	oip_puts(&writer, "{\"model_name\":");
	(void)oip_put_string(&writer, model->name, strlen(model->name));
	oip_puts(&writer, ",\"model_version\":");
	(void)oip_put_string(&writer, model->version, strlen(model->version));
	if (request->id[0]) {
		oip_puts(&writer, ",\"id\":");
		(void)oip_put_string(&writer, request->id, strlen(request->id));
	}
	oip_puts(&writer, ",\"parameters\":{\"generation\":");
	oip_put_unsigned(&writer, origin->generation);
	if (origin->memory_peak_bytes > 0) {
		oip_puts(&writer, ",\"memory_peak_bytes\":");
		oip_put_unsigned(&writer, origin->memory_peak_bytes);
	}
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
	size_t used = sizeof("{\"error\":\"\"}");
	size_t bytes;

	assert(size >= used);
	for (bytes = 0; text[bytes] != '\0' && used + OIP_ESCAPE_MAX <= size; bytes++)
		used += oip_escaped_bytes((unsigned char)text[bytes]);
	oip_puts(&writer, "{\"error\":");
	(void)oip_put_string(&writer, text, bytes);
	oip_puts(&writer, "}");
	return (size_t)(writer.at - (char *)memory);
}

size_t oip_compress(struct oip_request *request, unsigned char *memory, size_t bytes,
                    const char **ret_encoding)
{
	size_t done;

	*ret_encoding = NULL;
	if (request->accepts == OIP_PLAIN || bytes < OIP_COMPRESS_MIN)
		return bytes;
	done = compress_deflate(&request->scratch, memory, bytes, request->accepts);
	if (done == 0)
		return bytes;
	memcpy(memory, request->scratch.data, done);
	*ret_encoding = request->accepts == OIP_GZIP ? "gzip" : "deflate";
	return done;
}
