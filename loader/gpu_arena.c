/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/gpu_arena.h"

#include <assert.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

/* Small enough that a small model has some, large enough that a large one has few. */
#define GPU_ARENA_CHUNK_BYTES ((size_t)32 << 20)
/* Memory of a process that is gone comes back this late at worst. */
#define GPU_ARENA_WAIT_NS  (5 * CLOCK_NS_PER_SEC)
#define GPU_ARENA_PAUSE_NS (10 * CLOCK_NS_PER_MS)

/* A thread reads into one while the other is copied. */
#define GPU_ARENA_RING        2
#define GPU_ARENA_PIECE_BYTES ((size_t)8 << 20)
/* More than that do not make the link to the card faster. */
#define GPU_ARENA_THREADS_MAX 8

/* Of each chunk: at its start, in the middle, and at its end. */
#define GPU_ARENA_CANARY_BYTES ((size_t)4096)
#define GPU_ARENA_CANARY_PARTS 3

static int gpu_arena_error(const struct gpu_arena *arena, struct err *err,
                           const char *what, int code)
{
	if (code == CUDA_E_OUT_OF_MEMORY)
		return err_set(err, GPU_ARENA_E_MEMORY, "the GPU is out of memory: %s",
		               what);
	return err_set(err, GPU_ARENA_E_UNSUPPORTED, "the GPU's driver refuses: %s: %s",
	               what, cuda_library_error(&arena->cuda, code));
}

/* What another process gave back may not be there yet, and the driver says nothing but that
 * there is too little. True: it is worth another try. */
static bool gpu_arena_waits(int code, uint64_t since_ns)
{
	const struct timespec pause = { .tv_nsec = GPU_ARENA_PAUSE_NS };

	if (code != CUDA_E_OUT_OF_MEMORY || clock_now_ns() - since_ns > GPU_ARENA_WAIT_NS)
		return false;
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return true;
}

int gpu_arena_init(struct gpu_arena *arena, unsigned int ordinal, struct err *err)
{
	uint64_t since_ns = clock_now_ns();
	int count = 0;
	int code;
	int r;

	*arena = (struct gpu_arena){ 0 };
	r = cuda_library_open(&arena->cuda, CUDA_LIBRARY, err);
	if (r < 0)
		return GPU_ARENA_E_UNSUPPORTED;
	code = arena->cuda.device_count(&count);
	if (code == CUDA_SUCCESS_CODE && ordinal < (unsigned int)count)
		code = arena->cuda.device(&arena->device, (int)ordinal);
	if (code != CUDA_SUCCESS_CODE || ordinal >= (unsigned int)count)
		return err_set(err, GPU_ARENA_E_UNSUPPORTED,
		               "the driver shows no GPU %u: %s", ordinal,
		               cuda_library_error(&arena->cuda, code));
	do {
		code = arena->cuda.context(&arena->context, arena->device);
	} while (gpu_arena_waits(code, since_ns));
	if (code != CUDA_SUCCESS_CODE)
		return gpu_arena_error(arena, err, "a context", code);
	arena->has_context = true;
	code = arena->cuda.use_context(arena->context);
	return code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_arena_error(arena, err, "its context", code);
}

static size_t gpu_arena_chunk(const struct gpu_arena *arena, unsigned int i)
{
	return i + 1 < arena->n_chunks
	               ? arena->shape.chunk_bytes
	               : arena->shape.mapped_bytes - arena->shape.chunk_bytes * i;
}

static uint64_t gpu_arena_at(const struct gpu_arena *arena, unsigned int i)
{
	return arena->address + arena->shape.chunk_bytes * i;
}

static void gpu_arena_release(struct gpu_arena *arena)
{
	for (unsigned int i = 0; i < arena->n_chunks; i++) {
		if (arena->handles[i])
			(void)arena->cuda.release(arena->handles[i]);
		arena->handles[i] = 0;
	}
}

