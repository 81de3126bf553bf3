/* SPDX-License-Identifier: Apache-2.0 */

/* Weights on a card: who keeps them, who cannot change them, and what the driver refuses. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/loader/gpu/gpu_bench.h"

static void test_the_descriptors_keep_it(void **state)
{
	struct gpu_arena arena;
	struct gpu_arena_shape shape;
	struct err err = ERR_NULL;
	char before[GPU_ARENA_CANARY_HEX];
	char after[GPU_ARENA_CANARY_HEX];
	int fds[PROTO_CHUNKS_MAX];
	unsigned int n_fds;
	size_t base;

	(void)state;
	gpu_bench_init(&arena);
	base = gpu_bench_used(&arena);
	n_fds = gpu_bench_make(&arena, fds);
	assert_int_equal(n_fds, 3);
	gpu_bench_check(&arena);
	gpu_bench_must(gpu_arena_canary(&arena, before, &err), &err);
	for (unsigned int i = 0; i < n_fds; i++)
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	shape = arena.shape;
	gpu_arena_drop(&arena);
	assert_in_range(gpu_bench_used(&arena), base + shape.mapped_bytes,
	                base + shape.mapped_bytes + 16 * MIB);
	gpu_bench_must(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds, n_fds,
	                                &err),
	               &err);
	gpu_bench_check(&arena);
	gpu_bench_must(gpu_arena_canary(&arena, after, &err), &err);
	assert_string_equal(before, after);
	gpu_bench_close_all(fds, n_fds);
	gpu_bench_check(&arena); /* the mapping alone keeps them */
	gpu_arena_drop(&arena);
	assert_in_range(gpu_bench_used(&arena), 0, base + 16 * MIB);
	gpu_arena_fini(&arena);
}

/* Forks; a failure in the child ends it, instead of running the other tests. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		(void)setenv("CMOCKA_TEST_ABORT", "1", 1);
	return pid;
}

/* Another process is killed while it has everything mapped. */
static void test_killed(void **state)
{
	int pipes[2];
	pid_t pid;
	int status;
	struct gpu_arena arena;
	char byte = 0;

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork_child();
	if (pid == 0) {
		int fds[PROTO_CHUNKS_MAX];

		gpu_bench_init(&arena);
		(void)gpu_bench_make(&arena, fds);
		(void)!write(pipes[1], &byte, 1);
		for (;;)
			(void)pause();
	}
	gpu_bench_close_all(&pipes[1], 1);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	gpu_bench_init(&arena);
	assert_in_range(gpu_bench_used(&arena), 0, GPU_BENCH_BYTES / 2);
	gpu_arena_fini(&arena);
	gpu_bench_close_all(pipes, 1);
}

#define SEALED_EXIT 42

/* Writes to weights that this process has made, or has taken from another. Does not return. */
static _Noreturn void write_to_sealed(bool is_imported)
{
	const unsigned char zero = 0;
	struct err err = ERR_NULL;
	struct gpu_arena arena;
	struct gpu_arena_shape shape;
	int fds[PROTO_CHUNKS_MAX];
	unsigned int n_fds;
	int code;

	gpu_bench_init(&arena);
	n_fds = gpu_bench_make(&arena, fds);
	if (is_imported) {
		shape = arena.shape;
		gpu_arena_drop(&arena);
		gpu_bench_must(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds,
		                                n_fds, &err),
		               &err);
	}
	(void)signal(SIGSEGV, SIG_DFL);
	code = arena.card.cuda.to_device(arena.address, &zero, 1);
	if (code == CUDA_SUCCESS_CODE)
		code = arena.card.cuda.synchronize();
	_exit(code == CUDA_SUCCESS_CODE ? 0 : SEALED_EXIT);
}

/* Writes in a child, because the fault ends the process, or its context. */
static void test_sealed(void **state)
{
	(void)state;
	for (int is_imported = 0; is_imported <= 1; is_imported++) {
		int status;
		pid_t pid = fork_child();

		if (pid == 0)
			write_to_sealed(is_imported);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFSIGNALED(status))
			assert_true(WTERMSIG(status) == SIGSEGV ||
			            WTERMSIG(status) == SIGBUS);
		else
			assert_int_equal(WEXITSTATUS(status), SEALED_EXIT);
	}
}

static void test_private(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	size_t base;

	(void)state;
	gpu_bench_init(&arena);
	base = gpu_bench_used(&arena);
	gpu_bench_must(gpu_arena_create_private(&arena, GPU_BENCH_BYTES, &err), &err);
	gpu_bench_must(gpu_arena_fill(&arena, &gpu_bench_source, 3, &err), &err);
	gpu_bench_check(&arena);
	gpu_arena_drop(&arena);
	assert_in_range(gpu_bench_used(&arena), 0, base + 16 * MIB);
	gpu_arena_fini(&arena);
}

