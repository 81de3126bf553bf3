/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory for weights on a GPU. A file's chunks get one range of addresses (gpu_arena_plan());
 * each chunk is then made by the driver, or imported by its descriptor, and mapped at its place:
 *
 *	| kept (scrap) | created at COMMIT | made and filled ahead |
 *	  first ones                         last ones
 *
 * Chunks ahead grow from the end of the file downwards, so that scrap can come in at the
 * front. A loader that makes chunks creates, fills, exports and seals them; one that maps
 * imports them read-only.
 */
#include "loader/gpu/arena.h"

#include <assert.h>
#include <errno.h>
#include <nettle/sha2.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/hex.h"

/* So small that a small model has several chunks, so large that a large one has few. */
#define GPU_ARENA_CHUNK_BYTES ((size_t)32 << 20)

/* The canary takes these bytes at the start, in the middle and at the end of each chunk. */
#define GPU_ARENA_CANARY_BYTES ((size_t)4096)
#define GPU_ARENA_CANARY_PARTS 3

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

static void gpu_arena_release(struct gpu_arena *arena, unsigned int i)
{
	if (arena->handles[i])
		(void)arena->card.cuda.release(arena->handles[i]);
	arena->handles[i] = 0;
}

static void gpu_arena_release_all(struct gpu_arena *arena)
{
	for (unsigned int i = 0; i < arena->n_chunks; i++)
		gpu_arena_release(arena, i);
}

static int gpu_arena_unmap(struct gpu_arena *arena, unsigned int i)
{
	if (!arena->is_mapped[i])
		return CUDA_SUCCESS_CODE;
	arena->is_mapped[i] = false;
	return arena->card.cuda.unmap(gpu_arena_at(arena, i), gpu_arena_chunk(arena, i));
}

void gpu_arena_drop(struct gpu_arena *arena)
{
	gpu_arena_release_all(arena);
	if (arena->address && !arena->is_shared)
		(void)arena->card.cuda.free(arena->address);
	for (unsigned int i = 0; i < arena->n_chunks; i++)
		(void)gpu_arena_unmap(arena, i);
	if (arena->address && arena->is_shared)
		(void)arena->card.cuda.unreserve(arena->address,
		                                 arena->shape.mapped_bytes);
	arena->address = 0;
	arena->host = NULL;
	arena->n_chunks = arena->n_kept = arena->n_ahead = 0;
	arena->is_shared = false;
}

int gpu_arena_init(struct gpu_arena *arena, unsigned int ordinal, uint64_t wait_ns,
                   struct err *err)
{
	*arena = (struct gpu_arena){ 0 };
	return gpu_card_init(&arena->card, ordinal, wait_ns, err);
}

void gpu_arena_fini(struct gpu_arena *arena)
{
	gpu_arena_drop(arena);
	gpu_card_fini(&arena->card);
}

static size_t gpu_arena_round(size_t bytes, size_t to)
{
	return (bytes + to - 1) / to * to;
}

/* Reserves addresses for all chunks. */
static int gpu_arena_reserve(struct gpu_arena *arena, size_t bytes,
                             const struct gpu_arena_shape *shape, struct err *err)
{
	int code;

	arena->bytes = bytes;
	arena->shape = *shape;
	arena->is_shared = true;
	arena->n_chunks = (unsigned int)((shape->mapped_bytes + shape->chunk_bytes - 1) /
	                                 shape->chunk_bytes);
	assert(arena->n_chunks <= PROTO_CHUNKS_MAX);
	code = arena->card.cuda.reserve(&arena->address, shape->mapped_bytes, 0, 0, 0);
	return code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_card_error(&arena->card, err, "address space", code);
}

static int gpu_arena_map(struct gpu_arena *arena, unsigned int i, struct err *err)
{
	int code = arena->card.cuda.map(gpu_arena_at(arena, i), gpu_arena_chunk(arena, i),
	                                0, arena->handles[i], 0);

	if (code != CUDA_SUCCESS_CODE)
		return gpu_card_error(&arena->card, err, "mapping a chunk", code);
	arena->is_mapped[i] = true;
	return 0;
}

/* Sets the rights of this device to @bytes from @at on. */
static int gpu_arena_allow(struct gpu_arena *arena, uint64_t at, size_t bytes, int flags,
                           struct err *err)
{
	const struct cuda_access access = {
		.location = { .type = CUDA_LOCATION_DEVICE, .id = arena->card.device },
		.flags = flags,
	};
	int code = arena->card.cuda.set_access(at, bytes, &access, 1);

