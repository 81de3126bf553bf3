/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Single-producer single-consumer ring of fixed-size entries in shared memory.
 *
 * The peer is hostile: each side keeps its own index in private memory, copies the other's
 * and checks it against the capacity before use. There are no locks, so a peer that dies
 * mid-write leaves nothing half-visible: the index had not moved.
 *
 * Doorbells: a consumer that is about to block announces it (ring_sleep); the producer
 * rings the eventfd only then (ring_wants_bell). A busy pair makes no system call.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_CACHE_LINE 64

/* The ring in shared memory; capacity * entry_bytes follow. Starts zeroed. */
struct ring_shared {
	_Alignas(RING_CACHE_LINE) _Atomic uint32_t produced; /* free-running count */
	_Alignas(RING_CACHE_LINE) _Atomic uint32_t consumed; /* free-running count */
	_Alignas(RING_CACHE_LINE) _Atomic uint32_t consumer_sleeps;
	_Alignas(RING_CACHE_LINE) unsigned char entries[];
};

/* The private view of one side. */
struct ring {
	struct ring_shared *shared;
	uint32_t capacity; /* a power of two */
	uint32_t entry_bytes;
	uint32_t own;  /* its count: never read back from shared memory */
	uint32_t peer; /* last checked copy of the other side's count */
};

enum {
	_RING_E_SUCCESS,
	RING_E_EMPTY,
	RING_E_FULL,
	RING_E_CORRUPT, /* the peer's index is impossible: kill the peer */
};

/* Bytes of shared memory for one ring, a multiple of the cache line. */
size_t ring_bytes(uint32_t capacity, uint32_t entry_bytes);

/* @memory: ring_bytes() of shared memory, cache-line aligned, zeroed by its creator. */
void ring_init(struct ring *ring, void *memory, uint32_t capacity, uint32_t entry_bytes);

/* Producer. 0, RING_E_FULL or RING_E_CORRUPT. */
int ring_push(struct ring *ring, const void *entry);

/* Producer, after pushes: true when the consumer sleeps and the bell must be rung; true only
 * once per sleep. */
bool ring_wants_bell(struct ring *ring);

/* Consumer. Copies the entry out. 0, RING_E_EMPTY or RING_E_CORRUPT. */
int ring_pop(struct ring *ring, void *ret_entry);

/* Consumer: announce sleep. True: still empty, blocking is safe. False: something came in
 * between (or the index is corrupt, which the next pop says); do not block. */
bool ring_sleep(struct ring *ring);

/* Consumer: awake again. */
void ring_wake(struct ring *ring);
