/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The body of an infer request, and its answer. Four bytes choose the model and the headers; the
 * rest is the body: JSON, and binary data behind a NUL. The harness compresses it, so that an
 * input need not carry a checksum, or leaves it, so that broken streams come, too. An accepted
 * request is written as an answer; the answer is read as a request again and must have the same
 * content.
 */

#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "loader/oip/oip.h"
#include "tests/fuzz/bytes.h"

#define MAX_BODY  ((size_t)64 * 1024)
#define REPEATS   ((size_t)512)
#define BIG_BYTES ((size_t)17 * 1024) /* answers this large are compressed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tensor_spec specs[] = {
	{ .name = "x", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, 2 } } },
	{ .name = "s", .dtype = TENSOR_DTYPE_BYTES, .shape = { 1, { -1 } } },
	{ .name = "b", .dtype = TENSOR_DTYPE_BOOL, .shape = { 1, { -1 } } },
	{ .name = "n", .dtype = TENSOR_DTYPE_INT64, .shape = { 1, { 1 } } },
	{ .name = "d", .dtype = TENSOR_DTYPE_FP64, .shape = { 3, { -1, -1, -1 } } },
	{ .name = "u8", .dtype = TENSOR_DTYPE_UINT8, .shape = { 1, { -1 } } },
	{ .name = "i8", .dtype = TENSOR_DTYPE_INT8, .shape = { 2, { -1, -1 } } },
	{ .name = "h", .dtype = TENSOR_DTYPE_FP16, .shape = { 1, { -1 } } },
	{ .name = "u16", .dtype = TENSOR_DTYPE_UINT16, .shape = { 1, { 2 } } },
	{ .name = "i16", .dtype = TENSOR_DTYPE_INT16, .shape = { 0, { 0 } } },
	{ .name = "g", .dtype = TENSOR_DTYPE_BF16, .shape = { 2, { 2, -1 } } },
	{ .name = "u32", .dtype = TENSOR_DTYPE_UINT32, .shape = { 1, { -1 } } },
	{ .name = "i32", .dtype = TENSOR_DTYPE_INT32, .shape = { 2, { -1, 0 } } },
	{ .name = "u64", .dtype = TENSOR_DTYPE_UINT64, .shape = { 1, { -1 } } },
	{ .name = "t", .dtype = TENSOR_DTYPE_BYTES, .shape = { 2, { -1, 2 } } },
	{ .name = "a", .dtype = TENSOR_DTYPE_FP32, .shape = { 2, { -1, -1 } } },
};

static const char *const accepts[] = {
	"",
	"gzip",
	"deflate",
	"gzip;q=0, deflate",
	"br , GZIP ; q=0.5",
	"gzip;q=0.000,deflate; q=0,identity",
	"*",
	",;,deflate;=,gzip;q",
};

static const char *const encodings[] = { "",   "identity", "gzip",      "deflate",
	                                 "br", "GZip",     "gzip, gzip" };

struct body {
	unsigned char *data; /* of the exact size, so that a read behind it is found */
	size_t bytes;
	char length[32]; /* inference-header-content-length, or "" */
};

static void *new_memory(size_t bytes)
{
	void *memory = malloc(bytes ? bytes : 1);

	assert(memory);
	return memory;
}

/* Compression */

static void deflate_body(struct body *body, bool is_gzip)
{
	z_stream stream = { .next_in = body->data };
	unsigned char *data;
	size_t room;

	assert(deflateInit2(&stream, 1, Z_DEFLATED, is_gzip ? 31 : 15, 1,
	                    Z_DEFAULT_STRATEGY) == Z_OK);
	room = deflateBound(&stream, body->bytes);
	data = new_memory(room);
	stream.avail_in = (uInt)body->bytes;
	stream.next_out = data;
	stream.avail_out = (uInt)room;
	assert(deflate(&stream, Z_FINISH) == Z_STREAM_END);
	free(body->data);
	body->bytes = stream.total_out;
	body->data = new_memory(body->bytes);
	memcpy(body->data, data, body->bytes);
	(void)deflateEnd(&stream);
	free(data);
}

