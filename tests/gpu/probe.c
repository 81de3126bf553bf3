/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a card and its driver do, seen from a process of its own: tests/gpu/run starts it, reads
 * its lines ("KEY VALUE") up to "ready", looks at the card from outside, and kills it or closes
 * its input, at which it ends in order.
 *
 *	context                                  takes a context
 *	arena MIB SOCKET [THREADS]               weights in shared chunks, which THREADS fill;
 *	                                         their descriptors go through the socket SOCKET
 *	                                         (-1: nowhere)
 *	import BYTES CHUNK MAPPED FD...          maps such chunks
 *	write BYTES CHUNK MAPPED FD...           and writes to them, which must fail
 *	bandwidth MIB                            pins main memory and copies it to the card
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loader/gpu/arena.h"
#include "shared/clock.h"

#define PROBE_MIB    ((size_t)1 << 20)
#define PROBE_COPIES 3

static unsigned char probe_block[1 << 20];

static double probe_ms(uint64_t since_ns)
{
	return clock_ns_to_ms(clock_now_ns() - since_ns);
}

static double probe_rate(size_t bytes, double ms)
{
	return ms > 0 ? (double)bytes / 1e6 / ms : 0;
}

static int probe_fail(const char *what, const char *why)
{
	(void)printf("failed %s: %s\n", what, why);
	return 1;
}

static void probe_wait(void)
{
	char byte;

	(void)puts("ready");
	(void)fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
}

static int probe_source(void *context, size_t at, void *buffer, size_t bytes)
{
	(void)context;
	for (size_t done = 0; done < bytes;) {
		size_t from = (at + done) % sizeof(probe_block);
		size_t n = sizeof(probe_block) - from;

		if (n > bytes - done)
			n = bytes - done;
		memcpy((unsigned char *)buffer + done, probe_block + from, n);
		done += n;
	}
	return 0;
}

/* The driver's start and the context's, apart. */
static int probe_open(struct gpu_arena *arena)
{
	struct cuda_library cuda;
	struct err err = ERR_NULL;
	uint64_t since_ns = clock_now_ns();
	int r = cuda_library_open(&cuda, CUDA_LIBRARY, &err);

	if (r == 0)
		(void)printf("driver_ms %.3f\n", probe_ms(since_ns));
	since_ns = clock_now_ns();
	if (r == 0)
		r = gpu_arena_init(arena, 0, GPU_ARENA_WAIT_NS, &err);
	if (r)
		return probe_fail("context", err.text);
	(void)printf("context_ms %.3f\n", probe_ms(since_ns));
	return 0;
}

