/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inflates a compressed body (gzip, or deflate with its zlib wrapper) under a hard bound. */

#include <stddef.h>

#include "loader/oip.h"

/* Into @buffer, replacing what is there. 0; 413 when more than @max_bytes come out; 400
 * when the stream is broken or not whole; 500 without memory. */
int inflate_body(struct oip_buffer *buffer, const unsigned char *body, size_t body_bytes,
                 size_t max_bytes, struct err *err);