void gpu_arena_drop(struct gpu_arena *arena)
{
	gpu_arena_release(arena);
	if (arena->address && !arena->is_shared)
		(void)arena->cuda.free(arena->address);
	for (unsigned int i = 0; arena->is_shared && i < arena->n_mapped; i++)
		(void)arena->cuda.unmap(gpu_arena_at(arena, i),
		                        gpu_arena_chunk(arena, i));
	if (arena->address && arena->is_shared)
		(void)arena->cuda.unreserve(arena->address, arena->shape.mapped_bytes);
	arena->address = 0;
	arena->host = NULL;
	arena->n_chunks = arena->n_mapped = arena->n_kept = 0;
	arena->is_shared = false;
}

void gpu_arena_fini(struct gpu_arena *arena)
{
	gpu_arena_drop(arena);
	if (arena->has_context)
		(void)arena->cuda.context_release(arena->device);
	arena->has_context = false;
}

static struct cuda_memory gpu_arena_memory(const struct gpu_arena *arena)
{
	return (struct cuda_memory){
		.type = CUDA_MEMORY_PINNED,
		.handle_types = CUDA_HANDLE_POSIX_FD,
		.location = { .type = CUDA_LOCATION_DEVICE, .id = arena->device },
	};
}

static int gpu_arena_check_vmm(const struct gpu_arena *arena, struct err *err)
{
	static const int wanted[] = { CUDA_DEVICE_HAS_VMM, CUDA_DEVICE_HAS_POSIX_FD };

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		int has = 0;

		if (arena->cuda.attribute(&has, wanted[i], arena->device) !=
		            CUDA_SUCCESS_CODE ||
		    !has)
			return err_set(err, GPU_ARENA_E_UNSUPPORTED, "the GPU has no %s",
			               i == 0 ? "virtual memory management"
			                      : "memory with descriptors");
	}
	return 0;
}

static size_t gpu_arena_round(size_t bytes, size_t to)
{
	return (bytes + to - 1) / to * to;
}

/* Address space for all of it. */
static int gpu_arena_reserve(struct gpu_arena *arena, size_t bytes,
                             const struct gpu_arena_shape *shape, struct err *err)
{
	int code;

	arena->bytes = bytes;
	arena->shape = *shape;
	arena->is_shared = true;
	arena->n_mapped = 0;
	arena->n_chunks = (unsigned int)((shape->mapped_bytes + shape->chunk_bytes - 1) /
	                                 shape->chunk_bytes);
	assert(arena->n_chunks <= PROTO_CHUNKS_MAX);
	code = arena->cuda.reserve(&arena->address, shape->mapped_bytes, 0, 0, 0);
	return code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_arena_error(arena, err, "address space", code);
}

static int gpu_arena_map(struct gpu_arena *arena, unsigned int i, struct err *err)
{
	int code = arena->cuda.map(gpu_arena_at(arena, i), gpu_arena_chunk(arena, i), 0,
	                           arena->handles[i], 0);

	if (code != CUDA_SUCCESS_CODE)
		return gpu_arena_error(arena, err, "mapping a chunk", code);
	if (arena->n_mapped < i + 1)
		arena->n_mapped = i + 1;
	return 0;
}

static int gpu_arena_allow(struct gpu_arena *arena, int flags, struct err *err)
{
	const struct cuda_access access = {
		.location = { .type = CUDA_LOCATION_DEVICE, .id = arena->device },
		.flags = flags,
	};
	int code = arena->cuda.set_access(arena->address, arena->shape.mapped_bytes,
	                                  &access, 1);

	return code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_arena_error(arena, err, "access to a chunk", code);
}

/* Whether the host can read it as it is: the driver is asked, and most say no. */
static void gpu_arena_find_host(struct gpu_arena *arena)
{
	void *host = NULL;

	if (arena->cuda.pointer_attribute(&host, CUDA_POINTER_HOST, arena->address) ==
	    CUDA_SUCCESS_CODE)
		arena->host = host;
}

/* By value, as the driver wants it. */
static void *gpu_arena_fd(int fd)
{
	return (void *)(uintptr_t)fd;
}

static int gpu_arena_import_chunk(struct gpu_arena *arena, unsigned int i, int fd,
                                  struct err *err)
{
	int code = arena->cuda.import_fd(&arena->handles[i], gpu_arena_fd(fd),
	                                 CUDA_HANDLE_POSIX_FD);

