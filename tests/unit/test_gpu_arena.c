/* SPDX-License-Identifier: Apache-2.0 */

/* Weights on a card: an arena over the libcuda.so.1 that the linker finds. With the argument
 * "real" that may be NVIDIA's: tests that need the fake's faults are left out then. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/gpu/arena.h"

#define MIB ((size_t)1 << 20)
/* A file of three chunks, the last one short, and no multiple of anything. */
#define BYTES (2 * 32 * MIB + 5 * MIB + 4321)

static unsigned char *content;
static bool is_real;

static int read_content(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	memcpy(buffer, content + at, bytes);
	return 0;
}

static const struct gpu_copy_source source = { .read = read_content };

static void faults(const char *lines)
{
	FILE *file = fopen(getenv("NVIDIA_FAKE_CONTROL"), "we");

	assert_non_null(file);
	(void)fputs(lines, file);
	(void)fclose(file);
}

static void must(int r, const struct err *err)
{
	if (r)
		fail_msg("%d: %s", r, err->text);
}

static void init(struct gpu_arena *arena)
{
	struct err err = ERR_NULL;

	must(gpu_arena_init(arena, 0, GPU_ARENA_WAIT_NS, &err), &err);
}

/* Checks that the card has the file's bytes. */
static void check(const struct gpu_arena *arena)
{
	unsigned char *copy = malloc(BYTES);

	assert_non_null(copy);
	assert_int_equal(gpu_arena_read(arena, 0, copy, BYTES), 0);
	assert_memory_equal(copy, content, BYTES);
	free(copy);
}

/* Makes chunks: filled, exported and sealed. */
static unsigned int make(struct gpu_arena *arena, int *ret_fds)
{
	struct err err = ERR_NULL;

	must(gpu_arena_create(arena, BYTES, NULL, &err), &err);
	must(gpu_arena_fill(arena, &source, 3, &err), &err);
	must(gpu_arena_export(arena, ret_fds, &err), &err);
	must(gpu_arena_seal(arena, &err), &err);
	return arena->n_chunks;
}

static void close_all(int *fds, unsigned int n_fds)
{
	for (unsigned int i = 0; i < n_fds; i++)
		assert_int_equal(close(fds[i]), 0);
}

static size_t used(const struct gpu_arena *arena)
{
	int (*info)(size_t * ret_free, size_t * ret_total) = NULL;
	void *symbol = dlsym(arena->card.cuda.dl, "cuMemGetInfo_v2");
	size_t free_bytes = 0;
	size_t total_bytes = 0;

	memcpy(&info, &symbol, sizeof(info));
	assert_int_equal(info(&free_bytes, &total_bytes), 0);
	return total_bytes - free_bytes;
}

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
	init(&arena);
	base = used(&arena);
	n_fds = make(&arena, fds);
	assert_int_equal(n_fds, 3);
	check(&arena);
	must(gpu_arena_canary(&arena, before, &err), &err);
	for (unsigned int i = 0; i < n_fds; i++)
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	shape = arena.shape;
	gpu_arena_drop(&arena);
	assert_in_range(used(&arena), base + shape.mapped_bytes,
	                base + shape.mapped_bytes + 16 * MIB);
	must(gpu_arena_import(&arena, BYTES, &shape, fds, n_fds, &err), &err);
	check(&arena);
	must(gpu_arena_canary(&arena, after, &err), &err);
	assert_string_equal(before, after);
	close_all(fds, n_fds);
	check(&arena); /* the mapping alone keeps them */
	gpu_arena_drop(&arena);
	assert_in_range(used(&arena), 0, base + 16 * MIB);
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

		init(&arena);
		(void)make(&arena, fds);
		(void)!write(pipes[1], &byte, 1);
		for (;;)
			(void)pause();
	}
	close_all(&pipes[1], 1);
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	init(&arena);
	assert_in_range(used(&arena), 0, BYTES / 2);
	gpu_arena_fini(&arena);
	close_all(pipes, 1);
}

#define SEALED_EXIT 42

