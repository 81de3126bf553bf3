/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/ring.h"

#include <assert.h>
#include <string.h>

size_t ring_bytes(uint32_t capacity, uint32_t entry_bytes)
{
	size_t bytes = sizeof(struct ring_shared) + (size_t)capacity * entry_bytes;

	return (bytes + RING_CACHE_LINE - 1) & ~(size_t)(RING_CACHE_LINE - 1);
}

void ring_init(struct ring *ring, void *memory, uint32_t capacity, uint32_t entry_bytes)
{
	assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
	assert(((uintptr_t)memory & (RING_CACHE_LINE - 1)) == 0);
	*ring = (struct ring){
		.shared = memory,
		.capacity = capacity,
		.entry_bytes = entry_bytes,
	};
}

static unsigned char *ring_entry(struct ring *ring, uint32_t count)
{
	size_t index = count & (ring->capacity - 1);

	return ring->shared->entries + index * ring->entry_bytes;
}

int ring_push(struct ring *ring, const void *entry)
{
	if (ring->own - ring->peer == ring->capacity) {
		uint32_t peer = atomic_load_explicit(&ring->shared->consumed,
		                                     memory_order_acquire);

		if (ring->own - peer > ring->capacity)
			return RING_E_CORRUPT;
		ring->peer = peer;
		if (ring->own - peer == ring->capacity)
			return RING_E_FULL;
	}
	memcpy(ring_entry(ring, ring->own), entry, ring->entry_bytes);
	ring->own++;
	atomic_store_explicit(&ring->shared->produced, ring->own, memory_order_release);
	return 0;
}

bool ring_wants_bell(struct ring *ring)
{
	/* Pairs with the fence in ring_sleep(): either the consumer sees the entry before
	 * it blocks, or this load sees that it sleeps. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&ring->shared->consumer_sleeps, memory_order_relaxed))
		return false;
	atomic_store_explicit(&ring->shared->consumer_sleeps, 0, memory_order_relaxed);
	return true;
}

int ring_pop(struct ring *ring, void *ret_entry)
{
	if (ring->own == ring->peer) {
		uint32_t peer = atomic_load_explicit(&ring->shared->produced,
		                                     memory_order_acquire);

		if (peer - ring->own > ring->capacity)
			return RING_E_CORRUPT;
		ring->peer = peer;
		if (ring->own == peer)
			return RING_E_EMPTY;
	}
	memcpy(ret_entry, ring_entry(ring, ring->own), ring->entry_bytes);
	ring->own++;
	atomic_store_explicit(&ring->shared->consumed, ring->own, memory_order_release);
	return 0;
}

bool ring_sleep(struct ring *ring)
{
	atomic_store_explicit(&ring->shared->consumer_sleeps, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&ring->shared->produced, memory_order_acquire) ==
	    ring->own)
		return true;
	ring_wake(ring);
	return false;
}

void ring_wake(struct ring *ring)
{
	atomic_store_explicit(&ring->shared->consumer_sleeps, 0, memory_order_relaxed);
}
