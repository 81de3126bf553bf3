/* SPDX-License-Identifier: Apache-2.0 */

/*
 * zlib over whole bodies. compress_encoding() and compress_accepted() read the headers;
 * compress_inflate() grows its buffer step by step up to a bound (compress_run()), so that a
 * small body cannot claim a large one's memory at once; compress_deflate() writes into a
 * buffer that is smaller than the body, and gives up when that is full.
 */
#include "loader/oip/compress.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

/* Window bits as zlib.h has them: 16 more for a gzip header, 32 more to take both. */
#define COMPRESS_ZLIB_BITS    15
#define COMPRESS_GZIP_BITS    (15 + 16)
#define COMPRESS_EITHER_BITS  (15 + 32)
#define COMPRESS_MEMORY_LEVEL 8
#define COMPRESS_GZIP_ID      0x1f
#define COMPRESS_START_BYTES  ((size_t)64 * 1024)
/* Every body may grow to FREE_BYTES; beyond that to a multiple of its size. zlib shrinks text that
 * repeats itself a thousandfold, real tensors seldom more than tenfold. A megabyte of a sender
 * must not cost the model a gigabyte. */
#define COMPRESS_FREE_BYTES ((size_t)8 * 1024 * 1024)
#define COMPRESS_RATIO_MAX  100

static bool compress_is_token(struct proto_text text, const char *token)
{
	return text.bytes == strlen(token) &&
	       strncasecmp(text.data, token, text.bytes) == 0;
}

static struct proto_text compress_trim(const char *from, const char *to)
{
	while (from < to && (*from == ' ' || *from == '\t'))
		from++;
	while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
		to--;
	return (struct proto_text){ from, (size_t)(to - from) };
}

/* RFC 9110 8.4.1.3: x-gzip is gzip. */
static enum oip_encoding compress_named(struct proto_text token)
{
	if (compress_is_token(token, "gzip") || compress_is_token(token, "x-gzip"))
		return OIP_GZIP;
	return compress_is_token(token, "deflate") ? OIP_DEFLATE : OIP_PLAIN;
}

/* True for "q=0", "q=0.00" and the like: the client refuses this encoding. */
static bool compress_is_refused(struct proto_text weight)
{
	if (weight.bytes < 3 || strncasecmp(weight.data, "q=0", 3) != 0)
		return false;
	for (size_t i = 3; i < weight.bytes; i++)
		if (weight.data[i] != '0' && weight.data[i] != '.')
			return false;
	return true;
}

enum oip_encoding compress_accepted(struct proto_text value)
{
	const char *at = value.data;
	const char *end = value.data + value.bytes;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const char *stop = comma ? comma : end;
		const char *semicolon = memchr(at, ';', (size_t)(stop - at));
		struct proto_text token = compress_trim(at, semicolon ? semicolon : stop);

		enum oip_encoding named = compress_named(token);

		if (named != OIP_PLAIN &&
		    (!semicolon ||
		     !compress_is_refused(compress_trim(semicolon + 1, stop))))
			return named;
		at = comma ? comma + 1 : end;
	}
	return OIP_PLAIN;
}

int compress_encoding(struct proto_text value, enum oip_encoding *encoding,
                      struct err *err)
{
	const char *at = value.data;
	const char *end = value.data + value.bytes;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		struct proto_text token = compress_trim(at, comma ? comma : end);
		enum oip_encoding named = compress_named(token);

		if (named == OIP_PLAIN && token.bytes > 0 &&
		    !compress_is_token(token, "identity"))
			return err_set(err, 415,
			               "Content-Encoding must be gzip, deflate or "
			               "identity");
		if (named != OIP_PLAIN && *encoding != OIP_PLAIN)
			return err_set(
				err, 415,
				"an encoding is given twice: Content-Encoding must be "
				"one of gzip, deflate or identity");
		if (named != OIP_PLAIN)
			*encoding = named;
		at = comma ? comma + 1 : end;
	}
	return 0;
}

static int compress_grow(struct oip_buffer *buffer, size_t max_bytes)
{
	size_t capacity = buffer->capacity_bytes ? buffer->capacity_bytes * 2
	                                         : COMPRESS_START_BYTES;

	/* One byte over the bound tells a full body from one that is too large. */
	if (capacity > max_bytes && max_bytes < SIZE_MAX)
		capacity = max_bytes + 1;
	if (capacity <= buffer->capacity_bytes)
		return 413;
	return oip_buffer_grow(buffer, capacity) ? 0 : 500;
}

