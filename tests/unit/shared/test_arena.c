/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/arena.h"

#define ARENA_TEST_BYTES (ARENA_BLOCK_BYTES * 64)

static void test_sizes(void **state)
{
	static const struct {
		size_t bytes;
		int want;
		size_t capacity;
	} rows[] = {
		{ 0, 0, ARENA_BLOCK_BYTES },
		{ 1, 0, ARENA_BLOCK_BYTES },
		{ ARENA_BLOCK_BYTES, 0, ARENA_BLOCK_BYTES },
		{ ARENA_BLOCK_BYTES + 1, 0, ARENA_BLOCK_BYTES * 2 },
		{ ARENA_TEST_BYTES, 0, ARENA_TEST_BYTES },
		{ ARENA_TEST_BYTES + 1, ARENA_E_TOO_LARGE, 0 },
		{ SIZE_MAX, ARENA_E_TOO_LARGE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct arena arena;
		size_t offset;

		assert_int_equal(arena_init(&arena, ARENA_TEST_BYTES), 0);
		assert_int_equal(arena_alloc(&arena, rows[i].bytes, &offset),
		                 rows[i].want);
		if (rows[i].want == 0) {
			assert_int_equal(arena_capacity(&arena, offset),
			                 rows[i].capacity);
			assert_int_equal(arena.used_bytes, rows[i].capacity);
			arena_free(&arena, offset);
		}
		assert_int_equal(arena.used_bytes, 0);
		arena_fini(&arena);
	}
}

static void test_rounds_down_to_power_of_two(void **state)
{
	struct arena arena;

	(void)state;
	assert_int_equal(arena_init(&arena, ARENA_BLOCK_BYTES * 5), 0);
	assert_int_equal(arena.size_bytes, ARENA_BLOCK_BYTES * 4);
	arena_fini(&arena);
}

static void test_full_then_whole_again(void **state)
{
	size_t offsets[64];
	struct arena arena;
	size_t offset;

	(void)state;
	assert_int_equal(arena_init(&arena, ARENA_TEST_BYTES), 0);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(arena_alloc(&arena, 1, &offsets[i]), 0);
	assert_int_equal(arena_alloc(&arena, 1, &offset), ARENA_E_FULL);
	for (size_t i = 0; i < 64; i += 2)
		arena_free(&arena, offsets[i]);
	/* Half is free, but no two neighbours are. */
	assert_int_equal(arena_alloc(&arena, ARENA_BLOCK_BYTES * 2, &offset),
	                 ARENA_E_FULL);
	for (size_t i = 1; i < 64; i += 2)
		arena_free(&arena, offsets[i]);
	assert_int_equal(arena_alloc(&arena, ARENA_TEST_BYTES, &offset), 0);
	arena_free(&arena, offset);
	arena_fini(&arena);
}

/* True: @used, a byte for each of @n blocks, has a free run for @bytes where a block of that
 * size may lie. */
static bool has_room(const unsigned char *used, size_t n, size_t bytes)
{
	size_t blocks = 1;

	while (blocks * ARENA_BLOCK_BYTES < bytes)
		blocks *= 2;
	for (size_t i = 0; i < n; i += blocks) {
		size_t n_free = 0;

		while (n_free < blocks && !used[i + n_free])
			n_free++;
		if (n_free == blocks)
			return true;
	}
	return false;
}

/* A block that is given back and wanted again is neither joined nor split: what is free
 * stays as it was. */
static void test_last_block_is_kept(void **state)
{
	static const struct {
		size_t first_bytes; /* freed before */
		size_t bytes;
	} rows[] = {
		{ 1, 77 },
		{ 1, ARENA_BLOCK_BYTES },
		{ ARENA_BLOCK_BYTES * 5, ARENA_BLOCK_BYTES * 8 },
		{ ARENA_TEST_BYTES, ARENA_TEST_BYTES },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct arena arena;
		struct arena before;
		size_t first;
		size_t offset;

		assert_int_equal(arena_init(&arena, ARENA_TEST_BYTES), 0);
		assert_int_equal(arena_alloc(&arena, rows[i].first_bytes, &first), 0);
		arena_free(&arena, first);
		before = arena;
		assert_int_equal(arena_alloc(&arena, rows[i].bytes, &offset), 0);
		assert_int_equal(offset, first);
		assert_memory_equal(arena.free_head, before.free_head,
		                    sizeof(before.free_head));
		arena_free(&arena, offset);
		assert_memory_equal(arena.free_head, before.free_head,
		                    sizeof(before.free_head));
		assert_int_equal(arena_alloc(&arena, ARENA_TEST_BYTES, &offset), 0);
		arena_free(&arena, offset);
		arena_fini(&arena);
	}
}

/* Random traffic against a byte map: no two live blocks overlap, nothing is lost, and nothing
 * is refused that there is room for. */
static void test_random_traffic(void **state)
{
	unsigned char used[64] = { 0 };
	size_t live[64] = { 0 };
	size_t n_live = 0;
	unsigned int seed = 42;
	struct arena arena;

	(void)state;
	assert_int_equal(arena_init(&arena, ARENA_TEST_BYTES), 0);
	for (int round = 0; round < 100000; round++) {
		size_t bytes = (size_t)rand_r(&seed) % (ARENA_BLOCK_BYTES * 9);
		size_t offset;

		if (n_live > 0 && rand_r(&seed) % 2) {
			size_t pick = (size_t)rand_r(&seed) % n_live;
			size_t blocks =
				arena_capacity(&arena, live[pick]) / ARENA_BLOCK_BYTES;

			for (size_t i = 0; i < blocks; i++)
				used[live[pick] / ARENA_BLOCK_BYTES + i] = 0;
			arena_free(&arena, live[pick]);
			live[pick] = live[--n_live];
		} else if (arena_alloc(&arena, bytes, &offset) != 0) {
			assert_false(has_room(used, sizeof(used), bytes));
		} else {
			size_t blocks =
				arena_capacity(&arena, offset) / ARENA_BLOCK_BYTES;

			for (size_t i = 0; i < blocks; i++) {
				assert_int_equal(used[offset / ARENA_BLOCK_BYTES + i], 0);
				used[offset / ARENA_BLOCK_BYTES + i] = 1;
			}
			live[n_live++] = offset;
		}
	}
	while (n_live > 0)
		arena_free(&arena, live[--n_live]);
	assert_int_equal(arena.used_bytes, 0);
	assert_int_equal(arena_alloc(&arena, ARENA_TEST_BYTES, &live[0]), 0);
	arena_fini(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_rounds_down_to_power_of_two),
		cmocka_unit_test(test_full_then_whole_again),
		cmocka_unit_test(test_last_block_is_kept),
		cmocka_unit_test(test_random_traffic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
