/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Compression of bodies: what the headers ask for, inflating under a hard bound,
 * deflating. "deflate" means its zlib wrapper (RFC 9110). */

#include <stddef.h>

#include "loader/oip/oip.h"
#include "shared/err.h"
#include "shared/proto.h"

/* The first of our encodings in the value of Accept-Encoding that q=0 does not refuse. */
enum oip_encoding compress_accepted(struct proto_text value);

/* The value of a Content-Encoding, a list, goes into @encoding: what those before it named,
 * at first OIP_PLAIN. 0, or 415 with a sentence: it is not one of ours, or a second one. */
int compress_encoding(struct proto_text value, enum oip_encoding *encoding,
                      struct err *err);

/* A gzip or zlib stream into @buffer, replacing what is there. 0; 413 when more than
 * @max_bytes come out, or more than 8 MiB that are a hundred times @body_bytes; 400 when the stream is broken or not whole; 500 without memory. */
int compress_inflate(struct oip_buffer *buffer, const unsigned char *body,
                     size_t body_bytes, size_t max_bytes, struct err *err);

/* @body into @buffer, replacing what is there. The bytes that came out, or 0 when that
 * would not be less than @body_bytes or memory ran out. */
size_t compress_deflate(struct oip_buffer *buffer, const unsigned char *body,
                        size_t body_bytes, enum oip_encoding encoding);