static void check_deflated(const unsigned char *data, size_t bytes,
                           const unsigned char *want, size_t want_bytes)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)data,
		            .avail_in = (uInt)bytes };
	unsigned char *plain = new_memory(want_bytes + 1);

	assert(inflateInit2(&stream, 47) == Z_OK);
	stream.next_out = plain;
	stream.avail_out = (uInt)want_bytes + 1;
	assert(inflate(&stream, Z_FINISH) == Z_STREAM_END);
	assert(stream.total_out == want_bytes && stream.avail_in == 0);
	assert(memcmp(plain, want, want_bytes) == 0);
	(void)inflateEnd(&stream);
	free(plain);
}

/* The decoded request */

static size_t count_of(const struct engine_tensor *tensor)
{
	size_t count;

	assert(tensor_count(&tensor->shape, &count) == 0);
	return count;
}

/* Checks that the BYTES elements are whole, and all there. */
static void check_texts(const struct engine_tensor *tensor)
{
	const unsigned char *data = tensor->data;
	size_t at = 0;

	for (size_t i = 0; i < count_of(tensor); i++) {
		uint32_t length;

		assert(tensor->bytes - at >= sizeof(length));
		memcpy(&length, data + at, sizeof(length));
		at += sizeof(length);
		assert(tensor->bytes - at >= length);
		at += length;
	}
	assert(at == tensor->bytes);
}

static void check_tensor(const struct engine_tensor *tensor,
                         const struct tensor_spec *spec)
{
	size_t element = tensor_dtype_bytes(spec->dtype);
	const unsigned char *data = tensor->data;
	unsigned char sum = 0;
	size_t bytes;

	assert(tensor->dtype == spec->dtype);
	assert(tensor_shape_matches(&spec->shape, &tensor->shape));
	if (spec->dtype == TENSOR_DTYPE_BYTES) {
		check_texts(tensor);
	} else {
		assert(tensor_bytes(spec->dtype, &tensor->shape, &bytes) == 0);
		assert(bytes == tensor->bytes);
		assert(bytes == 0 || (uintptr_t)data % element == 0);
	}
	if (spec->dtype == TENSOR_DTYPE_BOOL)
		for (size_t i = 0; i < tensor->bytes; i++)
			assert(data[i] <= 1);
	/* Reads every byte, for the sanitizers. */
	for (size_t i = 0; i < tensor->bytes; i++)
		sum += data[i];
	(void)*(volatile unsigned char *)&sum;
}

static void check_request(const struct oip_request *request,
                          const struct oip_model *model)
{
	unsigned int seen = 0;

	assert(strlen(request->id) < OIP_ID_MAX);
	assert(request->n_wanted > 0 && request->n_wanted <= model->n_outputs);
	for (size_t i = 0; i < request->n_wanted; i++) {
		assert(request->wanted[i].output < model->n_outputs);
		assert(!(seen & 1u << request->wanted[i].output));
		seen |= 1u << request->wanted[i].output;
	}
	for (size_t i = 0; i < model->n_inputs; i++)
		check_tensor(&request->inputs[i], &model->inputs[i]);
}

static void check_equal(const struct oip_request *a, const struct oip_request *b,
                        const struct oip_model *model)
{
	for (size_t i = 0; i < model->n_inputs; i++) {
		const struct engine_tensor *left = &a->inputs[i];
		const struct engine_tensor *right = &b->inputs[i];

		assert(left->bytes == right->bytes &&
		       left->shape.rank == right->shape.rank);
		for (uint32_t k = 0; k < left->shape.rank; k++)
			assert(left->shape.dims[k] == right->shape.dims[k]);
		assert(left->bytes == 0 ||
		       memcmp(left->data, right->data, left->bytes) == 0);
	}
}

/* Decoding */

static int decode(struct oip_request *request, const struct oip_model *model,
                  const struct body *body, const char *encoding, const char *accept)
{
	struct proto_field fields[3];
	const struct proto_text none = { "", 0 };
	unsigned char memory[512];
	struct proto_head head;
	struct err err = ERR_NULL;
	size_t n = 0;
	int r;

	if (body->length[0])
		fields[n++] = (struct proto_field){
			proto_text_of("inference-header-content-length"),
			proto_text_of(body->length),
		};
	if (encoding[0])
		fields[n++] = (struct proto_field){ proto_text_of("content-encoding"),
			                            proto_text_of(encoding) };
	if (accept[0])
		fields[n++] = (struct proto_field){ proto_text_of("accept-encoding"),
			                            proto_text_of(accept) };
	proto_head_write(memory, none, none, fields, n);
	assert(proto_head_read(&head, memory, proto_head_bytes(none, none, fields, n)) ==
	       0);
	r = oip_decode(request, model, &head, body->data, body->bytes, &err);
	if (r == 0) {
		check_request(request, model);
	} else {
		json_t *text = json_string(err.text); /* NULL: not UTF-8 */

		assert(r == 400 || r == 413 || r == 415 || r == 501);
		assert(err.text[0] != '\0' && text);
		json_decref(text);
	}
	return r;
}

