/* SPDX-License-Identifier: Apache-2.0 */

/* Weights that are copied ahead of time: the last chunks first, as far as the room reaches. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/loader/gpu/gpu_bench.h"

/* The bytes that were asked for, by all threads. */
struct asked {
	atomic_size_t bytes;
	atomic_uint pieces;
	unsigned int cut_after; /* cut after so many pieces; 0: never */
};

static int read_asked(void *context, size_t at, void *buffer, size_t bytes)
{
	struct asked *asked = context;

	(void)atomic_fetch_add(&asked->bytes, bytes);
	(void)atomic_fetch_add(&asked->pieces, 1);
	return gpu_bench_read_content(NULL, at, buffer, bytes);
}

static bool is_cut(void *context)
{
	const struct asked *asked = context;

	return asked->cut_after > 0 && atomic_load(&asked->pieces) >= asked->cut_after;
}

static int read_other(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)buffer)[i] = (unsigned char)~gpu_bench_content[at + i];
	return 0;
}

/* Makes scrap: chunks full of other bytes. */
static void make_scrap(struct gpu_arena *arena, struct gpu_arena_scrap *scrap, int *fds)
{
	const struct gpu_copy_source other = { .read = read_other };
	struct err err = ERR_NULL;

	gpu_bench_must(gpu_arena_create(arena, GPU_BENCH_BYTES, NULL, &err), &err);
	gpu_bench_must(gpu_arena_fill(arena, &other, 3, &err), &err);
	gpu_bench_must(gpu_arena_export(arena, fds, &err), &err);
	*scrap = (struct gpu_arena_scrap){ .shape = arena->shape,
		                           .fds = fds,
		                           .n_fds = arena->n_chunks };
	gpu_arena_drop(arena);
}

/* Makes the rest, over @scrap if any. Checks that each byte is right, and that none was copied
 * twice. */
static void complete(struct gpu_arena *arena, const struct gpu_arena_scrap *scrap,
                     unsigned int n_ahead)
{
	struct asked asked = { 0 };
	const struct gpu_copy_source rest = { .read = read_asked, .context = &asked };
	size_t ahead_bytes = gpu_arena_ahead_bytes(arena);
	struct err err = ERR_NULL;
	char canary[GPU_ARENA_CANARY_HEX];
	int fds[PROTO_CHUNKS_MAX];

	assert_int_equal(arena->n_ahead, n_ahead);
	gpu_bench_must(gpu_arena_create(arena, GPU_BENCH_BYTES, scrap, &err), &err);
	assert_int_equal(arena->n_kept, scrap ? 3 - n_ahead : 0);
	gpu_bench_must(gpu_arena_fill(arena, &rest, 3, &err), &err);
	assert_int_equal(asked.bytes, ahead_bytes
	                                      ? arena->shape.mapped_bytes - ahead_bytes
	                                      : GPU_BENCH_BYTES);
	gpu_bench_must(gpu_arena_canary(arena, canary, &err), &err);
	gpu_bench_must(gpu_arena_export(arena, fds, &err), &err);
	gpu_bench_must(gpu_arena_seal(arena, &err), &err);
	gpu_bench_check(arena);
	gpu_arena_drop(arena);
	gpu_bench_close_all(fds, scrap ? n_ahead : 3);
}

/* The last chunks are made first, the others beside them or over scrap. */
static void test_prefill(void **state)
{
	static const struct {
		size_t limit_mib;
		unsigned int n_ahead;
	} rows[] = { { 0, 0 }, { 5, 0 }, { 6, 1 }, { 37, 1 }, { 38, 2 }, { 70, 3 } };

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		bool has_scrap = i % 2;
		struct gpu_arena arena;
		struct gpu_arena_scrap scrap;
		struct err err = ERR_NULL;
		int fds[PROTO_CHUNKS_MAX];
		size_t base;

		gpu_bench_init(&arena);
		base = gpu_bench_used(&arena);
		if (has_scrap)
			make_scrap(&arena, &scrap, fds);
		gpu_bench_must(gpu_arena_prefill(&arena, GPU_BENCH_BYTES,
		                                 rows[i / 2].limit_mib * MIB,
		                                 &gpu_bench_source, 3, &err),
		               &err);
		assert_in_range(gpu_arena_ahead_bytes(&arena), 0,
		                rows[i / 2].limit_mib * MIB);
		complete(&arena, has_scrap ? &scrap : NULL, rows[i / 2].n_ahead);
		if (has_scrap)
			gpu_bench_close_all(fds, 3);
		assert_in_range(gpu_bench_used(&arena), 0, base + 16 * MIB);
		gpu_arena_fini(&arena);
	}
}