	return code == CUDA_SUCCESS_CODE
	               ? 0
	               : gpu_card_error(&arena->card, err, "access to a chunk", code);
}

static int gpu_arena_allow_all(struct gpu_arena *arena, int flags, struct err *err)
{
	return gpu_arena_allow(arena, arena->address, arena->shape.mapped_bytes, flags,
	                       err);
}

/* Asks the driver whether the host can read the memory where it is; mostly it cannot. */
static void gpu_arena_find_host(struct gpu_arena *arena)
{
	void *host = NULL;

	if (arena->card.cuda.pointer_attribute(&host, CUDA_POINTER_HOST,
	                                       arena->address) == CUDA_SUCCESS_CODE)
		arena->host = host;
}

/* The driver takes a descriptor by value, in a pointer's type. */
static void *gpu_arena_fd(int fd)
{
	return (void *)(uintptr_t)fd;
}

static int gpu_arena_import_chunk(struct gpu_arena *arena, unsigned int i, int fd,
                                  struct err *err)
{
	int code = arena->card.cuda.import_fd(&arena->handles[i], gpu_arena_fd(fd),
	                                      CUDA_HANDLE_POSIX_FD);

	if (code == CUDA_SUCCESS_CODE)
		return gpu_arena_map(arena, i, err);
	arena->handles[i] = 0;
	return gpu_card_error(&arena->card, err, "a chunk of another process's weights",
	                      code);
}

/* True when chunk @i of @scrap is as large as chunk @i of the arena. */
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

/* The index of the first chunk that was made ahead. */
static unsigned int gpu_arena_ahead(const struct gpu_arena *arena)
{
	return arena->n_chunks - arena->n_ahead;
}

static int gpu_arena_keep_chunks(struct gpu_arena *arena,
                                 const struct gpu_arena_scrap *scrap, struct err *err)
{
	int r = 0;

	while (scrap && r == 0 && arena->n_kept < gpu_arena_ahead(arena) &&
	       gpu_arena_fits(arena, scrap, arena->n_kept)) {
		r = gpu_arena_import_chunk(arena, arena->n_kept,
		                           scrap->fds[arena->n_kept], err);
		arena->n_kept++;
	}
	return r;
}

static int gpu_arena_create_chunk(struct gpu_arena *arena, unsigned int i,
                                  uint64_t until_ns, struct err *err)
{
	const struct cuda_memory memory = gpu_card_memory(&arena->card);
	int code;

	do {
		code = arena->card.cuda.create(&arena->handles[i],
		                               gpu_arena_chunk(arena, i), &memory, 0);
	} while (gpu_card_waits(code, until_ns));
	if (code == CUDA_SUCCESS_CODE)
		return gpu_arena_map(arena, i, err);
	arena->handles[i] = 0;
	return gpu_card_error(&arena->card, err, "a chunk for the weights", code);
}

/* Exports and imports the first chunk, before anything is copied. A driver that makes descriptors
 * and takes none back would fail the next loader, when there is no room for another way. */
static int gpu_arena_try_chunk(const struct gpu_arena *arena, unsigned int i,
                               struct err *err)
{
	uint64_t handle = 0;
	CLOSE_FD int fd = -1;
	int code;

	if (arena->n_kept + arena->n_ahead > 0)
		return 0;
	code = arena->card.cuda.export_fd(&fd, arena->handles[i], CUDA_HANDLE_POSIX_FD,
	                                  0);
	if (code != CUDA_SUCCESS_CODE)
		return gpu_card_error(&arena->card, err, "a descriptor of a chunk", code);
	code = arena->card.cuda.import_fd(&handle, gpu_arena_fd(fd),
	                                  CUDA_HANDLE_POSIX_FD);
	if (code != CUDA_SUCCESS_CODE)
		return gpu_card_error(&arena->card, err, "a chunk by its descriptor",
		                      code);
	(void)arena->card.cuda.release(handle);
	return 0;
}

static int gpu_arena_create_chunks(struct gpu_arena *arena, struct err *err)
{
	uint64_t until_ns = clock_now_ns() + GPU_ARENA_WAIT_NS;
	int r = 0;

	for (unsigned int i = arena->n_kept; i < gpu_arena_ahead(arena) && r == 0; i++) {
		r = gpu_arena_create_chunk(arena, i, until_ns, err);
		if (r == 0 && i == 0)
			r = gpu_arena_try_chunk(arena, i, err);
	}
	return r ? r : gpu_arena_allow_all(arena, CUDA_ACCESS_READ_WRITE, err);
}

