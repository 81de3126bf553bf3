/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/arena.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define ARENA_NONE        UINT32_MAX
#define ARENA_STATE_FREE  0x80u
#define ARENA_STATE_USED  0x40u
#define ARENA_STATE_ORDER 0x3fu

static void arena_link(struct arena *arena, uint32_t block, unsigned int order)
{
	uint32_t head = arena->free_head[order];

	arena->state[block] = (uint8_t)(ARENA_STATE_FREE | order);
	arena->prev[block] = ARENA_NONE;
	arena->next[block] = head;
	if (head != ARENA_NONE)
		arena->prev[head] = block;
	arena->free_head[order] = block;
}

static void arena_unlink(struct arena *arena, uint32_t block, unsigned int order)
{
	uint32_t next = arena->next[block];
	uint32_t prev = arena->prev[block];

	if (prev == ARENA_NONE)
		arena->free_head[order] = next;
	else
		arena->next[prev] = next;
	if (next != ARENA_NONE)
		arena->prev[next] = prev;
	arena->state[block] = 0;
}

int arena_init(struct arena *arena, size_t size_bytes)
{
	unsigned int order = 0;

	*arena = (struct arena){ .kept = ARENA_NONE };
	for (unsigned int i = 0; i < ARENA_ORDERS; i++)
		arena->free_head[i] = ARENA_NONE;
	while (order + 1 < ARENA_ORDERS &&
	       (ARENA_BLOCK_BYTES << (order + 1)) <= size_bytes)
		order++;
	arena->n_blocks = (uint32_t)1 << order;
	arena->size_bytes = ARENA_BLOCK_BYTES << order;
	arena->next = calloc(arena->n_blocks, sizeof(*arena->next));
	arena->prev = calloc(arena->n_blocks, sizeof(*arena->prev));
	arena->state = calloc(arena->n_blocks, sizeof(*arena->state));
	if (!arena->next || !arena->prev || !arena->state) {
		arena_fini(arena);
		return -ENOMEM;
	}
	arena_link(arena, 0, order);
	return 0;
}

void arena_fini(struct arena *arena)
{
	free(arena->next);
	free(arena->prev);
	free(arena->state);
	*arena = (struct arena){ 0 };
}

/* Puts @block, which is in no list, among the free ones, joined with its free buddies. */
static void arena_join(struct arena *arena, uint32_t block, unsigned int order)
{
	arena->state[block] = 0;
	while (((uint32_t)1 << order) < arena->n_blocks) {
		uint32_t buddy = block ^ ((uint32_t)1 << order);

		if (arena->state[buddy] != (ARENA_STATE_FREE | order))
			break;
		arena_unlink(arena, buddy, order);
		block &= ~((uint32_t)1 << order);
		order++;
	}
	arena_link(arena, block, order);
}

/* Joins the block that was kept. False: none was. */
static bool arena_join_kept(struct arena *arena)
{
	uint32_t block = arena->kept;

	if (block == ARENA_NONE)
		return false;
	arena->kept = ARENA_NONE;
	arena_join(arena, block, arena->state[block] & ARENA_STATE_ORDER);
	return true;
}

static bool arena_is_kept(const struct arena *arena, unsigned int order)
{
	return arena->kept != ARENA_NONE && arena->state[arena->kept] == order;
}

/* Takes a free block of @order, or splits a larger one. ARENA_NONE: there is none. */
static uint32_t arena_take(struct arena *arena, unsigned int order)
{
	unsigned int found = order;
	uint32_t block;

	while (found < ARENA_ORDERS && arena->free_head[found] == ARENA_NONE)
		found++;
	if (found == ARENA_ORDERS)
		return ARENA_NONE;
	block = arena->free_head[found];
	arena_unlink(arena, block, found);
	while (found > order) {
		found--;
		arena_link(arena, block + ((uint32_t)1 << found), found);
	}
	return block;
}

int arena_alloc(struct arena *arena, size_t bytes, size_t *ret_offset)
{
	unsigned int order = 0;
	uint32_t block;

	if (bytes > arena->size_bytes)
		return ARENA_E_TOO_LARGE;
	while ((ARENA_BLOCK_BYTES << order) < bytes)
		order++;
	if (arena_is_kept(arena, order)) {
		block = arena->kept;
		arena->kept = ARENA_NONE;
	} else {
		block = arena_take(arena, order);
		if (block == ARENA_NONE && arena_join_kept(arena))
			block = arena_take(arena, order);
	}
	if (block == ARENA_NONE)
		return ARENA_E_FULL;
	arena->state[block] = (uint8_t)(ARENA_STATE_USED | order);
	arena->used_bytes += ARENA_BLOCK_BYTES << order;
	*ret_offset = (size_t)block * ARENA_BLOCK_BYTES;
	return 0;
}

static uint32_t arena_used_block(const struct arena *arena, size_t offset)
{
	uint32_t block = (uint32_t)(offset / ARENA_BLOCK_BYTES);

	assert(offset % ARENA_BLOCK_BYTES == 0 && block < arena->n_blocks);
	assert(arena->state[block] & ARENA_STATE_USED);
	return block;
}

size_t arena_capacity(const struct arena *arena, size_t offset)
{
	uint32_t block = arena_used_block(arena, offset);

	return ARENA_BLOCK_BYTES << (arena->state[block] & ARENA_STATE_ORDER);
}

void arena_free(struct arena *arena, size_t offset)
{
	uint32_t block = arena_used_block(arena, offset);
	unsigned int order = arena->state[block] & ARENA_STATE_ORDER;

	arena->used_bytes -= ARENA_BLOCK_BYTES << order;
	/* The block is kept as it is: the next request is mostly as large as the last one,
	 * and an arena that has emptied would be joined to one block and split again. */
	(void)arena_join_kept(arena);
	arena->state[block] = (uint8_t)order;
	arena->kept = block;
}
