/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/loader/gpu/gpu_bench.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

unsigned char *gpu_bench_content;
bool gpu_bench_is_real;

static char control[] = "/tmp/moult-gpu-bench-XXXXXX";

void gpu_bench_read_arguments(int argc, char **argv)
{
	gpu_bench_is_real = argc > 1 && strcmp(argv[1], "real") == 0;
}

int gpu_bench_enter(void **state)
{
	char machine[16];
	int fd = mkstemp(control);

	(void)state;
	if (fd < 0 || close(fd) < 0)
		return -1;
	/* The fake card counts only processes of this name. */
	(void)prctl(PR_SET_NAME, "moult-test");
	(void)snprintf(machine, sizeof(machine), "u%d", (int)getpid());
	gpu_bench_content = malloc(GPU_BENCH_BYTES);
	if (!gpu_bench_content || setenv("NVIDIA_FAKE_CONTROL", control, 1) < 0 ||
	    setenv("NVIDIA_FAKE_MACHINE", machine, 1) < 0)
		return -1;
	for (size_t i = 0; i < GPU_BENCH_BYTES; i++)
		gpu_bench_content[i] = (unsigned char)(i * UINT64_C(2654435761) >> 13);
	return 0;
}

int gpu_bench_leave(void **state)
{
	(void)state;
	free(gpu_bench_content);
	return unlink(control);
}

/* What is copied */

int gpu_bench_read_content(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	memcpy(buffer, gpu_bench_content + at, bytes);
	return 0;
}

const struct gpu_copy_source gpu_bench_source = { .read = gpu_bench_read_content };

int gpu_bench_read_nothing(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	(void)buffer;
	(void)bytes;
	return at < 40 * MIB ? 0 : -EIO;
}

/* The card */

void gpu_bench_faults(const char *lines)
{
	FILE *file = fopen(getenv("NVIDIA_FAKE_CONTROL"), "we");

	assert_non_null(file);
	(void)fputs(lines, file);
	(void)fclose(file);
}

void gpu_bench_must(int r, const struct err *err)
{
	if (r)
		fail_msg("%d: %s", r, err->text);
}

void gpu_bench_init(struct gpu_arena *arena)
{
	struct err err = ERR_NULL;

	gpu_bench_must(gpu_arena_init(arena, 0, GPU_ARENA_WAIT_NS, &err), &err);
}

void gpu_bench_check(const struct gpu_arena *arena)
{
	unsigned char *copy = malloc(GPU_BENCH_BYTES);

	assert_non_null(copy);
	assert_int_equal(gpu_arena_read(arena, 0, copy, GPU_BENCH_BYTES), 0);
	assert_memory_equal(copy, gpu_bench_content, GPU_BENCH_BYTES);
	free(copy);
}

unsigned int gpu_bench_make(struct gpu_arena *arena, int *ret_fds)
{
	struct err err = ERR_NULL;

	gpu_bench_must(gpu_arena_create(arena, GPU_BENCH_BYTES, NULL, &err), &err);
	gpu_bench_must(gpu_arena_fill(arena, &gpu_bench_source, 3, &err), &err);
	gpu_bench_must(gpu_arena_export(arena, ret_fds, &err), &err);
	gpu_bench_must(gpu_arena_seal(arena, &err), &err);
	return arena->n_chunks;
}

void gpu_bench_close_all(int *fds, unsigned int n_fds)
{
	for (unsigned int i = 0; i < n_fds; i++)
		assert_int_equal(close(fds[i]), 0);
}

size_t gpu_bench_used(const struct gpu_arena *arena)
{
	int (*info)(size_t * ret_free, size_t * ret_total) = NULL;
	void *symbol = dlsym(arena->card.cuda.dl, "cuMemGetInfo_v2");
	size_t free_bytes = 0;
	size_t total_bytes = 0;

	memcpy(&info, &symbol, sizeof(info));
	assert_int_equal(info(&free_bytes, &total_bytes), 0);
	return total_bytes - free_bytes;
}
