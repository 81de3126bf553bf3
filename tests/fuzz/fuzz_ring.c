/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both sides of a ring, step by step, and a peer that overwrites the shared memory. As long as
 * nobody lies the ring is a queue, exactly. After a lie a side may say anything, but touches no
 * byte outside of the ring and holds no more than its capacity.
 */

#include <assert.h>
#include <stdlib.h>

#include "shared/ring.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/race.h"

#define ENTRY_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
	struct ring producer;
	struct ring consumer;
	unsigned char *entry; /* of the exact size, so that a copy beyond it is found */
	bool is_hostile;      /* somebody lied: only the bounds are sure */
	uint32_t n_pushed;
	uint32_t n_popped;
};

static void fill(unsigned char *entry, uint32_t n)
{
	for (uint32_t i = 0; i < ENTRY_MAX; i++)
		entry[i] = (unsigned char)(n * 31 + i);
}

static void push(struct state *state)
{
	unsigned char entry[ENTRY_MAX];
	bool is_full = state->n_pushed - state->n_popped == state->producer.capacity;
	int r;

	fill(entry, state->n_pushed);
	r = ring_push(&state->producer, entry);
	assert(r == 0 || r == RING_E_FULL || r == RING_E_CORRUPT);
	assert(state->is_hostile || r == (is_full ? RING_E_FULL : 0));
	if (r == 0) {
		state->n_pushed++;
		assert(state->producer.own - state->producer.peer <=
		       state->producer.capacity);
	}
}

static void pop(struct state *state)
{
	bool is_empty = state->n_pushed == state->n_popped;
	unsigned char want[ENTRY_MAX];
	int r;

	fill(want, state->n_popped);
	r = ring_pop(&state->consumer, state->entry);
	assert(r == 0 || r == RING_E_EMPTY || r == RING_E_CORRUPT);
	assert(state->is_hostile || r == (is_empty ? RING_E_EMPTY : 0));
	if (r == 0) {
		assert(state->is_hostile ||
		       memcmp(state->entry, want, state->consumer.entry_bytes) == 0);
		state->n_popped++;
		assert(state->consumer.peer - state->consumer.own <
		       state->consumer.capacity);
	}
}

/* Checks that a consumer that may block has nothing to read, and that the next push rings. */
static void nap(struct state *state)
{
	bool is_empty = state->n_pushed == state->n_popped;
	bool may_block = ring_sleep(&state->consumer);

	assert(state->is_hostile || may_block == is_empty);
	if (may_block)
		assert(ring_wants_bell(&state->producer));
	assert(!ring_wants_bell(&state->producer));
	ring_wake(&state->consumer);
}

static void lie(struct state *state, struct fuzz_bytes *bytes)
{
	struct ring_shared *shared = state->producer.shared;
	uint8_t what = fuzz_u8(bytes);
	uint32_t own = what & 1 ? state->producer.own : state->consumer.own;
	uint32_t value =
		(uint32_t)fuzz_near(bytes,
	                            own + (what & 2 ? state->producer.capacity : 0));

	state->is_hostile = true;
	if (FUZZ_RACES && what & 0x80) {
		race_add_entry(bytes, &state->producer);
		return;
	}
	switch (what >> 2 & 3) {
	case 0:
		atomic_store(&shared->produced, value);
		break;
	case 1:
		atomic_store(&shared->consumed, value);
		break;
	case 2:
		atomic_store(&shared->consumer_sleeps, value);
		break;
	default:
		fuzz_copy(bytes, shared->entries, state->producer.entry_bytes);
		break;
	}
}

static void step(struct state *state, struct fuzz_bytes *bytes)
{
	uint8_t op = fuzz_u8(bytes);
	uint32_t times = 1 + (op >> 3);

	switch (op & 7) {
	case 0:
	case 1:
		for (uint32_t i = 0; i < times; i++)
			push(state);
		break;
	case 2:
	case 3:
		for (uint32_t i = 0; i < times; i++)
			pop(state);
		break;
	case 4:
		nap(state);
		break;
	case 5:
		lie(state, bytes);
		break;
	case 6:
		(void)ring_wants_bell(&state->producer);
		break;
	default:
		(void)ring_sleep(&state->consumer);
		ring_wake(&state->consumer);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	struct state state = { .is_hostile = false };
	uint8_t shape = fuzz_u8(&bytes);
	uint32_t capacity = 1u << (shape & 7);
	uint32_t entry_bytes = 1 + (shape >> 3) * 2u; /* 1 to 63 */
	/* The counts start close to where they wrap, or anywhere. */
	uint32_t start = (uint32_t)fuzz_near(&bytes, UINT32_MAX - 8);
	size_t memory_bytes = ring_bytes(capacity, entry_bytes);
	void *memory = aligned_alloc(RING_CACHE_LINE, memory_bytes);

	state.entry = malloc(entry_bytes);
	assert(memory && state.entry);
	memset(memory, 0, memory_bytes);
	ring_init(&state.producer, memory, capacity, entry_bytes);
	ring_init(&state.consumer, memory, capacity, entry_bytes);
	state.producer.own = state.producer.peer = start;
	state.consumer.own = state.consumer.peer = start;
	atomic_store(&state.producer.shared->produced, start);
	atomic_store(&state.producer.shared->consumed, start);
	while (bytes.left > 0)
		step(&state, &bytes);
	race_end();
	free(state.entry);
	free(memory);
	return 0;
}
