/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A ring of pieces between two threads, with one lock: a piece takes the hashing thread a
 * tenth of a millisecond or two, so that a lock costs nothing. The reading thread waits when
 * the ring is full, which bounds the memory; the ring's own room is used again only then.
 *
 * The thread lives from digest_new() to digest_finish(), before the loader's walls stand and
 * before any framework is there.
 */
#include "loader/load/digest.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "shared/hex.h"

#define DIGEST_PIECES 8
/* Fewer bytes are hashed before a thread has begun. */
#define DIGEST_BESIDE_BYTES ((size_t)8 * 1024 * 1024)
#define DIGEST_STACK_BYTES  ((size_t)256 * 1024)

struct digest_piece {
	const void *data;
	size_t bytes;
};

struct digest {
	struct sha256_ctx sha256;
	bool is_beside;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows, up to the room */
	pthread_cond_t changed;
	struct digest_piece pieces[DIGEST_PIECES];
	size_t n_added;
	size_t n_hashed;
	bool is_over;        /* nothing more is added */
	unsigned char *room; /* of as many pieces */
};

/* Takes the next piece; false: that was all. Called with the lock. */
static bool digest_next(struct digest *digest)
{
	while (digest->n_added == digest->n_hashed && !digest->is_over)
		(void)pthread_cond_wait(&digest->changed, &digest->lock);
	return digest->n_added > digest->n_hashed;
}

static void *digest_run(void *context)
{
	struct digest *digest = context;

	(void)pthread_mutex_lock(&digest->lock);
	while (digest_next(digest)) {
		struct digest_piece piece =
			digest->pieces[digest->n_hashed % DIGEST_PIECES];

		(void)pthread_mutex_unlock(&digest->lock);
		sha256_update(&digest->sha256, piece.bytes, piece.data);
		(void)pthread_mutex_lock(&digest->lock);
		digest->n_hashed++;
		(void)pthread_cond_signal(&digest->changed);
	}
	(void)pthread_mutex_unlock(&digest->lock);
	return NULL;
}

static bool digest_has_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1;
}

static bool digest_start(struct digest *digest)
{
	pthread_attr_t attributes;
	int r;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	(void)pthread_attr_setstacksize(&attributes, DIGEST_STACK_BYTES);
	r = pthread_create(&digest->thread, &attributes, digest_run, digest);
	(void)pthread_attr_destroy(&attributes);
	return r == 0;
}

int digest_new(struct digest **ret_digest, size_t bytes)
{
	struct digest *digest = calloc(1, sizeof(*digest));

	if (!digest)
		return -ENOMEM;
	sha256_init(&digest->sha256);
	(void)pthread_mutex_init(&digest->lock, NULL);
	(void)pthread_cond_init(&digest->changed, NULL);
	digest->room = malloc(DIGEST_PIECES * DIGEST_PIECE_BYTES);
	if (!digest->room) {
		digest_free(digest);
		return -ENOMEM;
	}
	digest->is_beside = bytes >= DIGEST_BESIDE_BYTES && digest_has_processors() &&
	                    digest_start(digest);
	*ret_digest = digest;
	return 0;
}

/* Waits until another piece can be added. */
static void digest_wait(struct digest *digest)
{
	(void)pthread_mutex_lock(&digest->lock);
	while (digest->n_added - digest->n_hashed == DIGEST_PIECES)
		(void)pthread_cond_wait(&digest->changed, &digest->lock);
	(void)pthread_mutex_unlock(&digest->lock);
}

void *digest_room(struct digest *digest)
{
	digest_wait(digest);
	return digest->room + digest->n_added % DIGEST_PIECES * DIGEST_PIECE_BYTES;
}

void digest_add(struct digest *digest, const void *piece, size_t bytes)
{
	if (!digest->is_beside) {
		sha256_update(&digest->sha256, bytes, piece);
		return;
	}
	digest_wait(digest);
	(void)pthread_mutex_lock(&digest->lock);
	digest->pieces[digest->n_added % DIGEST_PIECES] =
		(struct digest_piece){ .data = piece, .bytes = bytes };
	digest->n_added++;
	(void)pthread_cond_signal(&digest->changed);
	(void)pthread_mutex_unlock(&digest->lock);
}

/* Ends the thread, which hashes what was added before. */
static void digest_join(struct digest *digest)
{
	if (!digest->is_beside)
		return;
	(void)pthread_mutex_lock(&digest->lock);
	digest->is_over = true;
	(void)pthread_cond_signal(&digest->changed);
	(void)pthread_mutex_unlock(&digest->lock);
	(void)pthread_join(digest->thread, NULL);
	digest->is_beside = false;
}

void digest_finish(struct digest *digest, char *ret_hex)
{
	uint8_t result[SHA256_DIGEST_SIZE];

	digest_join(digest);
	sha256_digest(&digest->sha256, sizeof(result), result);
	hex_print(ret_hex, result, sizeof(result));
}

void digest_free(struct digest *digest)
{
	if (!digest)
		return;
	digest_join(digest);
	(void)pthread_mutex_destroy(&digest->lock);
	(void)pthread_cond_destroy(&digest->changed);
	free(digest->room);
	free(digest);
}
