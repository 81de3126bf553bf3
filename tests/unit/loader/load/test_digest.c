/* SPDX-License-Identifier: Apache-2.0 */

/* The digest of a thread beside is that of the bytes, however they come. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nettle/sha2.h>

#include "loader/load/digest.h"
#include "shared/hex.h"

#define MIB ((size_t)1024 * 1024)

static const struct {
	size_t bytes;
	size_t piece;
	int has_room; /* of its own, and not that of the digest */
} rows[] = {
	{ 0, 1, 0 },
	{ 3, 2, 0 },
	{ 3, 2, 1 },
	{ 8 * MIB - 1, DIGEST_PIECE_BYTES, 0 },
	{ 8 * MIB, DIGEST_PIECE_BYTES, 0 },
	{ 24 * MIB + 77, DIGEST_PIECE_BYTES, 0 },
	{ 24 * MIB + 77, DIGEST_PIECE_BYTES, 1 },
	{ 9 * MIB + 1, 4099, 0 },
	{ 9 * MIB + 1, 4099, 1 },
};

static unsigned char *make(size_t bytes)
{
	unsigned char *data = malloc(bytes + 1);

	assert_non_null(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (unsigned char)(i * 31 + i / 251);
	return data;
}

static size_t add(struct digest *digest, const unsigned char *data, size_t row, size_t at)
{
	size_t left = rows[row].bytes - at;
	size_t piece = rows[row].piece < left ? rows[row].piece : left;
	void *room;

	if (rows[row].has_room) {
		digest_add(digest, data + at, piece);
		return at + piece;
	}
	room = digest_room(digest);
	memcpy(room, data + at, piece);
	digest_add(digest, room, piece);
	return at + piece;
}

static void test_same_as_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned char *data = make(rows[i].bytes);
		uint8_t result[SHA256_DIGEST_SIZE];
		char wanted[2 * SHA256_DIGEST_SIZE + 1];
		char got[2 * SHA256_DIGEST_SIZE + 1];
		struct sha256_ctx sha256;
		struct digest *digest;

		sha256_init(&sha256);
		sha256_update(&sha256, rows[i].bytes, data);
		sha256_digest(&sha256, sizeof(result), result);
		hex_print(wanted, result, sizeof(result));
		assert_int_equal(digest_new(&digest, rows[i].bytes), 0);
		for (size_t at = 0; at < rows[i].bytes;)
			at = add(digest, data, i, at);
		digest_finish(digest, got);
		digest_free(digest);
		assert_string_equal(got, wanted);
		free(data);
	}
}

/* A file that cannot be read to its end leaves a thread with work to do. */
static void test_given_up(void **state)
{
	struct digest *digest;

	(void)state;
	for (int n = 0; n < 20; n++) {
		assert_int_equal(digest_new(&digest, 64 * MIB), 0);
		for (int i = 0; i < n; i++) {
			void *room = digest_room(digest);

			memset(room, i, DIGEST_PIECE_BYTES);
			digest_add(digest, room, DIGEST_PIECE_BYTES);
		}
		digest_free(digest);
	}
	digest_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_at_once),
		cmocka_unit_test(test_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
