/* SPDX-License-Identifier: Apache-2.0 */

/* Compressed requests, hostile ones among them, and compressed answers. */

#include <zlib.h>

#include "tests/unit/oip_call.h"

static size_t pack(const void *data, size_t bytes, int window_bits, unsigned char *to,
                   size_t size)
{
	z_stream stream = { 0 };

	assert_int_equal(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED,
	                              window_bits, 8, Z_DEFAULT_STRATEGY),
	                 Z_OK);
	stream.next_in = (z_const Bytef *)(uintptr_t)data;
	stream.avail_in = (uInt)bytes;
	stream.next_out = to;
	stream.avail_out = (uInt)size;
	assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
	(void)deflateEnd(&stream);
	return (size_t)(stream.next_out - to);
}

enum { ZLIB = 15, GZIP = 15 + 16, RAW = -15 };

/* A small body that becomes large is stopped at the bound. */
static void test_inflate_bound(void **state)
{
	/* The largest body that is allowed, and one byte more. */
	static const struct {
		size_t bytes;
		int status;
		const char *says;
	} rows[] = {
		{ MAX_BODY, 400, "no JSON" },
		{ MAX_BODY + 1, 413, "larger than max_body, 1048576 bytes" },
		{ 16 * MAX_BODY, 413, "larger than max_body" },
	};
	unsigned char packed[32768];
	char *blanks = malloc(16 * MAX_BODY);
	struct call call;

	(void)state;
	assert_non_null(blanks);
	memset(blanks, ' ', 16 * MAX_BODY);
	call_init(&call);
	for (size_t i = 0; i < 2 * COUNT(rows); i++) {
		size_t row = i / 2;
		struct message message = { .lines = i % 2 ? "content-encoding: gzip\n"
			                                  : "content-encoding: deflate\n",
			                   .json = (const char *)packed };

		message.json_bytes = pack(blanks, rows[row].bytes, i % 2 ? GZIP : ZLIB,
		                          packed, sizeof(packed));
		assert_int_equal(call_decode(&call, &image, &message), rows[row].status);
		assert_non_null(strstr(call.err.text, rows[row].says));
		assert_true(call.request.inflated.capacity_bytes <= MAX_BODY + 1);
	}
	free(blanks);
	call_fini(&call);
}

/* A body that costs its sender little may not cost the model much. */
static void test_inflate_ratio(void **state)
{
	static const struct {
		size_t bytes;
		const char *says;
	} rows[] = {
		{ 8 * MAX_BODY, "no JSON" },
		{ 8 * MAX_BODY + 1, "is more than 8388608 bytes" },
		{ 32 * MAX_BODY, "is more than 8388608 bytes" },
	};
	struct oip_model model = image;
	unsigned char packed[65536];
	char *blanks = malloc(32 * MAX_BODY);
	struct call call;

	(void)state;
	assert_non_null(blanks);
	memset(blanks, ' ', 32 * MAX_BODY);
	model.max_body_bytes = 64 * MAX_BODY;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message = { .lines = "content-encoding: gzip\n",
			                   .json = (const char *)packed };

		message.json_bytes =
			pack(blanks, rows[i].bytes, GZIP, packed, sizeof(packed));
		assert_int_not_equal(call_decode(&call, &model, &message), 0);
		if (!strstr(call.err.text, rows[i].says))
			fail_msg("%zu: '%s'", rows[i].bytes, call.err.text);
		assert_true(call.request.inflated.capacity_bytes <= 8 * MAX_BODY + 1);
	}
	free(blanks);
	call_fini(&call);
}

static void test_inflate(void **state)
{
	static const char json[] = "{\"inputs\":[" GOOD_INPUT "]}";
	static const struct {
		const char *name;
		const char *lines;
		int window_bits;
		size_t cut;
		size_t tail;
		int status;
	} rows[] = {
		{ "gzip", "content-encoding: gzip\n", GZIP, 0, 0, 0 },
		{ "deflate", "content-encoding: Deflate\n", ZLIB, 0, 0, 0 },
		{ "x-gzip", "content-encoding: X-Gzip\n", GZIP, 0, 0, 0 },
		{ "identity and gzip", "content-encoding: identity, ,gzip,\n", GZIP, 0, 0,
		  0 },
		{ "in two headers",
		  "content-encoding: identity\ncontent-encoding: gzip\n", GZIP, 0, 0, 0 },
		{ "gzip twice", "content-encoding: gzip, x-gzip\n", GZIP, 0, 0, 415 },
		{ "gzip in two headers",
		  "content-encoding: gzip\ncontent-encoding: gzip\n", GZIP, 0, 0, 415 },
		{ "gzip, then br", "content-encoding: gzip, br\n", GZIP, 0, 0, 415 },
		{ "raw deflate", "content-encoding: deflate\n", RAW, 0, 0, 400 },
		{ "gzip without its sum", "content-encoding: gzip\n", GZIP, 8, 0, 400 },
		{ "gzip but for a byte", "content-encoding: gzip\n", GZIP, 1, 0, 400 },
		{ "zlib half", "content-encoding: deflate\n", ZLIB, 40, 0, 400 },
		{ "gzip and more", "content-encoding: gzip\n", GZIP, 0, 1, 400 },
	};
	static const float want[] = { 1, 2, 3, 4 };
	unsigned char packed[512] = { 0 };
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message = { .lines = rows[i].lines,
			                   .json = (const char *)packed };

		message.json_bytes = pack(json, sizeof(json) - 1, rows[i].window_bits,
		                          packed, sizeof(packed));
		message.json_bytes += rows[i].tail;
		message.json_bytes -= rows[i].cut;
		if (call_decode(&call, &image, &message) != rows[i].status)
			fail_msg("%s: '%s'", rows[i].name, call.err.text);
		if (rows[i].status == 0)
			assert_memory_equal(call.request.inputs[0].data, want,
			                    sizeof(want));
	}
	call_fini(&call);
}