	if (code == CUDA_SUCCESS_CODE)
		return gpu_arena_map(arena, i, err);
	arena->handles[i] = 0;
	return gpu_arena_error(arena, err, "a chunk of another process's weights", code);
}

/* Whether chunk @i of @scrap is as large as that of the arena. */
static bool gpu_arena_fits(const struct gpu_arena *arena,
                           const struct gpu_arena_scrap *scrap, unsigned int i)
{
	size_t at = scrap->shape.chunk_bytes * i;
	size_t bytes;

	if (i >= scrap->n_fds || scrap->shape.chunk_bytes != arena->shape.chunk_bytes ||
	    at >= scrap->shape.mapped_bytes)
		return false;
	bytes = scrap->shape.mapped_bytes - at;
	if (bytes > scrap->shape.chunk_bytes)
		bytes = scrap->shape.chunk_bytes;
	return bytes == gpu_arena_chunk(arena, i);
}

static int gpu_arena_keep_chunks(struct gpu_arena *arena,
                                 const struct gpu_arena_scrap *scrap, struct err *err)
{
	int r = 0;

	while (scrap && r == 0 && arena->n_kept < arena->n_chunks &&
	       gpu_arena_fits(arena, scrap, arena->n_kept)) {
		r = gpu_arena_import_chunk(arena, arena->n_kept,
		                           scrap->fds[arena->n_kept], err);
		arena->n_kept++;
	}
	return r;
}

static int gpu_arena_create_chunks(struct gpu_arena *arena, struct err *err)
{
	const struct cuda_memory memory = gpu_arena_memory(arena);
	uint64_t since_ns = clock_now_ns();

	for (unsigned int i = arena->n_kept; i < arena->n_chunks; i++) {
		int code;
		int r;

		do {
			code = arena->cuda.create(&arena->handles[i],
			                          gpu_arena_chunk(arena, i), &memory, 0);
		} while (gpu_arena_waits(code, since_ns));
		if (code != CUDA_SUCCESS_CODE) {
			arena->handles[i] = 0;
			return gpu_arena_error(arena, err, "a chunk for the weights",
			                       code);
		}
		r = gpu_arena_map(arena, i, err);
		if (r)
			return r;
	}
	return gpu_arena_allow(arena, CUDA_ACCESS_READ_WRITE, err);
}

int gpu_arena_create(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_scrap *scrap, struct err *err)
{
	const struct cuda_memory memory = gpu_arena_memory(arena);
	struct gpu_arena_shape shape = { .chunk_bytes = GPU_ARENA_CHUNK_BYTES };
	size_t step = 0;
	int code;
	int r = gpu_arena_check_vmm(arena, err);

	if (r)
		return r;
	code = arena->cuda.granularity(&step, &memory, CUDA_GRANULARITY_BEST);
	if (code != CUDA_SUCCESS_CODE || step == 0)
		return gpu_arena_error(arena, err, "memory with descriptors", code);
	if (bytes / PROTO_CHUNKS_MAX >= shape.chunk_bytes)
		shape.chunk_bytes = bytes / PROTO_CHUNKS_MAX + 1;
	shape.chunk_bytes = gpu_arena_round(shape.chunk_bytes, step);
	shape.mapped_bytes = gpu_arena_round(bytes, step);
	r = gpu_arena_reserve(arena, bytes, &shape, err);
	if (r == 0)
		r = gpu_arena_keep_chunks(arena, scrap, err);
	if (r == 0)
		r = gpu_arena_create_chunks(arena, err);
	if (r)
		gpu_arena_drop(arena);
	else
		gpu_arena_find_host(arena);
	return r;
}

int gpu_arena_create_private(struct gpu_arena *arena, size_t bytes, struct err *err)
{
	uint64_t since_ns = clock_now_ns();
	int code;

	do {
		code = arena->cuda.allocate(&arena->address, bytes);
	} while (gpu_arena_waits(code, since_ns));
	if (code != CUDA_SUCCESS_CODE) {
		arena->address = 0;
		return gpu_arena_error(arena, err, "memory for the weights", code);
	}
	arena->bytes = bytes;
	arena->is_shared = false;
	/* For the canary alone, which looks at chunks. */
	arena->shape =
		(struct gpu_arena_shape){ .chunk_bytes = bytes, .mapped_bytes = bytes };
	gpu_arena_find_host(arena);
	return 0;
}