static void test_a_changed_byte_shows(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	char before[GPU_ARENA_CANARY_HEX];
	char after[GPU_ARENA_CANARY_HEX];
	const unsigned char other =
		(unsigned char)~gpu_bench_content[GPU_BENCH_BYTES - 1];

	(void)state;
	gpu_bench_init(&arena);
	gpu_bench_must(gpu_arena_create(&arena, GPU_BENCH_BYTES, NULL, &err), &err);
	gpu_bench_must(gpu_arena_fill(&arena, &gpu_bench_source, 3, &err), &err);
	gpu_bench_must(gpu_arena_canary(&arena, before, &err), &err);
	assert_int_equal(arena.card.cuda.to_device(arena.address + GPU_BENCH_BYTES - 1,
	                                           &other, 1),
	                 0);
	gpu_bench_must(gpu_arena_canary(&arena, after, &err), &err);
	assert_string_not_equal(before, after);
	gpu_arena_fini(&arena);
}

static void test_memory_that_comes_late(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	int fds[PROTO_CHUNKS_MAX];

	(void)state;
	if (gpu_bench_is_real)
		skip();
	gpu_bench_faults("oom 3\n");
	gpu_bench_init(&arena);
	gpu_bench_close_all(fds, gpu_bench_make(&arena, fds));
	gpu_bench_check(&arena);
	gpu_arena_fini(&arena);
	gpu_bench_faults("");
	/* Memory runs out. */
	assert_int_equal(setenv("NVIDIA_FAKE_MIB", "300", 1), 0);
	gpu_bench_init(&arena);
	assert_int_equal(gpu_arena_create(&arena, GPU_BENCH_BYTES, NULL, &err),
	                 GPU_E_MEMORY);
	assert_non_null(strstr(err.text, "out of memory"));
	assert_int_equal(gpu_bench_used(&arena), 16 * MIB); /* the context */
	gpu_arena_fini(&arena);
	assert_int_equal(unsetenv("NVIDIA_FAKE_MIB"), 0);
}

static void test_what_the_driver_refuses(void **state)
{
	struct gpu_arena arena;
	struct gpu_arena_shape shape;
	struct err err = ERR_NULL;
	int fds[PROTO_CHUNKS_MAX];
	unsigned int n_fds;

	(void)state;
	if (gpu_bench_is_real)
		skip();
	gpu_bench_init(&arena);
	n_fds = gpu_bench_make(&arena, fds);
	shape = arena.shape;
	gpu_arena_drop(&arena);
	gpu_bench_faults("no-import\n");
	assert_int_equal(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds, n_fds,
	                                  &err),
	                 GPU_E_DEVICE);
	assert_non_null(strstr(err.text, "CUDA_ERROR_NOT_SUPPORTED"));
	gpu_bench_faults("");
	assert_int_equal(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds, n_fds - 1,
	                                  &err),
	                 GPU_E_DAMAGED);
	gpu_bench_must(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds, n_fds,
	                                &err),
	               &err);
	gpu_arena_drop(&arena);
	gpu_bench_close_all(fds, n_fds);
	fds[0] = 0; /* no memory at all */
	shape.mapped_bytes = shape.chunk_bytes = GPU_BENCH_BYTES;
	assert_int_equal(gpu_arena_import(&arena, GPU_BENCH_BYTES, &shape, fds, 1, &err),
	                 GPU_E_DEVICE);
	gpu_bench_faults("no-vmm\n");
	assert_int_equal(gpu_arena_create(&arena, GPU_BENCH_BYTES, NULL, &err),
	                 GPU_E_UNSUPPORTED);
	assert_non_null(strstr(err.text, "virtual memory management"));
	gpu_bench_must(gpu_arena_create_private(&arena, GPU_BENCH_BYTES, &err), &err);
	gpu_bench_faults("no-pin\n");
	gpu_bench_must(gpu_arena_fill(&arena, &gpu_bench_source, 3, &err), &err);
	gpu_bench_check(&arena);
	gpu_arena_fini(&arena);
	gpu_bench_faults("");
}