/* The source ends after the last chunk and a piece of the one before: that one is not kept. */
static void test_prefill_is_cut(void **state)
{
	struct asked asked = { .cut_after = 2 };
	const struct gpu_copy_source cut = { .read = read_asked,
		                             .is_cut = is_cut,
		                             .context = &asked };
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	size_t base;

	(void)state;
	gpu_bench_init(&arena);
	base = gpu_bench_used(&arena);
	gpu_bench_must(gpu_arena_prefill(&arena, GPU_BENCH_BYTES, GPU_BENCH_BYTES * 2,
	                                 &cut, 1, &err),
	               &err);
	assert_int_equal(asked.pieces, 2);
	assert_int_equal(asked.bytes, GPU_BENCH_BYTES - 64 * MIB + 8 * MIB);
	assert_in_range(gpu_bench_used(&arena), base + 6 * MIB,
	                base + 6 * MIB + 16 * MIB);
	complete(&arena, NULL, 1);
	gpu_arena_fini(&arena);
}

/* Another process has taken the room: the chunks that fit are made, at once. */
static void test_prefill_finds_no_room(void **state)
{
	const struct gpu_copy_source bad = { .read = gpu_bench_read_nothing };
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	uint64_t begun_ns = clock_now_ns();

	(void)state;
	if (gpu_bench_is_real)
		skip();
	assert_int_equal(setenv("NVIDIA_FAKE_MIB", "311", 1),
	                 0); /* 256 MiB are the driver's */
	gpu_bench_init(&arena);
	gpu_bench_must(gpu_arena_prefill(&arena, GPU_BENCH_BYTES, GPU_BENCH_BYTES * 2,
	                                 &gpu_bench_source, 3, &err),
	               &err);
	assert_int_equal(gpu_bench_used(&arena), (16 + 38) * MIB);
	assert_string_equal(err.text, "");
	assert_true(clock_now_ns() - begun_ns < GPU_ARENA_WAIT_NS);
	assert_int_equal(unsetenv("NVIDIA_FAKE_MIB"), 0);
	complete(&arena, NULL, 2);
	gpu_bench_faults("oom 1000\n");
	gpu_bench_must(gpu_arena_prefill(&arena, GPU_BENCH_BYTES, GPU_BENCH_BYTES * 2,
	                                 &gpu_bench_source, 3, &err),
	               &err);
	gpu_bench_faults("");
	complete(&arena, NULL, 0);
	/* Any other failure leaves nothing. */
	assert_int_equal(gpu_arena_prefill(&arena, GPU_BENCH_BYTES, GPU_BENCH_BYTES * 2,
	                                   &bad, 3, &err),
	                 -EIO);
	assert_int_equal(gpu_bench_used(&arena), 16 * MIB);
	complete(&arena, NULL, 0);
	gpu_bench_faults("no-vmm\n");
	assert_int_equal(gpu_arena_prefill(&arena, GPU_BENCH_BYTES, GPU_BENCH_BYTES * 2,
	                                   &gpu_bench_source, 3, &err),
	                 GPU_E_UNSUPPORTED);
	gpu_bench_faults("");
	complete(&arena, NULL, 0);
	gpu_arena_fini(&arena);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefill),
		cmocka_unit_test(test_prefill_is_cut),
		cmocka_unit_test(test_prefill_finds_no_room),
	};

	gpu_bench_read_arguments(argc, argv);
	return cmocka_run_group_tests(tests, gpu_bench_enter, gpu_bench_leave);
}
