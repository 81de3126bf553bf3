/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A buddy allocator over offsets: which bytes of an arena are in use.
 *
 * The allocator never touches the memory itself and keeps all of its state private, so the
 * process on the other side of the arena cannot damage it. Blocks are powers of two from
 * ARENA_BLOCK_BYTES up; allocation and release are O(log arena). A freed block is the
 * next one handed out, so a busy server keeps to few, warm pages, and takes and gives
 * back a block of one size without splitting and joining any.
 */

#include <stddef.h>
#include <stdint.h>

#define ARENA_BLOCK_BYTES ((size_t)4096)
#define ARENA_ORDERS      32

struct arena {
	size_t size_bytes; /* a power of two */
	size_t used_bytes; /* sum of blocks handed out */
	uint32_t n_blocks;
	uint32_t
		kept; /* the block freed last, not yet joined with its buddies; or none */
	uint32_t free_head[ARENA_ORDERS]; /* per order: first free block, or none */
	uint32_t *next;
	uint32_t *prev;
	uint8_t *state; /* per block: order, and whether a free or used run starts here */
};

enum {
	_ARENA_E_SUCCESS,
	ARENA_E_FULL,      /* no room until something is freed */
	ARENA_E_TOO_LARGE, /* larger than the whole arena: there will never be room */
};

/* Rounds @size_bytes down to a power of two of at least one block. The tables are owned until
 * arena_fini(). 0 or -ENOMEM. */
int arena_init(struct arena *arena, size_t size_bytes);
void arena_fini(struct arena *arena);

/* Finds room for @bytes (0 counts as 1). 0, ARENA_E_FULL or ARENA_E_TOO_LARGE. */
int arena_alloc(struct arena *arena, size_t bytes, size_t *ret_offset);

/* Bytes that may be used at @offset, as returned by arena_alloc(). */
size_t arena_capacity(const struct arena *arena, size_t offset);

/* @offset must come from arena_alloc(): anything else is a bug of ours (assert). */
void arena_free(struct arena *arena, size_t offset);