/* RFC 1952 2.2: gzip is one member or several, one behind the other. True: another one is
 * read on. */
static bool compress_begins_again(z_stream *stream, bool is_gzip)
{
	return is_gzip && stream->avail_in > 0 &&
	       stream->next_in[0] == COMPRESS_GZIP_ID && inflateReset(stream) == Z_OK;
}

static int compress_run(z_stream *stream, struct oip_buffer *buffer, size_t max_bytes)
{
	bool is_gzip = stream->avail_in > 0 && stream->next_in[0] == COMPRESS_GZIP_ID;
	int r = Z_OK;

	while (r != Z_STREAM_END || compress_begins_again(stream, is_gzip)) {
		size_t room;

		if (buffer->used_bytes == buffer->capacity_bytes) {
			int grown = compress_grow(buffer, max_bytes);

			if (grown)
				return grown;
		}
		room = buffer->capacity_bytes - buffer->used_bytes;
		stream->next_out = buffer->data + buffer->used_bytes;
		stream->avail_out = room > UINT_MAX ? UINT_MAX : (uInt)room;
		r = inflate(stream, Z_NO_FLUSH);
		oip_buffer_use(buffer, (size_t)(stream->next_out - buffer->data));
		if (r != Z_OK && r != Z_STREAM_END)
			return r == Z_MEM_ERROR ? 500 : 400;
		if (buffer->used_bytes > max_bytes)
			return 413;
		if (r == Z_OK && stream->avail_in == 0 && stream->avail_out > 0)
			return 400; /* the stream ends in the middle */
	}
	return stream->avail_in == 0 ? 0 : 400;
}

int compress_inflate(struct oip_buffer *buffer, const unsigned char *body,
                     size_t body_bytes, size_t max_bytes, struct err *err)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)body };
	size_t most_bytes = body_bytes * COMPRESS_RATIO_MAX;
	int r;

	oip_buffer_use(buffer, 0);
	if (body_bytes > UINT_MAX)
		return err_set(err, 413, "the compressed body is too large");
	stream.avail_in = (uInt)body_bytes;
	if (inflateInit2(&stream, COMPRESS_EITHER_BITS) != Z_OK)
		return err_set(err, 500, "out of memory");
	if (most_bytes < COMPRESS_FREE_BYTES)
		most_bytes = COMPRESS_FREE_BYTES;
	r = compress_run(&stream, buffer,
	                 most_bytes < max_bytes ? most_bytes : max_bytes);
	(void)inflateEnd(&stream);
	if (r == 413 && most_bytes < max_bytes)
		return err_set(err, r,
		               "the body is more than %zu bytes once it is decompressed, "
		               "%d times the %zu that came: send it as it is",
		               most_bytes, COMPRESS_RATIO_MAX, body_bytes);
	if (r == 413)
		return err_set(err, r,
		               "the body is larger than max_body, %zu bytes, once it is "
		               "decompressed",
		               max_bytes);
	if (r == 400)
		return err_set(
			err, r,
			"the compressed body is broken or not whole: it must be gzip, "
			"or one zlib stream, and nothing behind it");
	if (r)
		return err_set(err, r, "out of memory");
	return 0;
}

size_t compress_deflate(struct oip_buffer *buffer, const unsigned char *body,
                        size_t body_bytes, enum oip_encoding encoding)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)body };
	size_t done = 0;

	oip_buffer_use(buffer, 0);
	if (body_bytes == 0 || body_bytes > UINT_MAX ||
	    !oip_buffer_reserve(buffer, body_bytes))
		return 0;
	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED,
	                 encoding == OIP_GZIP ? COMPRESS_GZIP_BITS : COMPRESS_ZLIB_BITS,
	                 COMPRESS_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	stream.avail_in = (uInt)body_bytes;
	stream.next_out = buffer->data;
	stream.avail_out = (uInt)body_bytes - 1;
	if (deflate(&stream, Z_FINISH) == Z_STREAM_END)
		done = (size_t)(stream.next_out - buffer->data);
	(void)deflateEnd(&stream);
	oip_buffer_use(buffer, done);
	return done;
}
