/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A bench for weights on a card: an arena over the libcuda.so.1 that the linker finds. With the
 * argument "real" that may be NVIDIA's: cases that need the fake's faults are left out then.
 * Every failure ends the test.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/gpu/arena.h"

#define MIB ((size_t)1 << 20)
/* A file of three chunks, the last one short, and no multiple of anything. */
#define GPU_BENCH_BYTES (2 * 32 * MIB + 5 * MIB + 4321)

/* The bytes of that file. */
extern unsigned char *gpu_bench_content;
extern const struct gpu_copy_source gpu_bench_source;
/* The driver is not the fake one. */
extern bool gpu_bench_is_real;

/* To be called first in main(). */
void gpu_bench_read_arguments(int argc, char **argv);
/* Set-up and tear-down of a group. */
int gpu_bench_enter(void **state);
int gpu_bench_leave(void **state);

/* For sources of other kinds: reads from the file. */
int gpu_bench_read_content(void *context, size_t at, void *buffer, size_t bytes);
/* Fails in the second chunk. */
int gpu_bench_read_nothing(void *context, size_t at, void *buffer, size_t bytes);

/* Makes @lines the faults of the fake driver: see fakecuda.c. */
void gpu_bench_faults(const char *lines);
/* Fails with the sentence in @err unless @r is 0. */
void gpu_bench_must(int r, const struct err *err);
void gpu_bench_init(struct gpu_arena *arena);
/* Makes chunks: filled, exported and sealed. Returns how many; the caller closes @ret_fds. */
unsigned int gpu_bench_make(struct gpu_arena *arena, int *ret_fds);
void gpu_bench_close_all(int *fds, unsigned int n_fds);
/* Checks that the card has the file's bytes. */
void gpu_bench_check(const struct gpu_arena *arena);
/* The bytes of the card that are in use. */
size_t gpu_bench_used(const struct gpu_arena *arena);
