/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/poison.h"

#include <string.h>

#include <nettle/sha2.h>

#include "shared/hex.h"

/* The sketch of a body is of so many pieces, evenly spread, the last one at the end. */
#define POISON_PIECES      32
#define POISON_PIECE_BYTES ((size_t)64)

_Static_assert(POISON_DIGEST_BYTES == SHA256_DIGEST_SIZE, "a whole digest");

static void poison_sketch_of(unsigned char sketch[POISON_SKETCH_BYTES], const void *body,
                             size_t bytes)
{
	const unsigned char *data = body;
	struct sha256_ctx sha;

	sha256_init(&sha);
	if (bytes <= POISON_PIECES * POISON_PIECE_BYTES) {
		sha256_update(&sha, bytes, data);
	} else {
		size_t step = (bytes - POISON_PIECE_BYTES) / (POISON_PIECES - 1);

		for (size_t i = 0; i + 1 < POISON_PIECES; i++)
			sha256_update(&sha, POISON_PIECE_BYTES, data + i * step);
		sha256_update(&sha, POISON_PIECE_BYTES,
		              data + bytes - POISON_PIECE_BYTES);
	}
	sha256_digest(&sha, POISON_SKETCH_BYTES, sketch);
}

static void poison_digest_of(unsigned char digest[POISON_DIGEST_BYTES], const void *body,
                             size_t bytes)
{
	struct sha256_ctx sha;

	sha256_init(&sha);
	sha256_update(&sha, bytes, body);
	sha256_digest(&sha, POISON_DIGEST_BYTES, digest);
}

void poison_print_of(struct poison_print *ret_print, const void *body, size_t bytes)
{
	*ret_print = (struct poison_print){ .bytes = bytes, .shape = "unknown" };
	poison_sketch_of(ret_print->sketch, body, bytes);
	poison_digest_of(ret_print->digest, body, bytes);
}

bool poison_print_matches(const struct poison_print *print, const void *body,
                          size_t bytes)
{
	unsigned char sketch[POISON_SKETCH_BYTES];
	unsigned char digest[POISON_DIGEST_BYTES];

	if (print->bytes != bytes)
		return false;
	poison_sketch_of(sketch, body, bytes);
	if (memcmp(sketch, print->sketch, sizeof(sketch)) != 0)
		return false;
	poison_digest_of(digest, body, bytes);
	return memcmp(digest, print->digest, sizeof(digest)) == 0;
}

void poison_print_hex(const struct poison_print *print,
                      char text[2 * POISON_DIGEST_BYTES + 1])
{
	hex_print(text, print->digest, POISON_DIGEST_BYTES);
}

static struct poison_entry *poison_at(struct poison *poison, uint32_t i)
{
	return &poison->entries[(poison->first + i) % POISON_MAX];
}

static void poison_expire(struct poison *poison, uint64_t now_ns, uint64_t ttl_ns)
{
	while (poison->n > 0 && now_ns - poison_at(poison, 0)->since_ns >= ttl_ns) {
		poison->first = (poison->first + 1) % POISON_MAX;
		poison->n--;
	}
}

/* Takes entry @i out and keeps the order of the others. */
static void poison_drop(struct poison *poison, uint32_t i)
{
	for (; i + 1 < poison->n; i++)
		*poison_at(poison, i) = *poison_at(poison, i + 1);
	poison->n--;
}

void poison_add(struct poison *poison, const struct poison_print *print, uint64_t now_ns)
{
	for (uint32_t i = 0; i < poison->n; i++) {
		const struct poison_print *other = &poison_at(poison, i)->print;

		if (other->bytes == print->bytes &&
		    memcmp(other->digest, print->digest, sizeof(print->digest)) == 0) {
			poison_drop(poison, i);
			break;
		}
	}
	if (poison->n == POISON_MAX)
		poison_drop(poison, 0);
	*poison_at(poison, poison->n++) =
		(struct poison_entry){ .print = *print, .since_ns = now_ns };
}

const struct poison_entry *poison_find(struct poison *poison, const void *body,
                                       size_t bytes, uint64_t now_ns, uint64_t ttl_ns)
{
	unsigned char sketch[POISON_SKETCH_BYTES];
	bool has_sketch = false;

	poison_expire(poison, now_ns, ttl_ns);
	for (uint32_t i = 0; i < poison->n; i++) {
		const struct poison_entry *entry = poison_at(poison, i);

		if (entry->print.bytes != bytes)
			continue;
		if (!has_sketch)
			poison_sketch_of(sketch, body, bytes);
		has_sketch = true;
		if (memcmp(sketch, entry->print.sketch, sizeof(sketch)) == 0 &&
		    poison_print_matches(&entry->print, body, bytes))
			return entry;
	}
	return NULL;
}

void poison_forget(struct poison *poison, const void *body, size_t bytes)
{
	for (uint32_t i = 0; i < poison->n; i++) {
		if (poison_print_matches(&poison_at(poison, i)->print, body, bytes)) {
			poison_drop(poison, i);
			return;
		}
	}
}

uint32_t poison_count(struct poison *poison, uint64_t now_ns, uint64_t ttl_ns)
{
	poison_expire(poison, now_ns, ttl_ns);
	return poison->n;
}

void poison_clear(struct poison *poison)
{
	poison->first = poison->n = 0;
}