int gpu_arena_import(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_shape *shape, const int *fds, size_t n_fds,
                     struct err *err)
{
	int r;

	if (shape->chunk_bytes == 0 || shape->mapped_bytes < bytes ||
	    n_fds > PROTO_CHUNKS_MAX ||
	    n_fds != (shape->mapped_bytes - 1) / shape->chunk_bytes + 1)
		return err_set(err, GPU_ARENA_E_UNSUPPORTED,
		               "%zu descriptors do not make weights of %zu bytes", n_fds,
		               bytes);
	r = gpu_arena_check_vmm(arena, err);
	if (r == 0)
		r = gpu_arena_reserve(arena, bytes, shape, err);
	for (unsigned int i = 0; i < n_fds && r == 0; i++)
		r = gpu_arena_import_chunk(arena, i, fds[i], err);
	if (r == 0)
		r = gpu_arena_allow(arena, CUDA_ACCESS_READ, err);
	if (r) {
		gpu_arena_drop(arena);
		return r;
	}
	gpu_arena_release(arena); /* the mapping keeps them */
	gpu_arena_find_host(arena);
	return 0;
}

/* The copy: each thread takes the next piece of the file, reads it into memory that the card
 * reads by itself, and goes on while that happens. */

struct gpu_arena_copy {
	struct gpu_arena *arena;
	struct cuda_context *context;
	const struct gpu_arena_source *source;
	_Atomic size_t next; /* piece */
	_Atomic bool is_over;
	/* Of the first that failed. */
	pthread_mutex_t lock;
	int r;    /* of reading */
	int code; /* of the driver */
};

/* Of one thread. */
struct gpu_arena_ring {
	void *buffers[GPU_ARENA_RING]; /* NULL: there is no memory to be pinned */
	struct cuda_event *events[GPU_ARENA_RING];
	struct cuda_stream *stream;
	unsigned char *plain; /* the only buffer then */
};

static void gpu_arena_ring_fini(const struct gpu_arena *arena,
                                struct gpu_arena_ring *ring)
{
	for (size_t i = 0; i < GPU_ARENA_RING; i++) {
		if (ring->events[i])
			(void)arena->cuda.event_free(ring->events[i]);
		if (ring->buffers[i])
			(void)arena->cuda.free_host(ring->buffers[i]);
	}
	if (ring->stream)
		(void)arena->cuda.stream_free(ring->stream);
	free(ring->plain);
	*ring = (struct gpu_arena_ring){ 0 };
}

static bool gpu_arena_ring_pin(const struct gpu_arena *arena, struct gpu_arena_ring *ring)
{
	if (arena->cuda.stream_new(&ring->stream, CUDA_STREAM_ALONE) !=
	    CUDA_SUCCESS_CODE) {
		ring->stream = NULL;
		return false;
	}
	for (size_t i = 0; i < GPU_ARENA_RING; i++) {
		if (arena->cuda.event_new(&ring->events[i], CUDA_EVENT_NO_TIMING) !=
		    CUDA_SUCCESS_CODE) {
			ring->events[i] = NULL;
			return false;
		}
		if (arena->cuda.allocate_host(&ring->buffers[i], GPU_ARENA_PIECE_BYTES,
		                              0) != CUDA_SUCCESS_CODE) {
			ring->buffers[i] = NULL;
			return false;
		}
	}
	return true;
}

/* Confidential computing knows no pinned memory, and a limit may forbid it. */
static int gpu_arena_ring_init(const struct gpu_arena *arena, struct gpu_arena_ring *ring)
{
	*ring = (struct gpu_arena_ring){ 0 };
	if (gpu_arena_ring_pin(arena, ring))
		return 0;
	gpu_arena_ring_fini(arena, ring);
	ring->plain = malloc(GPU_ARENA_PIECE_BYTES);
	return ring->plain ? 0 : -ENOMEM;
}