/* Scrap chunks become the first of the next arena, where they fit. */
static void test_scrap(void **state)
{
	static const size_t sizes[] = { GPU_BENCH_BYTES, GPU_BENCH_BYTES - 3 * MIB,
		                        33 * MIB, 4 * GPU_BENCH_BYTES };
	static const unsigned int kept[] = { 3, 2, 1, 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct gpu_arena arena;
		struct err err = ERR_NULL;
		int fds[PROTO_CHUNKS_MAX];
		int fresh[PROTO_CHUNKS_MAX];
		struct gpu_arena_scrap scrap = { .fds = fds };
		size_t base;

		gpu_bench_init(&arena);
		base = gpu_bench_used(&arena);
		scrap.n_fds = gpu_bench_make(&arena, fds);
		scrap.shape = arena.shape;
		gpu_arena_drop(&arena);
		gpu_bench_must(gpu_arena_create(&arena, sizes[i], &scrap, &err), &err);
		assert_int_equal(arena.n_kept, kept[i]);
		gpu_bench_must(gpu_arena_export(&arena, fresh, &err), &err);
		gpu_bench_close_all(fresh, arena.n_chunks - arena.n_kept);
		if (sizes[i] == GPU_BENCH_BYTES) {
			assert_in_range(gpu_bench_used(&arena), 0,
			                base + GPU_BENCH_BYTES + 16 * MIB);
			gpu_bench_must(gpu_arena_fill(&arena, &gpu_bench_source, 3, &err),
			               &err);
			gpu_bench_check(&arena);
		}
		gpu_bench_must(gpu_arena_seal(&arena, &err), &err);
		gpu_bench_close_all(fds, (unsigned int)scrap.n_fds);
		gpu_arena_fini(&arena);
	}
}

static void test_a_file_that_cannot_be_read(void **state)
{
	const struct gpu_copy_source bad = { .read = gpu_bench_read_nothing };
	struct gpu_arena arena;
	struct err err = ERR_NULL;

	(void)state;
	gpu_bench_init(&arena);
	gpu_bench_must(gpu_arena_create(&arena, GPU_BENCH_BYTES, NULL, &err), &err);
	assert_int_equal(gpu_arena_fill(&arena, &bad, 3, &err), -EIO);
	gpu_arena_fini(&arena);
}

static int (*real_event_new)(struct cuda_event **ret_event, unsigned int flags);
static _Atomic unsigned int event_flags;

/* Counts events, and passes the call on to the driver. */
static int note_event_new(struct cuda_event **ret_event, unsigned int flags)
{
	event_flags = flags;
	return real_event_new(ret_event, flags);
}

static _Atomic int n_reading;

/* Waits until a second thread reads, too. */
static int read_beside(void *context, size_t at, void *buffer, size_t bytes)
{
	const struct timespec pause = { .tv_nsec = CLOCK_NS_PER_MS };
	uint64_t until_ns = clock_now_ns() + 60 * CLOCK_NS_PER_SEC;

	n_reading++;
	while (n_reading < 2 && clock_now_ns() < until_ns)
		(void)nanosleep(&pause, NULL);
	return n_reading < 2 ? -ETIMEDOUT
	                     : gpu_bench_read_content(context, at, buffer, bytes);
}

/* Without a number of threads as many copy as are of use; a thread that waits for the card
 * sleeps. */
static void test_whoever_copies(void **state)
{
	const struct gpu_copy_source beside = { .read = read_beside };
	struct gpu_arena arena;
	struct err err = ERR_NULL;

	(void)state;
	gpu_bench_init(&arena);
	real_event_new = arena.card.cuda.event_new;
	arena.card.cuda.event_new = note_event_new;
	gpu_bench_must(gpu_arena_create(&arena, GPU_BENCH_BYTES, NULL, &err), &err);
	gpu_bench_must(gpu_arena_fill(&arena,
	                              sysconf(_SC_NPROCESSORS_ONLN) > 1
	                                      ? &beside
	                                      : &gpu_bench_source,
	                              0, &err),
	               &err);
	gpu_bench_check(&arena);
	assert_int_equal(event_flags, CUDA_EVENT_BLOCKING | CUDA_EVENT_NO_TIMING);
	gpu_arena_fini(&arena);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		/* The first test: no process may fork once it has used a real driver. */
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_the_descriptors_keep_it),
		cmocka_unit_test(test_private),
		cmocka_unit_test(test_a_changed_byte_shows),
		cmocka_unit_test(test_memory_that_comes_late),
		cmocka_unit_test(test_scrap),
		cmocka_unit_test(test_what_the_driver_refuses),
		cmocka_unit_test(test_a_file_that_cannot_be_read),
		cmocka_unit_test(test_whoever_copies),
	};

	gpu_bench_read_arguments(argc, argv);
	return cmocka_run_group_tests(tests, gpu_bench_enter, gpu_bench_leave);
}
