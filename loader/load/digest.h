/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * SHA-256 of bytes that come in order, in a thread beside the one that reads them: a file is then
 * read, copied and hashed in the time that the longest of these takes. Of few bytes, on one
 * processor, or where no thread is to be had, the digest is made in digest_add().
 */

#include <stddef.h>

/* Bytes that are added at once, at most: they are hashed while they are still in a cache. */
#define DIGEST_PIECE_BYTES ((size_t)256 * 1024)

struct digest;

/* For @bytes in all. 0, or -ENOMEM. digest_free() after success. */
int digest_new(struct digest **ret_digest, size_t bytes);
/* Room for the next DIGEST_PIECE_BYTES, for a caller without room of its own, until the next call;
 * what was added before is hashed, or has other room. */
void *digest_room(struct digest *digest);
/* Adds a piece. Its bytes stay as they are until digest_finish(), or lie in digest_room(). */
void digest_add(struct digest *digest, const void *piece, size_t bytes);
/* Waits for the thread, and prints the digest, as sha256sum(1) does, to @ret_hex of 65 bytes. */
void digest_finish(struct digest *digest, char *ret_hex);
/* Also of one that was not finished. Accepts NULL. */
void digest_free(struct digest *digest);