/* Writes in a child, because the fault ends the process, or its context. */
static void test_sealed(void **state)
{
	int status;
	pid_t pid = fork_child();

	(void)state;
	if (pid == 0) {
		struct gpu_arena arena;
		int fds[PROTO_CHUNKS_MAX];
		const unsigned char zero = 0;
		int code;

		init(&arena);
		(void)make(&arena, fds);
		(void)signal(SIGSEGV, SIG_DFL);
		code = arena.card.cuda.to_device(arena.address, &zero, 1);
		if (code == CUDA_SUCCESS_CODE)
			code = arena.card.cuda.synchronize();
		_exit(code == CUDA_SUCCESS_CODE ? 0 : SEALED_EXIT);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		assert_true(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
	else
		assert_int_equal(WEXITSTATUS(status), SEALED_EXIT);
}

static void test_private(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	size_t base;

	(void)state;
	init(&arena);
	base = used(&arena);
	must(gpu_arena_create_private(&arena, BYTES, &err), &err);
	must(gpu_arena_fill(&arena, &source, 3, &err), &err);
	check(&arena);
	gpu_arena_drop(&arena);
	assert_in_range(used(&arena), 0, base + 16 * MIB);
	gpu_arena_fini(&arena);
}

static void test_a_changed_byte_shows(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	char before[GPU_ARENA_CANARY_HEX];
	char after[GPU_ARENA_CANARY_HEX];
	const unsigned char other = (unsigned char)~content[BYTES - 1];

	(void)state;
	init(&arena);
	must(gpu_arena_create(&arena, BYTES, NULL, &err), &err);
	must(gpu_arena_fill(&arena, &source, 3, &err), &err);
	must(gpu_arena_canary(&arena, before, &err), &err);
	assert_int_equal(arena.card.cuda.to_device(arena.address + BYTES - 1, &other, 1),
	                 0);
	must(gpu_arena_canary(&arena, after, &err), &err);
	assert_string_not_equal(before, after);
	gpu_arena_fini(&arena);
}

static void test_memory_that_comes_late(void **state)
{
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	int fds[PROTO_CHUNKS_MAX];

	(void)state;
	if (is_real)
		skip();
	faults("oom 3\n");
	init(&arena);
	close_all(fds, make(&arena, fds));
	check(&arena);
	gpu_arena_fini(&arena);
	faults("");
	/* Memory runs out. */
	assert_int_equal(setenv("NVIDIA_FAKE_MIB", "300", 1), 0);
	init(&arena);
	assert_int_equal(gpu_arena_create(&arena, BYTES, NULL, &err), GPU_E_MEMORY);
	assert_non_null(strstr(err.text, "out of memory"));
	assert_int_equal(used(&arena), 16 * MIB); /* the context */
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
	if (is_real)
		skip();
	init(&arena);
	n_fds = make(&arena, fds);
	shape = arena.shape;
	gpu_arena_drop(&arena);
	faults("no-import\n");
	assert_int_equal(gpu_arena_import(&arena, BYTES, &shape, fds, n_fds, &err),
	                 GPU_E_DEVICE);
	assert_non_null(strstr(err.text, "CUDA_ERROR_NOT_SUPPORTED"));
	faults("");
	assert_int_equal(gpu_arena_import(&arena, BYTES, &shape, fds, n_fds - 1, &err),
	                 GPU_E_DAMAGED);
	must(gpu_arena_import(&arena, BYTES, &shape, fds, n_fds, &err), &err);
	gpu_arena_drop(&arena);
	close_all(fds, n_fds);
	fds[0] = 0; /* no memory at all */
	shape.mapped_bytes = shape.chunk_bytes = BYTES;
	assert_int_equal(gpu_arena_import(&arena, BYTES, &shape, fds, 1, &err),
	                 GPU_E_DEVICE);
	faults("no-vmm\n");
	assert_int_equal(gpu_arena_create(&arena, BYTES, NULL, &err), GPU_E_UNSUPPORTED);
	assert_non_null(strstr(err.text, "virtual memory management"));
	must(gpu_arena_create_private(&arena, BYTES, &err), &err);
	faults("no-pin\n");
	must(gpu_arena_fill(&arena, &source, 3, &err), &err);
	check(&arena);
	gpu_arena_fini(&arena);
	faults("");
}

/* Scrap chunks become the first of the next arena, where they fit. */
static void test_scrap(void **state)
{
	static const size_t sizes[] = { BYTES, BYTES - 3 * MIB, 33 * MIB, 4 * BYTES };
	static const unsigned int kept[] = { 3, 2, 1, 2 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct gpu_arena arena;
		struct err err = ERR_NULL;
		int fds[PROTO_CHUNKS_MAX];
		int fresh[PROTO_CHUNKS_MAX];
		struct gpu_arena_scrap scrap = { .fds = fds };
		size_t base;

		init(&arena);
		base = used(&arena);
		scrap.n_fds = make(&arena, fds);
		scrap.shape = arena.shape;
		gpu_arena_drop(&arena);
		must(gpu_arena_create(&arena, sizes[i], &scrap, &err), &err);
		assert_int_equal(arena.n_kept, kept[i]);
		must(gpu_arena_export(&arena, fresh, &err), &err);
		close_all(fresh, arena.n_chunks - arena.n_kept);
		if (sizes[i] == BYTES) {
			assert_in_range(used(&arena), 0, base + BYTES + 16 * MIB);
			must(gpu_arena_fill(&arena, &source, 3, &err), &err);
			check(&arena);
		}
		must(gpu_arena_seal(&arena, &err), &err);
		close_all(fds, (unsigned int)scrap.n_fds);
		gpu_arena_fini(&arena);
	}
}

static int read_nothing(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	(void)buffer;
	(void)bytes;
	return at < 40 * MIB ? 0 : -EIO;
}

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
	return read_content(NULL, at, buffer, bytes);
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
		((unsigned char *)buffer)[i] = (unsigned char)~content[at + i];
	return 0;
}

/* Makes scrap: chunks full of other bytes. */
static void make_scrap(struct gpu_arena *arena, struct gpu_arena_scrap *scrap, int *fds)
{
	const struct gpu_copy_source other = { .read = read_other };
	struct err err = ERR_NULL;

	must(gpu_arena_create(arena, BYTES, NULL, &err), &err);
	must(gpu_arena_fill(arena, &other, 3, &err), &err);
	must(gpu_arena_export(arena, fds, &err), &err);
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
	must(gpu_arena_create(arena, BYTES, scrap, &err), &err);
	assert_int_equal(arena->n_kept, scrap ? 3 - n_ahead : 0);
	must(gpu_arena_fill(arena, &rest, 3, &err), &err);
	assert_int_equal(asked.bytes,
	                 ahead_bytes ? arena->shape.mapped_bytes - ahead_bytes : BYTES);
	must(gpu_arena_canary(arena, canary, &err), &err);
	must(gpu_arena_export(arena, fds, &err), &err);
	must(gpu_arena_seal(arena, &err), &err);
	check(arena);
	gpu_arena_drop(arena);
	close_all(fds, scrap ? n_ahead : 3);
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

		init(&arena);
		base = used(&arena);
		if (has_scrap)
			make_scrap(&arena, &scrap, fds);
		must(gpu_arena_prefill(&arena, BYTES, rows[i / 2].limit_mib * MIB,
		                       &source, 3, &err),
		     &err);
		assert_in_range(gpu_arena_ahead_bytes(&arena), 0,
		                rows[i / 2].limit_mib * MIB);
		complete(&arena, has_scrap ? &scrap : NULL, rows[i / 2].n_ahead);
		if (has_scrap)
			close_all(fds, 3);
		assert_in_range(used(&arena), 0, base + 16 * MIB);
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
	init(&arena);
	base = used(&arena);
	must(gpu_arena_prefill(&arena, BYTES, BYTES * 2, &cut, 1, &err), &err);
	assert_int_equal(asked.pieces, 2);
	assert_int_equal(asked.bytes, BYTES - 64 * MIB + 8 * MIB);
	assert_in_range(used(&arena), base + 6 * MIB, base + 6 * MIB + 16 * MIB);
	complete(&arena, NULL, 1);
	gpu_arena_fini(&arena);
}

/* Another process has taken the room: the chunks that fit are made, at once. */
static void test_prefill_finds_no_room(void **state)
{
	const struct gpu_copy_source bad = { .read = read_nothing };
	struct gpu_arena arena;
	struct err err = ERR_NULL;
	uint64_t begun_ns = clock_now_ns();

	(void)state;
	if (is_real)
		skip();
	assert_int_equal(setenv("NVIDIA_FAKE_MIB", "311", 1),
	                 0); /* 256 MiB are the driver's */
	init(&arena);
	must(gpu_arena_prefill(&arena, BYTES, BYTES * 2, &source, 3, &err), &err);
	assert_int_equal(used(&arena), (16 + 38) * MIB);
	assert_string_equal(err.text, "");
	assert_true(clock_now_ns() - begun_ns < GPU_ARENA_WAIT_NS);
	assert_int_equal(unsetenv("NVIDIA_FAKE_MIB"), 0);
	complete(&arena, NULL, 2);
	faults("oom 1000\n");
	must(gpu_arena_prefill(&arena, BYTES, BYTES * 2, &source, 3, &err), &err);
	faults("");
	complete(&arena, NULL, 0);
	/* Any other failure leaves nothing. */
	assert_int_equal(gpu_arena_prefill(&arena, BYTES, BYTES * 2, &bad, 3, &err),
	                 -EIO);
	assert_int_equal(used(&arena), 16 * MIB);
	complete(&arena, NULL, 0);
	faults("no-vmm\n");
	assert_int_equal(gpu_arena_prefill(&arena, BYTES, BYTES * 2, &source, 3, &err),
	                 GPU_E_UNSUPPORTED);
	faults("");
	complete(&arena, NULL, 0);
	gpu_arena_fini(&arena);
}

static void test_a_file_that_cannot_be_read(void **state)
{
	const struct gpu_copy_source bad = { .read = read_nothing };
	struct gpu_arena arena;
	struct err err = ERR_NULL;

	(void)state;
	init(&arena);
	must(gpu_arena_create(&arena, BYTES, NULL, &err), &err);
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
	return n_reading < 2 ? -ETIMEDOUT : read_content(context, at, buffer, bytes);
}

/* Without a number of threads as many copy as are of use; a thread that waits for the card
 * sleeps. */
static void test_whoever_copies(void **state)
{
	const struct gpu_copy_source beside = { .read = read_beside };
	struct gpu_arena arena;
	struct err err = ERR_NULL;

	(void)state;
	init(&arena);
	real_event_new = arena.card.cuda.event_new;
	arena.card.cuda.event_new = note_event_new;
	must(gpu_arena_create(&arena, BYTES, NULL, &err), &err);
	must(gpu_arena_fill(&arena, sysconf(_SC_NPROCESSORS_ONLN) > 1 ? &beside : &source,
	                    0, &err),
	     &err);
	check(&arena);
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
		cmocka_unit_test(test_prefill),
		cmocka_unit_test(test_prefill_is_cut),
		cmocka_unit_test(test_prefill_finds_no_room),
		cmocka_unit_test(test_what_the_driver_refuses),
		cmocka_unit_test(test_a_file_that_cannot_be_read),
		cmocka_unit_test(test_whoever_copies),
	};
	char control[] = "/tmp/moult-gpu-arena-XXXXXX";
	char machine[16];
	int fd = mkstemp(control);
	int failed;

	is_real = argc > 1 && strcmp(argv[1], "real") == 0;
	/* The fake card counts only processes of this name. */
	(void)prctl(PR_SET_NAME, "moult-test");
	(void)snprintf(machine, sizeof(machine), "u%d", (int)getpid());
	content = malloc(BYTES);
	if (fd < 0 || !content || setenv("NVIDIA_FAKE_CONTROL", control, 1) < 0 ||
	    setenv("NVIDIA_FAKE_MACHINE", machine, 1) < 0)
		return 1;
	for (size_t i = 0; i < BYTES; i++)
		content[i] = (unsigned char)(i * UINT64_C(2654435761) >> 13);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)unlink(control);
	(void)close(fd);
	free(content);
	return failed;
}
