/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/inflate.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

/* zlib.h: 32 added to the window bits takes gzip and zlib headers alike. */
#define INFLATE_WINDOW_BITS (15 + 32)
#define INFLATE_START_BYTES ((size_t)64 * 1024)

static int inflate_grow(struct oip_buffer *buffer, size_t max_bytes)
{
	size_t capacity =
		buffer->capacity_bytes ? buffer->capacity_bytes * 2 : INFLATE_START_BYTES;
	unsigned char *data;

	/* One byte over the bound, to tell a full body from one that is too large. */
	if (capacity > max_bytes + 1)
		capacity = max_bytes + 1;
	if (capacity <= buffer->capacity_bytes)
		return 413;
	data = realloc(buffer->data, capacity);
	if (!data)
		return 500;
	buffer->data = data;
	buffer->capacity_bytes = capacity;
	return 0;
}

static int inflate_run(z_stream *stream, struct oip_buffer *buffer, size_t max_bytes)
{
	int r = Z_OK;

	while (r != Z_STREAM_END) {
		size_t room;

		if (buffer->used_bytes == buffer->capacity_bytes) {
			int grown = inflate_grow(buffer, max_bytes);

			if (grown)
				return grown;
		}
		room = buffer->capacity_bytes - buffer->used_bytes;
		stream->next_out = buffer->data + buffer->used_bytes;
		stream->avail_out = room > UINT_MAX ? UINT_MAX : (uInt)room;
		r = inflate(stream, Z_NO_FLUSH);
		buffer->used_bytes = (size_t)(stream->next_out - buffer->data);
		if (r != Z_OK && r != Z_STREAM_END)
			return r == Z_MEM_ERROR ? 500 : 400;
		if (buffer->used_bytes > max_bytes)
			return 413;
		if (r == Z_OK && stream->avail_in == 0 && stream->avail_out > 0)
			return 400; /* the stream ends in the middle */
	}
	return stream->avail_in == 0 ? 0 : 400;
}

int inflate_body(struct oip_buffer *buffer, const unsigned char *body, size_t body_bytes,
                 size_t max_bytes, struct err *err)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)body };
	int r;

	buffer->used_bytes = 0;
	if (body_bytes > UINT_MAX)
		return err_set(err, 413, "the compressed body is too large");
	stream.avail_in = (uInt)body_bytes;
	if (inflateInit2(&stream, INFLATE_WINDOW_BITS) != Z_OK)
		return err_set(err, 500, "out of memory");
	r = inflate_run(&stream, buffer, max_bytes);
	(void)inflateEnd(&stream);
	if (r == 413)
		return err_set(err, r,
		               "the body is larger than max_body, %zu bytes, once it is "
		               "decompressed",
		               max_bytes);
	if (r == 400)
		return err_set(
			err, r,
			"the compressed body is broken or not whole: it must be one "
			"gzip or zlib stream");
	if (r)
		return err_set(err, r, "out of memory");
	return 0;
}