/* Answers */

/* False for answers that the JSON library cannot read: integers beyond int64, NaN. */
static bool is_readable(const struct oip_request *request, const struct oip_model *model)
{
	for (size_t i = 0; i < model->n_inputs; i++) {
		const struct engine_tensor *tensor = &request->inputs[i];
		const unsigned char *data = tensor->data;
		const size_t bytes = tensor_dtype_bytes(tensor->dtype);

		for (size_t k = 0; k < tensor->bytes; k += bytes) {
			double real = 0;
			float single = 0;

			if (tensor->dtype == TENSOR_DTYPE_FP32)
				memcpy(&single, data + k, sizeof(single));
			else if (tensor->dtype == TENSOR_DTYPE_FP64)
				memcpy(&real, data + k, sizeof(real));
			else if (tensor->dtype != TENSOR_DTYPE_UINT64)
				break;
			if (!isfinite(single) || !isfinite(real) ||
			    (tensor->dtype == TENSOR_DTYPE_UINT64 &&
			     data[k + bytes - 1] & 0x80))
				return false;
		}
	}
	return true;
}

/* Reads the answer as a request: its outputs are the inputs. */
static void read_again(const struct oip_request *request, const struct oip_model *model,
                       json_t *json, const unsigned char *binary, size_t binary_bytes)
{
	char *text;
	struct oip_request second;
	struct body body;
	size_t json_bytes;

	if (request->n_wanted != model->n_inputs || !is_readable(request, model))
		return;
	assert(json_object_set(json, "inputs", json_object_get(json, "outputs")) == 0);
	assert(json_object_del(json, "outputs") == 0);
	assert(json_object_set_new(json, "parameters",
	                           json_pack("{s:b}", "binary_data_output", 1)) == 0);
	text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17));
	assert(text);
	json_bytes = strlen(text);
	body.bytes = json_bytes + binary_bytes;
	body.data = new_memory(body.bytes);
	memcpy(body.data, text, json_bytes);
	if (binary_bytes > 0)
		memcpy(body.data + json_bytes, binary, binary_bytes);
	(void)snprintf(body.length, sizeof(body.length), "%zu", json_bytes);
	oip_request_init(&second);
	if (body.bytes <= MAX_BODY) {
		int r = decode(&second, model, &body, "", "");

		if (r == 0)
			check_equal(request, &second, model);
		else
			assert(r == 413);
	}
	oip_request_fini(&second);
	free(body.data);
	free(text);
}

