/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Remembers, for a while, bodies that are known to end a loader.
 *
 * A body is remembered by its size and its SHA-256, never by its content. Models often
 * take bodies of one size only: so a sketch, the SHA-256 of a few pieces of the body, is
 * compared before the whole body is hashed. A large innocent body then costs some
 * microseconds. The table is bounded; when it is full the oldest entry makes room. Pure:
 * times come from outside.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POISON_MAX          256
#define POISON_DIGEST_BYTES 32
#define POISON_SKETCH_BYTES 8
#define POISON_SHAPE_BYTES  96

struct poison_print {
	uint64_t bytes;
	unsigned char sketch[POISON_SKETCH_BYTES];
	unsigned char
		digest[POISON_DIGEST_BYTES]; /* SHA-256 of the body as it was sent */
	char shape[POISON_SHAPE_BYTES]; /* of the tensors, for people; not compared */
};

struct poison_entry {
	struct poison_print print;
	uint64_t since_ns;
};

struct poison {
	uint32_t first; /* index of the oldest entry */
	uint32_t n;
	struct poison_entry entries[POISON_MAX]; /* a ring, ordered by age */
};

/* Makes the print of @body. The shape is "unknown": the caller may know better. */
void poison_print_of(struct poison_print *ret_print, const void *body, size_t bytes);
/* True: @body has this print. Hashes all of @body only when the sketch is the same. */
bool poison_print_matches(const struct poison_print *print, const void *body,
                          size_t bytes);
/* Writes the digest in hex, terminated. */
void poison_print_hex(const struct poison_print *print,
                      char text[2 * POISON_DIGEST_BYTES + 1]);

/* Remembers @print from @now_ns on; a print that was remembered already starts afresh. */
void poison_add(struct poison *poison, const struct poison_print *print, uint64_t now_ns);
/* Finds the entry for @body that is not older than @ttl_ns, or NULL. Valid until the next
 * call on @poison. */
const struct poison_entry *poison_find(struct poison *poison, const void *body,
                                       size_t bytes, uint64_t now_ns, uint64_t ttl_ns);
/* Forgets @body. */
void poison_forget(struct poison *poison, const void *body, size_t bytes);
/* Number of bodies that are remembered. */
uint32_t poison_count(struct poison *poison, uint64_t now_ns, uint64_t ttl_ns);
void poison_clear(struct poison *poison);