static int probe_send(int socket, const int *fds, unsigned int n_fds)
{
	char byte = 0;
	union {
		char bytes[CMSG_SPACE(sizeof(int) * PROTO_CHUNKS_MAX)];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec payload = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &payload,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
	return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static int probe_share(struct gpu_arena *arena, int socket)
{
	struct err err = ERR_NULL;
	int fds[PROTO_CHUNKS_MAX];
	uint64_t since_ns = clock_now_ns();
	int r = gpu_arena_export(arena, fds, &err);

	if (r == 0)
		(void)printf("export_ms %.3f\n", probe_ms(since_ns));
	since_ns = clock_now_ns();
	if (r == 0)
		r = gpu_arena_seal(arena, &err);
	if (r)
		return probe_fail("sharing", err.text);
	(void)printf("seal_ms %.3f\n", probe_ms(since_ns));
	r = probe_send(socket, fds, arena->n_chunks);
	for (unsigned int i = 0; i < arena->n_chunks; i++)
		(void)close(fds[i]);
	return r ? probe_fail("sending descriptors", strerror(-r)) : 0;
}

static int probe_arena(struct gpu_arena *arena, size_t bytes, int socket,
                       unsigned int n_threads)
{
	const struct gpu_copy_source source = { .read = probe_source };
	char canary[GPU_ARENA_CANARY_HEX] = "";
	struct err err = ERR_NULL;
	uint64_t since_ns = clock_now_ns();
	double ms;
	int r = gpu_arena_create(arena, bytes, NULL, &err);

	if (r)
		return probe_fail("memory", err.text);
	(void)printf("create_ms %.3f\n", probe_ms(since_ns));
	since_ns = clock_now_ns();
	r = gpu_arena_fill(arena, &source, n_threads, &err);
	ms = probe_ms(since_ns);
	if (r == 0)
		r = gpu_arena_canary(arena, canary, &err);
	if (r)
		return probe_fail("filling", err.text);
	(void)printf("fill_ms %.3f\nfill_gb_s %.2f\ncanary %s\n", ms,
	             probe_rate(bytes, ms), canary);
	(void)printf("bytes %zu\nchunk %zu\nmapped %zu\n", arena->bytes,
	             arena->shape.chunk_bytes, arena->shape.mapped_bytes);
	return socket < 0 ? 0 : probe_share(arena, socket);
}

/* BYTES CHUNK MAPPED FD... */
static int probe_import(struct gpu_arena *arena, int argc, char **argv)
{
	struct gpu_arena_shape shape;
	char canary[GPU_ARENA_CANARY_HEX] = "";
	struct err err = ERR_NULL;
	int fds[PROTO_CHUNKS_MAX];
	size_t n_fds = 0;
	uint64_t since_ns;
	int r;

	if (argc < 4)
		return probe_fail("arguments", "import BYTES CHUNK MAPPED FD...");
	shape.chunk_bytes = strtoull(argv[1], NULL, 10);
	shape.mapped_bytes = strtoull(argv[2], NULL, 10);
	while (n_fds < PROTO_CHUNKS_MAX && (int)n_fds + 3 < argc) {
		fds[n_fds] = (int)strtol(argv[n_fds + 3], NULL, 10);
		n_fds++;
	}
	since_ns = clock_now_ns();
	r = gpu_arena_import(arena, strtoull(argv[0], NULL, 10), &shape, fds, n_fds,
	                     &err);
	if (r)
		return probe_fail("import", err.text);
	(void)printf("import_ms %.3f\n", probe_ms(since_ns));
	r = gpu_arena_canary(arena, canary, &err);
	(void)printf("canary %s\n", r ? err.text : canary);
	for (size_t i = 0; i < n_fds; i++)
		(void)close(fds[i]);
	return 0;
}

/* On the fake the write itself ends the process. */
static void probe_write(struct gpu_arena *arena)
{
	const unsigned char other = 0xa5;
	unsigned char there = 0;
	int code;

	(void)fflush(stdout);
	code = arena->card.cuda.to_device(arena->address, &other, 1);
	if (code == CUDA_SUCCESS_CODE)
		code = arena->card.cuda.synchronize();
	(void)printf("write %s\n", cuda_library_error(&arena->card.cuda, code));
	if (gpu_arena_read(arena, 0, &there, 1) == 0)
		(void)printf("changed %d\n", there == other);
	(void)fflush(stdout);
}

/* Of the fastest of several copies. */
static double probe_copy(struct gpu_arena *arena, const void *from, size_t bytes)
{
	double best_ms = 0;

	for (int i = 0; i < PROBE_COPIES; i++) {
		uint64_t since_ns = clock_now_ns();
		int code = arena->card.cuda.to_device(arena->address, from, bytes);
		double ms;

		if (code == CUDA_SUCCESS_CODE)
			code = arena->card.cuda.synchronize();
		if (code != CUDA_SUCCESS_CODE)
			return 0;
		ms = probe_ms(since_ns);
		if (i == 0 || ms < best_ms)
			best_ms = ms;
	}
	return probe_rate(bytes, best_ms);
}

static int probe_bandwidth(struct gpu_arena *arena, size_t bytes)
{
	struct err err = ERR_NULL;
	void *pinned = NULL;
	unsigned char *plain = malloc(bytes);
	uint64_t since_ns;
	int code;
	int r = gpu_arena_create_private(arena, bytes, &err);

	if (r || !plain) {
		free(plain);
		return probe_fail("memory", r ? err.text : "there is no main memory");
	}
	since_ns = clock_now_ns();
	code = arena->card.cuda.allocate_host(&pinned, bytes, 0);
	if (code == CUDA_SUCCESS_CODE) {
		(void)printf("pin_gb_s %.2f\n", probe_rate(bytes, probe_ms(since_ns)));
		memset(pinned, 1, bytes);
		(void)printf("pinned_gb_s %.2f\n", probe_copy(arena, pinned, bytes));
		since_ns = clock_now_ns();
		(void)arena->card.cuda.free_host(pinned);
		(void)printf("unpin_gb_s %.2f\n", probe_rate(bytes, probe_ms(since_ns)));
	}
	memset(plain, 2, bytes);
	(void)printf("pageable_gb_s %.2f\n", probe_copy(arena, plain, bytes));
	free(plain);
	return 0;
}

static int probe_run(struct gpu_arena *arena, int argc, char **argv)
{
	const char *command = argv[1];
	int r;

	if (strcmp(command, "context") == 0)
		return 0;
	if (strcmp(command, "arena") == 0 && (argc == 4 || argc == 5))
		return probe_arena(arena, strtoull(argv[2], NULL, 10) * PROBE_MIB,
		                   (int)strtol(argv[3], NULL, 10),
		                   argc == 5 ? (unsigned int)strtoul(argv[4], NULL, 10)
		                             : 0);
	if (strcmp(command, "bandwidth") == 0 && argc == 3)
		return probe_bandwidth(arena, strtoull(argv[2], NULL, 10) * PROBE_MIB);
	if (strcmp(command, "import") == 0)
		return probe_import(arena, argc - 2, argv + 2);
	if (strcmp(command, "write") == 0) {
		r = probe_import(arena, argc - 2, argv + 2);
		if (r == 0)
			probe_write(arena);
		return r;
	}
	return probe_fail("arguments", command);
}

int main(int argc, char **argv)
{
	struct gpu_arena arena = { 0 };
	int r;

	if (argc < 2)
		return probe_fail("arguments", "there is no command");
	for (size_t i = 0; i < sizeof(probe_block); i++)
		probe_block[i] = (unsigned char)(i * UINT64_C(2654435761) >> 13);
	r = probe_open(&arena);
	if (r == 0)
		r = probe_run(&arena, argc, argv);
	if (r == 0)
		probe_wait();
	if (arena.card.has_context)
		gpu_arena_fini(&arena);
	return r;
}
