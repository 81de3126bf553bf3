/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A thread that writes to memory which the code under test shares with somebody hostile, at the
 * same time: what was read once and is read again may have changed. It gives each of a few words
 * two values in turn, the honest one and another. A harness that is built with FUZZ_RACES 1
 * calls race_add() for words that are about to be read, and race_end() before they go; with
 * FUZZ_RACES 0 both do nothing, and there is no thread.
 */

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "shared/ring.h"
#include "tests/fuzz/bytes.h"

#define RACE_WORDS_MAX 8u

struct race_word {
	_Atomic uint64_t *at;
	uint64_t values[2];
};

static struct {
	struct race_word words[RACE_WORDS_MAX];
	_Atomic size_t n;
	_Atomic unsigned int round; /* of the harness: it has changed the list */
	_Atomic unsigned int seen;  /* of the thread */
} race;

static inline void *race_run(void *unused)
{
	for (;;) {
		unsigned int round = atomic_load(&race.round);
		size_t n = atomic_load(&race.n);

		atomic_store(&race.seen, round);
		for (unsigned int i = 0; i < 64 * n; i++) {
			struct race_word *word = &race.words[i % n];

			atomic_store_explicit(word->at, word->values[i / n & 1],
			                      memory_order_relaxed);
		}
		if (n == 0)
			(void)sched_yield();
	}
	return unused;
}

/* Has the word that @memory lies in changed to and fro from now on, as @bytes say. */
static inline void race_add(struct fuzz_bytes *bytes, void *memory)
{
	static bool is_running;
	struct race_word *word = &race.words[atomic_load(&race.n)];
	pthread_t thread;

	if (!FUZZ_RACES || atomic_load(&race.n) == RACE_WORDS_MAX)
		return;
	if (!is_running) {
		assert(pthread_create(&thread, NULL, race_run, NULL) == 0);
		assert(pthread_detach(thread) == 0);
		is_running = true;
	}
	word->at = (_Atomic uint64_t *)((uintptr_t)memory & ~(uintptr_t)7);
	word->values[0] = atomic_load(word->at);
	word->values[1] = fuzz_near(bytes, word->values[0]);
	atomic_fetch_add(&race.n, 1);
}

/* The same with a word of the entry that @ring's producer pushed last, or with its count. */
static inline void race_add_entry(struct fuzz_bytes *bytes, struct ring *ring)
{
	uint32_t last = (ring->own - 1) & (ring->capacity - 1);
	uint8_t which = fuzz_u8(bytes);

	if (which & 0x80)
		race_add(bytes, &ring->shared->produced);
	else
		race_add(bytes, ring->shared->entries + (size_t)last * ring->entry_bytes +
		                        which % ring->entry_bytes);
}

/* Returns when no word is written to any more. */
static inline void race_end(void)
{
	unsigned int round;

	if (!FUZZ_RACES || atomic_exchange(&race.n, 0) == 0)
		return;
	round = atomic_fetch_add(&race.round, 1) + 1;
	while (atomic_load(&race.seen) != round)
		(void)sched_yield();
}
