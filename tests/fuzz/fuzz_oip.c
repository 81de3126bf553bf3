/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The body of an infer request, and what is answered to it. Two bytes in front of the input
 * choose the header length and the compression; the rest is the body.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader/oip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tensor_spec fuzz_specs[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	{ .name = "s", .dtype = TENSOR_DTYPE_BYTES, .shape = { 1, { -1 } } },
	{ .name = "b", .dtype = TENSOR_DTYPE_BOOL, .shape = { 1, { -1 } } },
	{ .name = "n", .dtype = TENSOR_DTYPE_INT64, .shape = { 1, { 1 } } },
};

static const char *const fuzz_encodings[] = { "identity", "gzip", "deflate", "br" };

static void fuzz_answer(struct oip_request *request, const struct oip_model *model)
{
	struct oip_answer answer;
	struct err err = ERR_NULL;
	unsigned char *memory = malloc(oip_answer_bound(request, model, request->inputs));
	const char *encoding;

	if (memory &&
	    oip_encode(request, model, 7, request->inputs, memory, &answer, &err) == 0)
		(void)oip_compress(request, memory, answer.body_bytes, &encoding);
	free(memory);
}

static void fuzz_body(const struct oip_model *model, const char *length,
                      const char *encoding, const uint8_t *data, size_t size)
{
	const struct proto_field fields[] = {
		{ proto_text_of("inference-header-content-length"),
		  proto_text_of(length) },
		{ proto_text_of("content-encoding"), proto_text_of(encoding) },
		{ proto_text_of("accept-encoding"), proto_text_of("gzip;q=0, deflate") },
	};
	const struct proto_text none = { "", 0 };
	size_t skip = *length ? 0 : 1;
	unsigned char head_memory[512];
	struct oip_request request;
	struct proto_head head;
	struct err err = ERR_NULL;
	unsigned char *body;

	proto_head_write(head_memory, none, none, fields + skip, 3 - skip);
	if (proto_head_read(&head, head_memory,
	                    proto_head_bytes(none, none, fields + skip, 3 - skip)) != 0)
		abort();
	/* A block of its own size: reading past the end is found. */
	body = malloc(size ? size : 1);
	if (!body)
		return;
	memcpy(body, data, size);
	oip_request_init(&request);
	/* Twice, because a header that was seen before takes another way. */
	for (int i = 0; i < 2; i++) {
		if (oip_decode(&request, model, &head, body, size, &err) == 0)
			fuzz_answer(&request, model);
		else if (err.text[0] == '\0')
			abort(); /* every refusal has a sentence */
	}
	oip_request_fini(&request);
	free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oip_model model = {
		.name = "fuzz",
		.version = "1",
		.inputs = fuzz_specs,
		.outputs = fuzz_specs,
		.max_body_bytes = 1 << 20,
	};
	char length[16] = "";

	if (size < 2)
		return 0;
	model.n_inputs = model.n_outputs = 1 + data[0] % 4;
	if (data[0] & 0x80)
		(void)snprintf(length, sizeof(length), "%u",
		               data[1] * (data[0] & 0x40 ? 4u : 1u));
	fuzz_body(&model, length, fuzz_encodings[data[0] >> 4 & 3], data + 2, size - 2);
	return 0;
}