/* Decides the shape of the chunks for a file of @bytes and reserves their addresses. */
static int gpu_arena_plan(struct gpu_arena *arena, size_t bytes, struct err *err)
{
	const struct cuda_memory memory = gpu_card_memory(&arena->card);
	struct gpu_arena_shape shape = { .chunk_bytes = GPU_ARENA_CHUNK_BYTES };
	size_t step = 0;
	int code;
	int r = gpu_card_check_vmm(&arena->card, err);

	if (r)
		return r;
	code = arena->card.cuda.granularity(&step, &memory, CUDA_GRANULARITY_BEST);
	if (code != CUDA_SUCCESS_CODE || step == 0)
		return gpu_card_error(&arena->card, err, "memory with descriptors", code);
	if (bytes / PROTO_CHUNKS_MAX >= shape.chunk_bytes)
		shape.chunk_bytes = bytes / PROTO_CHUNKS_MAX + 1;
	shape.chunk_bytes = gpu_arena_round(shape.chunk_bytes, step);
	shape.mapped_bytes = gpu_arena_round(bytes, step);
	return gpu_arena_reserve(arena, bytes, &shape, err);
}

/* Copies the file's bytes from @from to @to. *ret_is_cut: the source ended it early. */
static int gpu_arena_copy(struct gpu_arena *arena, const struct gpu_copy_source *source,
                          size_t from, size_t to, unsigned int n_threads,
                          bool *ret_is_cut, struct err *err)
{
	const struct gpu_copy copy = {
		.cuda = &arena->card.cuda,
		.context = arena->card.context,
		.source = source,
		.address = arena->address,
		.from = from,
		.to = to,
	};
	int code = CUDA_SUCCESS_CODE;
	int r = gpu_copy_run(&copy, n_threads, &code);

	*ret_is_cut = r == GPU_COPY_E_CUT;
	if (r == GPU_COPY_E_DRIVER)
		return gpu_card_error(&arena->card, err, "copying the weights", code);
	if (r == -ENOMEM)
		return err_set(err, r, "out of memory");
	if (r < 0)
		return err_set(err, r, "cannot read the model file: %s", strerror(-r));
	return 0;
}

/* Makes, maps and fills chunk @i. */
static int gpu_arena_make_ahead(struct gpu_arena *arena, unsigned int i,
                                const struct gpu_copy_source *source,
                                unsigned int n_threads, bool *ret_is_cut, struct err *err)
{
	size_t from = arena->shape.chunk_bytes * i;
	size_t to = from + gpu_arena_chunk(arena, i);
	int r = gpu_arena_create_chunk(arena, i, 0, err);

	if (r == 0)
		r = gpu_arena_try_chunk(arena, i, err);
	if (r == 0)
		r = gpu_arena_allow(arena, gpu_arena_at(arena, i),
		                    gpu_arena_chunk(arena, i), CUDA_ACCESS_READ_WRITE,
		                    err);
	if (r == 0)
		r = gpu_arena_copy(arena, source, from,
		                   to < arena->bytes ? to : arena->bytes, n_threads,
		                   ret_is_cut, err);
	return r;
}

size_t gpu_arena_ahead_bytes(const struct gpu_arena *arena)
{
	return arena->n_ahead == 0
	               ? 0
	               : arena->shape.mapped_bytes -
	                         arena->shape.chunk_bytes * gpu_arena_ahead(arena);
}

int gpu_arena_prefill(struct gpu_arena *arena, size_t bytes, size_t limit_bytes,
                      const struct gpu_copy_source *source, unsigned int n_threads,
                      struct err *err)
{
	bool is_cut = false;
	int r = gpu_arena_plan(arena, bytes, err);

	while (r == 0 && !is_cut && gpu_arena_ahead(arena) > 0) {
		unsigned int i = gpu_arena_ahead(arena) - 1;

		if (gpu_arena_ahead_bytes(arena) + gpu_arena_chunk(arena, i) >
		    limit_bytes)
			break;
		r = gpu_arena_make_ahead(arena, i, source, n_threads, &is_cut, err);
		if (r == 0 && !is_cut) {
			arena->n_ahead++;
		} else {
			(void)gpu_arena_unmap(arena, i);
			gpu_arena_release(arena, i);
		}
	}
	/* Another process took the room first: the chunks so far have to do. */
	if (r == GPU_E_MEMORY) {
		err->text[0] = '\0';
		r = 0;
	}
	if (r)
		gpu_arena_drop(arena);
	return r;
}