/* Waits until what the buffer of @turn had before is on the card. */
static int gpu_arena_ring_take(const struct gpu_arena *arena, struct gpu_arena_ring *ring,
                               size_t turn, void **ret_buffer)
{
	size_t slot = turn % GPU_ARENA_RING;

	*ret_buffer = ring->plain ? ring->plain : ring->buffers[slot];
	if (ring->plain || turn < GPU_ARENA_RING)
		return CUDA_SUCCESS_CODE;
	return arena->cuda.event_wait(ring->events[slot]);
}

static int gpu_arena_ring_send(const struct gpu_arena *arena, struct gpu_arena_ring *ring,
                               size_t turn, size_t at, size_t bytes)
{
	size_t slot = turn % GPU_ARENA_RING;
	int code;

	if (ring->plain)
		return arena->cuda.to_device(arena->address + at, ring->plain, bytes);
	code = arena->cuda.to_device_async(arena->address + at, ring->buffers[slot],
	                                   bytes, ring->stream);
	return code == CUDA_SUCCESS_CODE
	               ? arena->cuda.event_record(ring->events[slot], ring->stream)
	               : code;
}

/* The first failure ends all of them. */
static void gpu_arena_copy_end(struct gpu_arena_copy *copy, int r, int code)
{
	if (r == 0 && code == CUDA_SUCCESS_CODE)
		return;
	(void)pthread_mutex_lock(&copy->lock);
	if (copy->r == 0 && copy->code == CUDA_SUCCESS_CODE) {
		copy->r = r;
		copy->code = code;
	}
	(void)pthread_mutex_unlock(&copy->lock);
	atomic_store(&copy->is_over, true);
}

static void gpu_arena_copy_pieces(struct gpu_arena_copy *copy,
                                  struct gpu_arena_ring *ring)
{
	const struct gpu_arena *arena = copy->arena;
	const struct gpu_arena_source *source = copy->source;

	for (size_t turn = 0; !atomic_load(&copy->is_over); turn++) {
		size_t at = atomic_fetch_add(&copy->next, 1) * GPU_ARENA_PIECE_BYTES;
		size_t bytes = GPU_ARENA_PIECE_BYTES;
		void *buffer = NULL;
		int code;
		int r = 0;

		if (at >= arena->bytes)
			return;
		if (bytes > arena->bytes - at)
			bytes = arena->bytes - at;
		code = gpu_arena_ring_take(arena, ring, turn, &buffer);
		if (code == CUDA_SUCCESS_CODE)
			r = source->read(source->context, at, buffer, bytes);
		if (code == CUDA_SUCCESS_CODE && r == 0)
			code = gpu_arena_ring_send(arena, ring, turn, at, bytes);
		gpu_arena_copy_end(copy, r, code);
	}
}

static void *gpu_arena_copy_run(void *context)
{
	struct gpu_arena_copy *copy = context;
	const struct gpu_arena *arena = copy->arena;
	struct gpu_arena_ring ring;
	int code = arena->cuda.use_context(copy->context);

	if (code != CUDA_SUCCESS_CODE) {
		gpu_arena_copy_end(copy, 0, code);
		return NULL;
	}
	if (gpu_arena_ring_init(arena, &ring) < 0) {
		gpu_arena_copy_end(copy, -ENOMEM, CUDA_SUCCESS_CODE);
		return NULL;
	}
	gpu_arena_copy_pieces(copy, &ring);
	/* Copies that are on their way still read the ring. */
	gpu_arena_copy_end(copy, 0, arena->cuda.synchronize());
	gpu_arena_ring_fini(arena, &ring);
	return NULL;
}