/* RFC 1952: members of one gzip, as bgzip and writers that append make them. */
static void test_inflate_members(void **state)
{
	static const char json[] = "{\"inputs\":[" GOOD_INPUT "]}";
	static const struct {
		const char *name;
		int window_bits[3];
		size_t cut;
		const char *tail;
		int status;
	} rows[] = {
		{ "three", { GZIP, GZIP, GZIP }, 0, "", 0 },
		{ "the last without its sum", { GZIP, GZIP, GZIP }, 4, "", 400 },
		{ "the last one cut", { GZIP, GZIP, GZIP }, 12, "", 400 },
		{ "and more", { GZIP, GZIP, GZIP }, 0, "x", 400 },
		{ "and the beginning of one", { GZIP, GZIP, GZIP }, 0, "\x1f", 400 },
		{ "zlib behind gzip", { GZIP, ZLIB, GZIP }, 0, "", 400 },
		{ "gzip behind zlib", { ZLIB, GZIP, GZIP }, 0, "", 400 },
		{ "zlib knows no members", { ZLIB, ZLIB, ZLIB }, 0, "", 400 },
	};
	/* The second member is empty. */
	const size_t ends[] = { 20, 20, sizeof(json) - 1 };
	static const float want[] = { 1, 2, 3, 4 };
	unsigned char packed[1024];
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message = { .lines = "content-encoding: gzip\n",
			                   .json = (const char *)packed };
		size_t from = 0;

		for (size_t j = 0; j < COUNT(ends); from = ends[j++])
			message.json_bytes +=
				pack(json + from, ends[j] - from, rows[i].window_bits[j],
			             packed + message.json_bytes,
			             sizeof(packed) - message.json_bytes);
		message.json_bytes -= rows[i].cut;
		memcpy(packed + message.json_bytes, rows[i].tail, strlen(rows[i].tail));
		message.json_bytes += strlen(rows[i].tail);
		if (call_decode(&call, &image, &message) != rows[i].status)
			fail_msg("%s: '%s'", rows[i].name, call.err.text);
		if (rows[i].status == 0)
			assert_memory_equal(call.request.inputs[0].data, want,
			                    sizeof(want));
	}
	call_fini(&call);
}

/* The header's length counts bytes before compression. */
static void test_inflate_binary(void **state)
{
	static const char json[] =
		IMAGE("\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}");
	const size_t json_bytes = sizeof(json) - 1;
	unsigned char packed[512];
	char body[256];
	char lines[128];
	struct message message = { .lines = lines, .json = (const char *)packed };
	struct call call;

	(void)state;
	call_init(&call);
	memcpy(body, json, json_bytes);
	memcpy(body + json_bytes, "abcdefghijklmnop", 16);
	message.json_bytes = pack(body, json_bytes + 16, GZIP, packed, sizeof(packed));
	for (int more = -1; more <= 17; more++) {
		(void)snprintf(lines, sizeof(lines),
		               "content-encoding: gzip\n"
		               "inference-header-content-length: %d\n",
		               (int)json_bytes + more);
		/* Only the right length is taken: with less the JSON is cut, with more it has
		 * a tail, and with still more the body is too short. */
		assert_int_equal(call_decode(&call, &image, &message), more ? 400 : 0);
		if (more == 0)
			assert_memory_equal(call.request.inputs[0].data,
			                    "abcdefghijklmnop", 16);
	}
	assert_non_null(strstr(call.err.text, "the body has only"));
	call_fini(&call);
}