int gpu_arena_create(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_scrap *scrap, struct err *err)
{
	int r = 0;

	assert(!arena->address || arena->bytes == bytes);
	if (!arena->address)
		r = gpu_arena_plan(arena, bytes, err);
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

int gpu_arena_fill(struct gpu_arena *arena, const struct gpu_copy_source *source,
                   unsigned int n_threads, struct err *err)
{
	size_t to = arena->n_ahead ? arena->shape.chunk_bytes * gpu_arena_ahead(arena)
	                           : arena->bytes;
	bool is_cut;

	return gpu_arena_copy(arena, source, 0, to, n_threads, &is_cut, err);
}

int gpu_arena_create_private(struct gpu_arena *arena, size_t bytes, struct err *err)
{
	uint64_t until_ns = clock_now_ns() + GPU_ARENA_WAIT_NS;
	int code;

	do {
		code = arena->card.cuda.allocate(&arena->address, bytes);
	} while (gpu_card_waits(code, until_ns));
	if (code != CUDA_SUCCESS_CODE) {
		arena->address = 0;
		return gpu_card_error(&arena->card, err, "memory for the weights", code);
	}
	arena->bytes = bytes;
	arena->is_shared = false;
	/* gpu_arena_canary() goes by chunks. */
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
		return err_set(err, GPU_E_DAMAGED,
		               "%zu descriptors do not make weights of %zu bytes", n_fds,
		               bytes);
	r = gpu_card_check_vmm(&arena->card, err);
	if (r == 0)
		r = gpu_arena_reserve(arena, bytes, shape, err);
	for (unsigned int i = 0; i < n_fds && r == 0; i++)
		r = gpu_arena_import_chunk(arena, i, fds[i], err);
	if (r == 0)
		r = gpu_arena_allow_all(arena, CUDA_ACCESS_READ, err);
	if (r) {
		gpu_arena_drop(arena);
		return r;
	}
	gpu_arena_release_all(arena); /* the mapping keeps the memory */
	gpu_arena_find_host(arena);
	return 0;
}

int gpu_arena_export(struct gpu_arena *arena, int *ret_fds, struct err *err)
{
	for (unsigned int i = arena->n_kept; i < arena->n_chunks; i++) {
		int code = arena->card.cuda.export_fd(&ret_fds[i - arena->n_kept],
		                                      arena->handles[i],
		                                      CUDA_HANDLE_POSIX_FD, 0);

		if (code == CUDA_SUCCESS_CODE)
			continue;
		while (i-- > arena->n_kept)
			close_fd(&ret_fds[i - arena->n_kept]);
		return gpu_card_error(&arena->card, err, "a descriptor of a chunk", code);
	}
	return 0;
}

/* Maps every chunk anew: only a fresh mapping surely loses the right to write. */
int gpu_arena_seal(struct gpu_arena *arena, struct err *err)
{
	int r = 0;

	assert(arena->is_shared);
	for (unsigned int i = 0; i < arena->n_chunks && r == 0; i++) {
		int code = gpu_arena_unmap(arena, i);

		r = code == CUDA_SUCCESS_CODE ? gpu_arena_map(arena, i, err)
		                              : gpu_card_error(&arena->card, err,
		                                               "unmapping a chunk", code);
	}
	if (r == 0)
		r = gpu_arena_allow_all(arena, CUDA_ACCESS_READ, err);
	if (r == 0)
		gpu_arena_release_all(arena);
	return r;
}

int gpu_arena_read(const struct gpu_arena *arena, size_t at, void *buffer, size_t bytes)
{
	assert(at <= arena->bytes && bytes <= arena->bytes - at);
	return arena->card.cuda.to_host(buffer, arena->address + at, bytes) ==
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
				return err_set(err, GPU_E_DAMAGED,
				               "the weights on the GPU cannot be read "
				               "back");
			sha256_update(&sha256, n, part);
		}
	}
	sha256_digest(&sha256, sizeof(digest), digest);
	hex_print(ret_hex, digest, sizeof(digest));
	return 0;
}