/* This thread is one of them, and enough when no other can be had. */
static void gpu_arena_copy_all(struct gpu_arena_copy *copy, unsigned int n_threads)
{
	pthread_t threads[GPU_ARENA_THREADS_MAX];
	size_t n_pieces = (copy->arena->bytes - 1) / GPU_ARENA_PIECE_BYTES + 1;
	unsigned int n_started = 0;

	if (n_threads > GPU_ARENA_THREADS_MAX)
		n_threads = GPU_ARENA_THREADS_MAX;
	if (n_threads > n_pieces)
		n_threads = (unsigned int)n_pieces;
	while (n_started + 1 < n_threads &&
	       pthread_create(&threads[n_started], NULL, gpu_arena_copy_run, copy) == 0)
		n_started++;
	(void)gpu_arena_copy_run(copy);
	for (unsigned int i = 0; i < n_started; i++)
		(void)pthread_join(threads[i], NULL);
}

int gpu_arena_fill(struct gpu_arena *arena, const struct gpu_arena_source *source,
                   unsigned int n_threads, struct err *err)
{
	struct gpu_arena_copy copy = {
		.arena = arena,
		.context = arena->context,
		.source = source,
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};

	gpu_arena_copy_all(&copy, n_threads);
	if (copy.r == -ENOMEM)
		return err_set(err, copy.r, "out of memory");
	if (copy.r < 0)
		return err_set(err, copy.r, "cannot read the model file: %s",
		               strerror(-copy.r));
	return copy.code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_arena_error(arena, err, "copying the weights", copy.code);
}

int gpu_arena_export(struct gpu_arena *arena, int *ret_fds, struct err *err)
{
	for (unsigned int i = arena->n_kept; i < arena->n_chunks; i++) {
		int code =
			arena->cuda.export_fd(&ret_fds[i - arena->n_kept],
		                              arena->handles[i], CUDA_HANDLE_POSIX_FD, 0);

		if (code == CUDA_SUCCESS_CODE)
			continue;
		while (i-- > arena->n_kept)
			close_fd(&ret_fds[i - arena->n_kept]);
		return gpu_arena_error(arena, err, "a descriptor of a chunk", code);
	}
	return 0;
}

/* Mapped anew: only a fresh mapping is sure to lose the right to write everywhere. */
int gpu_arena_seal(struct gpu_arena *arena, struct err *err)
{
	int r = 0;

	assert(arena->is_shared);
	for (unsigned int i = 0; i < arena->n_chunks && r == 0; i++) {
		int code = arena->cuda.unmap(gpu_arena_at(arena, i),
		                             gpu_arena_chunk(arena, i));

		r = code == CUDA_SUCCESS_CODE
		            ? gpu_arena_map(arena, i, err)
		            : gpu_arena_error(arena, err, "unmapping a chunk", code);
	}
	if (r == 0)
		r = gpu_arena_allow(arena, CUDA_ACCESS_READ, err);
	if (r == 0)
		gpu_arena_release(arena);
	return r;
}

int gpu_arena_read(const struct gpu_arena *arena, size_t at, void *buffer, size_t bytes)
{
	assert(at <= arena->bytes && bytes <= arena->bytes - at);
	return arena->cuda.to_host(buffer, arena->address + at, bytes) ==
	                       CUDA_SUCCESS_CODE
	               ? 0
	               : -EIO;
}

int gpu_arena_canary(struct gpu_arena *arena, char *ret_hex, struct err *err)
{
	uint8_t part[GPU_ARENA_CANARY_BYTES];
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha256;

	sha256_init(&sha256);
	for (size_t at = 0; at < arena->bytes; at += arena->shape.chunk_bytes) {
		size_t left = arena->bytes - at;
		size_t bytes =
			left < arena->shape.chunk_bytes ? left : arena->shape.chunk_bytes;
		size_t room = bytes < sizeof(part) ? 0 : bytes - sizeof(part);

		for (size_t i = 0; i < GPU_ARENA_CANARY_PARTS; i++) {
			size_t n = bytes < sizeof(part) ? bytes : sizeof(part);
			size_t from = at + room * i / (GPU_ARENA_CANARY_PARTS - 1);

			if (gpu_arena_read(arena, from, part, n) < 0)
				return err_set(err, GPU_ARENA_E_DAMAGED,
				               "the weights on the GPU cannot be read "
				               "back");
			sha256_update(&sha256, n, part);
		}
	}
	sha256_digest(&sha256, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}