/* A body with a spoiled byte is refused, or decodes as before. */
static void test_inflate_spoiled(void **state)
{
	static const char json[] = "{\"inputs\":[" GOOD_INPUT "]}";
	unsigned char packed[512];
	struct message message = { .lines = "content-encoding: gzip\n",
		                   .json = (const char *)packed };
	struct call call;

	(void)state;
	call_init(&call);
	message.json_bytes = pack(json, sizeof(json) - 1, GZIP, packed, sizeof(packed));
	for (size_t i = 0; i < message.json_bytes; i++) {
		int status;

		packed[i] ^= 0x5a;
		status = call_decode(&call, &image, &message);
		assert_true(status == 0 || status == 400);
		packed[i] ^= 0x5a;
	}
	call_fini(&call);
}

static void test_accepts(void **state)
{
	static const struct {
		const char *lines;
		unsigned int accepts;
	} rows[] = {
		{ NULL, OIP_PLAIN },
		{ "accept-encoding: \n", OIP_PLAIN },
		{ "accept-encoding: gzip\n", OIP_GZIP },
		{ "accept-encoding: GZip\n", OIP_GZIP },
		{ "accept-encoding: x-gzip\n", OIP_GZIP },
		{ "accept-encoding: gzip, deflate\n", OIP_GZIP },
		{ "accept-encoding: deflate, gzip\n", OIP_DEFLATE },
		{ "accept-encoding: br ,  deflate ;q=0.5\n", OIP_DEFLATE },
		{ "accept-encoding: gzip;q=0, deflate\n", OIP_DEFLATE },
		{ "accept-encoding: gzip; q=0.000\n", OIP_PLAIN },
		{ "accept-encoding: gzip;q=0.001\n", OIP_GZIP },
		{ "accept-encoding: gzip;q=0\n", OIP_PLAIN },
		{ "accept-encoding: gzip;q=0\naccept-encoding: deflate\n", OIP_DEFLATE },
		{ "accept-encoding: gzip\naccept-encoding: br\n", OIP_GZIP },
		{ "accept-encoding: gzipped, xdeflate, br, identity, *\n", OIP_PLAIN },
		{ "accept-encoding: ,,;,;=, ,\n", OIP_PLAIN },
	};
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message =
			WITH(rows[i].lines, "{\"inputs\":[" GOOD_INPUT "]}");

		assert_int_equal(call_decode(&call, &image, &message), 0);
		assert_int_equal(call.request.accepts, rows[i].accepts);
	}
	call_fini(&call);
}

static void test_compress(void **state)
{
	static const struct {
		const char *lines;
		size_t bytes;
		int step;
		const char *encoding;
		int window_bits;
	} rows[] = {
		{ NULL, 20000, 0, NULL, 0 },
		{ "accept-encoding: gzip\n", 16383, 0, NULL, 0 },
		{ "accept-encoding: gzip\n", 16384, 0, "gzip", GZIP },
		{ "accept-encoding: deflate\n", 100000, 0, "deflate", ZLIB },
		/* a body that does not become smaller stays */
		{ "accept-encoding: gzip\n", 20000, 1664525, NULL, 0 },
	};
	static unsigned char body[100000];
	static unsigned char memory[100000];
	static unsigned char back[100000];
	struct call call;

	(void)state;
	call_init(&call);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct message message =
			WITH(rows[i].lines, "{\"inputs\":[" GOOD_INPUT "]}");
		uint32_t noise = 1;
		const char *encoding;
		z_stream stream = { 0 };
		size_t bytes;

		for (size_t k = 0; k < rows[i].bytes; k++) {
			noise = noise * (uint32_t)rows[i].step + 1013904223;
			body[k] = (unsigned char)(noise >> 24);
		}
		memcpy(memory, body, rows[i].bytes);
		assert_int_equal(call_decode(&call, &image, &message), 0);
		bytes = oip_compress(&call.request, memory, rows[i].bytes, &encoding);
		if (!rows[i].encoding) {
			assert_null(encoding);
			assert_int_equal(bytes, rows[i].bytes);
			assert_memory_equal(memory, body, bytes);
			continue;
		}
		assert_string_equal(encoding, rows[i].encoding);
		assert_true(bytes < rows[i].bytes);
		assert_int_equal(inflateInit2(&stream, rows[i].window_bits), Z_OK);
		stream.next_in = memory;
		stream.avail_in = (uInt)bytes;
		stream.next_out = back;
		stream.avail_out = sizeof(back);
		assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
		assert_int_equal(stream.total_out, rows[i].bytes);
		(void)inflateEnd(&stream);
		assert_memory_equal(back, body, rows[i].bytes);
	}
	call_fini(&call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflate_bound),
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_inflate_members),
		cmocka_unit_test(test_inflate_ratio),
		cmocka_unit_test(test_inflate_binary),
		cmocka_unit_test(test_inflate_spoiled),
		cmocka_unit_test(test_accepts),
		cmocka_unit_test(test_compress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