static void check_answer(const struct oip_request *request, const struct oip_model *model,
                         const unsigned char *memory, const struct oip_answer *answer)
{
	size_t json_bytes = answer->json_bytes ? answer->json_bytes : answer->body_bytes;
	json_t *json;

	assert(json_bytes <= answer->body_bytes);
	json = json_loadb((const char *)memory, json_bytes,
	                  JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (!json && !is_readable(request, model))
		return;
	assert(json);
	assert(json_array_size(json_object_get(json, "outputs")) == request->n_wanted);
	read_again(request, model, json, memory + json_bytes,
	           answer->body_bytes - json_bytes);
	json_decref(json);
}

static void compress_answer(struct oip_request *request, const unsigned char *data,
                            size_t size)
{
	unsigned char *memory = new_memory(size);
	const char *encoding;
	size_t bytes;

	memcpy(memory, data, size);
	bytes = oip_compress(request, memory, size, &encoding);
	assert(encoding ? bytes < size : bytes == size);
	if (encoding)
		check_deflated(memory, bytes, data, size);
	free(memory);
}

static void answer(struct oip_request *request, const struct oip_model *model)
{
	size_t bound = oip_answer_bound(request, model, request->inputs);
	unsigned char *memory = new_memory(bound);
	struct oip_answer encoded = { 0 };
	struct err err = ERR_NULL;
	int r = oip_encode(request, model, &(struct oip_origin){ 7, 0 }, request->inputs,
	                   memory, &encoded, &err);

	assert(r == 0 || (r == 500 && err.text[0] != '\0'));
	if (r == 0) {
		assert(encoded.body_bytes <= bound);
		check_answer(request, model, memory, &encoded);
		compress_answer(request, memory, encoded.body_bytes);
	}
	free(memory);
}

/* Compresses a large answer; its content is the input, many times. */
static void answer_big(struct oip_request *request, const struct fuzz_bytes *bytes)
{
	unsigned char *memory = new_memory(BIG_BYTES);

	for (size_t i = 0; i < BIG_BYTES; i++)
		memory[i] = bytes->left > 0 ? bytes->at[i % bytes->left] : 0;
	compress_answer(request, memory, BIG_BYTES);
	free(memory);
}

/* Repeats the body, which stays small when compressed, and within the bound for bodies. */
static void repeat_body(struct body *body)
{
	unsigned char *data = new_memory(body->bytes * REPEATS);

	for (size_t i = 0; i < REPEATS; i++)
		memcpy(data + i * body->bytes, body->data, body->bytes);
	free(body->data);
	body->data = data;
	body->bytes *= REPEATS;
}

/* Makes the body: JSON up to the first NUL and binary data behind it; or the bytes as they
 * are. */
static void make_body(struct body *body, uint8_t how, struct fuzz_bytes *bytes)
{
	const uint8_t *nul = bytes->left > 0 ? memchr(bytes->at, 0, bytes->left) : NULL;
	size_t json_bytes = bytes->left;

	*body = (struct body){ .bytes = bytes->left };
	body->data = new_memory(bytes->left);
	if (bytes->left > 0)
		memcpy(body->data, bytes->at, bytes->left);
	switch (how & 3) {
	case 0:
		return;
	case 1:
		if (!nul)
			return;
		json_bytes = (size_t)(nul - bytes->at);
		body->bytes--;
		free(body->data);
		body->data = new_memory(body->bytes);
		memcpy(body->data, bytes->at, json_bytes);
		memcpy(body->data + json_bytes, nul + 1, body->bytes - json_bytes);
		break;
	case 2:
		json_bytes = 0;
		break;
	default:
		if (how & 4) {
			(void)snprintf(body->length, sizeof(body->length), "%.*s",
			               (int)(bytes->left < 24 ? bytes->left : 24),
			               (const char *)body->data);
			return;
		}
		json_bytes = how;
		break;
	}
	(void)snprintf(body->length, sizeof(body->length), "%zu", json_bytes);
}

/* Decodes the same bytes with the last byte of the JSON taken for binary data: used memory
 * must give the same as new memory. */
static void decode_shorter(struct oip_request *used, const struct oip_model *model,
                           const struct body *body, const char *encoding)
{
	unsigned long json_bytes = strtoul(body->length, NULL, 10);
	struct body shorter = *body;
	struct oip_request fresh;
	int r;

	if (json_bytes < 2)
		return;
	(void)snprintf(shorter.length, sizeof(shorter.length), "%lu", json_bytes - 1);
	oip_request_init(&fresh);
	r = decode(&fresh, model, &shorter, encoding, "");
	assert(decode(used, model, &shorter, encoding, "") == r);
	if (r == 0)
		check_equal(&fresh, used, model);
	oip_request_fini(&fresh);
}

/* Rewrites every "data" so that no list is cut out of the text. */
static void write_for_tree(struct body *ret_tree, const struct body *body)
{
	static const char key[] = "\"data\"";
	static const char same[] = "\"d\\u0061ta\"";
	const size_t key_bytes = sizeof(key) - 1;
	size_t from = 0;

	*ret_tree = (struct body){ .data = new_memory(body->bytes * 2) };
	while (from < body->bytes) {
		const bool is_key = body->bytes - from >= key_bytes &&
		                    memcmp(body->data + from, key, key_bytes) == 0;
		const size_t bytes = is_key ? sizeof(same) - 1 : 1;

		memcpy(ret_tree->data + ret_tree->bytes,
		       is_key ? (const void *)same : body->data + from, bytes);
		ret_tree->bytes += bytes;
		from += is_key ? key_bytes : 1;
	}
}

/* Compares up to rounding: the tree's numbers are doubles that become floats, and its -0 is an
 * integer. */
static void check_close(const struct engine_tensor *cut, const struct engine_tensor *tree)
{
	const unsigned char *left = cut->data;
	const unsigned char *right = tree->data;

	assert(cut->bytes == tree->bytes);
	if (cut->dtype != TENSOR_DTYPE_FP32 && cut->dtype != TENSOR_DTYPE_FP64) {
		assert(cut->bytes == 0 || memcmp(left, right, cut->bytes) == 0);
		return;
	}
	for (size_t i = 0; i < cut->bytes; i += tensor_dtype_bytes(cut->dtype)) {
		int64_t values[2] = { 0, 0 };

		memcpy(&values[0], left + i, tensor_dtype_bytes(cut->dtype));
		memcpy(&values[1], right + i, tensor_dtype_bytes(cut->dtype));
		if (values[1] == 0)
			assert((uint64_t)values[0] << 1 == 0 || values[0] == INT32_MIN);
		else if (cut->dtype == TENSOR_DTYPE_FP64)
			assert(values[0] == values[1]);
		else
			assert(llabs(values[0] - values[1]) <= 1);
	}
}

/* Checks that a list read from its text gives the same as the JSON library's tree. */
static void decode_by_tree(const struct oip_request *request, int outcome,
                           const struct oip_model *model, const struct body *body)
{
	struct oip_request second;
	struct body tree;
	int r;

	write_for_tree(&tree, body);
	oip_request_init(&second);
	r = decode(&second, model, &tree, "", "");
	/* Only the text can have integers of any length. */
	assert(outcome == 0 ? r == 0 || r == 400 || r == 413 : r != 0);
	for (size_t i = 0; outcome == 0 && r == 0 && i < model->n_inputs; i++)
		check_close(&request->inputs[i], &second.inputs[i]);
	oip_request_fini(&second);
	free(tree.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	uint8_t which = fuzz_u8(&bytes);
	uint8_t framing = fuzz_u8(&bytes);
	uint8_t compression = fuzz_u8(&bytes);
	uint8_t answering = fuzz_u8(&bytes);
	const char *encoding = encodings[(compression & 7) % FUZZ_COUNT(encodings)];
	const char *accept = accepts[answering & 7];
	struct oip_model model = {
		.name = "fuzz",
		.version = "1",
		.inputs = &specs[which & 15],
		.outputs = &specs[which & 15],
		.n_inputs = 1 + (which >> 4 & 3),
		.max_body_bytes = MAX_BODY,
	};
	struct oip_request request;
	struct oip_request again;
	struct body body;
	bool is_bomb;
	int r;

	if (model.n_inputs > FUZZ_COUNT(specs) - (which & 15))
		model.n_inputs = FUZZ_COUNT(specs) - (which & 15);
	model.n_outputs = model.n_inputs;
	make_body(&body, framing, &bytes);
	if ((compression & 0x68) == 0x68)
		repeat_body(&body);
	is_bomb = body.bytes > MAX_BODY && (framing & 3) != 3 &&
	          (strcmp(encoding, "gzip") == 0 || strcmp(encoding, "deflate") == 0);
	if (compression & 8)
		deflate_body(&body, compression & 16);
	oip_request_init(&request);
	oip_request_init(&again);
	r = decode(&request, &model, &body, encoding, accept);
	assert(!is_bomb || r == 413);
	if (encoding[0] == '\0' && body.length[0] == '\0')
		decode_by_tree(&request, r, &model, &body);
	/* A header that was seen before takes another way, and memory may have been used
	 * before: the outcome must be the same. */
	assert(decode(&again, &model, &body, encoding, accept) == r);
	if (r == 0) {
		assert(decode(&again, &model, &body, encoding, accept) == 0);
		check_equal(&request, &again, &model);
		answer(&request, &model);
		if ((answering & 0x38) == 0x38)
			answer_big(&again, &bytes);
		decode_shorter(&again, &model, &body, encoding);
	}
	oip_request_fini(&request);
	oip_request_fini(&again);
	free(body.data);
	return 0;
}
