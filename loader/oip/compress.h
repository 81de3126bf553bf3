/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Compression of bodies: reading the headers (RFC 9110), inflating under a hard bound, deflating.
 * "deflate" means the zlib wrapper (RFC 9110, 8.4.1.2). */

#include <stddef.h>

#include "loader/oip/oip.h"
#include "shared/err.h"
#include "shared/proto.h"

/* Returns the first known encoding in the value of Accept-Encoding that q=0 does not refuse. */
enum oip_encoding compress_accepted(struct proto_text value);

/* Reads the value of one Content-Encoding, a list, into *@encoding, which holds what earlier
 * fields named; at first OIP_PLAIN. 0, or 415 with a sentence: an unknown encoding, or a second
 * one. */
int compress_encoding(struct proto_text value, enum oip_encoding *encoding,
                      struct err *err);

/* Inflates a gzip or zlib stream into @buffer, over its old content. 0, or with a sentence 413
 * (more than @max_bytes come out, or more than 8 MiB that are a hundred times @body_bytes), 400
 * (the stream is broken or not whole), 500 (no memory). */
int compress_inflate(struct oip_buffer *buffer, const unsigned char *body,
                     size_t body_bytes, size_t max_bytes, struct err *err);

/* Deflates @body into @buffer, over its old content. Returns the bytes that came out, or 0 when
 * they would not be less than @body_bytes or memory ran out. */
size_t compress_deflate(struct oip_buffer *buffer, const unsigned char *body,
                        size_t body_bytes, enum oip_encoding encoding);
