/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Weights onto a device, over gpu/arena.h. placed_run() takes one of three ways: placed_map()
 * maps another loader's chunks and checks their canary, placed_fill() makes chunks for all,
 * placed_keep_private() makes a copy for this process. Where one of the first two fails for a
 * reason that private memory does not share, placed_give_up() takes the third and keeps the
 * reason. placed_prefill() does a part of placed_fill() ahead, and leaves the arena open.
 */
#include "loader/load/placed.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/file.h"

void placed_take(struct placed *placed, enum placed_mode mode,
                 const struct gpu_arena_shape *shape, const char *canary, int *fds,
                 size_t n_fds)
{
	assert(n_fds <= PROTO_CHUNKS_MAX);
	*placed = (struct placed){ .mode = mode, .n_fds = n_fds };
	for (size_t i = 0; i < n_fds; i++)
		placed->fds[i] = take_fd(&fds[i]);
	if (mode != PLACED_MAP)
		return;
	placed->shape = *shape;
	(void)snprintf(placed->canary, sizeof(placed->canary), "%s", canary);
}

static size_t placed_size(const json_t *object, const char *key)
{
	return (size_t)json_integer_value(json_object_get(object, key));
}

void placed_take_scrap(struct placed *placed, const char *payload, int *fds, size_t n_fds)
{
	json_t *object;

	if (placed->mode != PLACED_FILL || n_fds > PROTO_CHUNKS_MAX)
		return;
	object = json_loads(payload, 0, NULL);
	placed->shape = (struct gpu_arena_shape){
		.chunk_bytes = placed_size(object, "chunk_bytes"),
		.mapped_bytes = placed_size(object, "mapped_bytes"),
	};
	json_decref(object);
	placed->n_fds = n_fds;
	for (size_t i = 0; i < n_fds; i++)
		placed->fds[i] = take_fd(&fds[i]);
}

json_t *placed_to_json(const struct placed *placed)
{
	if (placed->mode != PLACED_FILL || !placed->view.is_read_only)
		return json_null();
	return json_pack("{s:i, s:I, s:I, s:s}", "kept", (int)placed->arena.n_kept,
	                 "chunk_bytes", (json_int_t)placed->shape.chunk_bytes,
	                 "mapped_bytes", (json_int_t)placed->shape.mapped_bytes, "canary",
	                 placed->canary);
}

void placed_close_fds(struct placed *placed)
{
	for (size_t i = 0; i < placed->n_fds; i++)
		close_fd(&placed->fds[i]);
	placed->n_fds = 0;
}

static void placed_close(struct placed *placed)
{
	if (placed->is_open)
		gpu_arena_fini(&placed->arena);
	placed->is_open = false;
}

void placed_drop(struct placed *placed)
{
	placed_close_fds(placed);
	placed_close(placed);
	*placed = (struct placed){ .mode = PLACED_NOT };
}

/* The source of the bytes and, for a prefill, the descriptors that end it. */
struct placed_file {
	int fd;
	const int *hurry_fds;     /* two; or NULL */
	_Atomic uint64_t *passed; /* bytes that were read, for who looks on; or NULL */
};

/* Reads the model file, which is in the page cache since it was hashed. */
static int placed_read_file(void *context, size_t at, void *buffer, size_t bytes)
{
	const struct placed_file *file = context;
	ssize_t n = file_read_at(file->fd, buffer, bytes, at);

	if (n < 0)
		return (int)n;
	/* Several threads read, each its own part. */
	if (file->passed)
		(void)atomic_fetch_add_explicit(file->passed, (uint64_t)n,
		                                memory_order_relaxed);
	return (size_t)n < bytes ? -ENODATA : 0;
}

static bool placed_is_hurried(void *context)
{
	const struct placed_file *file = context;
	struct pollfd pollfds[] = {
		{ .fd = file->hurry_fds[0], .events = POLLIN },
		{ .fd = file->hurry_fds[1], .events = POLLIN },
	};

	return poll(pollfds, 2, 0) > 0;
}

static int placed_fill_arena(struct placed *placed, const struct weights *weights,
                             struct err *err)
{
	struct placed_file file = { .fd = weights->fd, .passed = weights->passed };
	const struct gpu_copy_source source = {
		.read = placed_read_file,
		.context = &file,
	};

	weights_tell(weights, placed_ahead_bytes(placed));
	return gpu_arena_fill(&placed->arena, &source, 0, err);
}

/* Translates GPU_E_* and -errno into an outcome of enum engine_outcome. */
static int placed_outcome(int r)
{
	if (r == 0)
		return 0;
	if (r == GPU_E_MEMORY)
		return ENGINE_E_MEMORY;
	if (r == GPU_E_DAMAGED || r == GPU_E_UNSUPPORTED || r == GPU_E_DEVICE)
		return ENGINE_E_DEVICE;
	return r == -ENODATA ? ENGINE_E_MODEL : ENGINE_E_FAILED;
}

/* Maps another loader's chunks, and checks them before anything is computed from them. */
static int placed_map(struct placed *placed, size_t bytes, struct err *err)
{
	char canary[GPU_ARENA_CANARY_HEX] = "";
	int r = gpu_arena_import(&placed->arena, bytes, &placed->shape, placed->fds,
	                         placed->n_fds, err);

	placed_close_fds(placed);
	if (r == 0)
		r = gpu_arena_canary(&placed->arena, canary, err);
	if (r == 0 && strcmp(canary, placed->canary) != 0)
		r = err_set(err, GPU_E_DAMAGED,
		            "the shared weights on the GPU are not what was put there");
	if (r)
		gpu_arena_drop(&placed->arena);
	return r;
}

/* Notes the canary, makes the descriptors and seals, in this order: sealing gives the handles
 * back from which descriptors are made. */
static int placed_share(struct placed *placed, struct err *err)
{
	struct gpu_arena *arena = &placed->arena;
	int r = gpu_arena_canary(arena, placed->canary, err);

	if (r == 0)
		r = gpu_arena_export(arena, placed->fds, err);
	if (r == 0)
		placed->n_fds = arena->n_chunks - arena->n_kept;
	if (r == 0)
		r = gpu_arena_seal(arena, err);
	placed->shape = arena->shape;
	if (r) {
		placed_close_fds(placed);
		gpu_arena_drop(arena);
	}
	return r;
}

/* Makes shared chunks, over the scrap that came. */
static int placed_fill(struct placed *placed, const struct weights *weights,
                       struct err *err)
{
	const struct gpu_arena_scrap scrap = {
		.shape = placed->shape,
		.fds = placed->fds,
		.n_fds = placed->n_fds,
	};
	int r = gpu_arena_create(&placed->arena, weights->bytes, &scrap, err);

	placed_close_fds(placed);
	if (r)
		return r;
	r = placed_fill_arena(placed, weights, err);
	return r ? r : placed_share(placed, err);
}

static int placed_keep_private(struct placed *placed, const struct weights *weights,
                               struct err *err)
{
	int r = gpu_arena_create_private(&placed->arena, weights->bytes, err);

	return r ? r : placed_fill_arena(placed, weights, err);
}

/* Sharing has failed with @r: makes a copy for this process instead. */
static int placed_give_up(struct placed *placed, const struct weights *weights, int r,
                          struct placed_private *ret_private, struct err *err)
{
	const struct err why = *err;

	struct err then = ERR_NULL;

	if (placed_keep_private(placed, weights, &then))
		return err_set(err, r, "%.240s; and then: %.240s", why.text, then.text);
	err->text[0] = '\0';
	*ret_private = (struct placed_private){
		.why = why,
		.is_lasting = r == GPU_E_UNSUPPORTED,
	};
	return 0;
}

static int placed_read(void *context, size_t at, void *buffer, size_t bytes)
{
	return gpu_arena_read(context, at, buffer, bytes);
}

/* "cuda" or "cuda:N" */
static int placed_ordinal(const char *device, unsigned int *ret_ordinal, struct err *err)
{
	const char *number = strchr(device, ':');
	char *end = NULL;

	*ret_ordinal = number ? (unsigned int)strtoul(number + 1, &end, 10) : 0;
	if (strncmp(device, "cuda", 4) == 0 && (!end || *end == '\0'))
		return 0;
	return err_set(err, ENGINE_E_PRIVATE,
	               "nobody knows yet which card device '%s' is", device);
}

/* Opens the card. The arena counts as open even after a failure: it may hold a context. */
static int placed_open(struct placed *placed, const char *device, uint64_t wait_ns,
                       struct err *err)
{
	unsigned int ordinal;
	int r = placed_ordinal(device, &ordinal, err);

	if (r)
		return r;
	r = gpu_arena_init(&placed->arena, ordinal, wait_ns, err);
	placed->is_open = true;
	return r == GPU_E_UNSUPPORTED ? ENGINE_E_PRIVATE : placed_outcome(r);
}

int placed_prefill(struct placed *placed, const char *device,
                   const struct weights *weights, unsigned int n_threads,
                   const struct placed_prefill *prefill, struct err *err)
{
	struct placed_file file = {
		.fd = weights->fd,
		.hurry_fds = prefill->hurry_fds,
	};
	const struct gpu_copy_source source = {
		.read = placed_read_file,
		.is_cut = placed_is_hurried,
		.context = &file,
	};
	int r;

	assert(placed->mode == PLACED_FILL && !placed->is_open);
	if (placed_is_hurried(&file))
		return 0;
	r = placed_open(placed, device, 0, err);
	if (r == 0)
		r = gpu_arena_prefill(&placed->arena, weights->bytes,
		                      prefill->limit_bytes, &source, n_threads, err);
	if (r)
		placed_close(placed);
	return r;
}

size_t placed_ahead_bytes(const struct placed *placed)
{
	return placed->is_open ? gpu_arena_ahead_bytes(&placed->arena) : 0;
}

int placed_run(struct placed *placed, const char *device, const struct weights *weights,
               struct placed_private *ret_private, struct err *err)
{
	struct gpu_arena *arena = &placed->arena;
	int r = placed->is_open ? 0 : placed_open(placed, device, GPU_ARENA_WAIT_NS, err);

	if (r)
		return r;
	switch (placed->mode) {
	case PLACED_MAP:
		r = placed_map(placed, weights->bytes, err);
		break;
	case PLACED_FILL:
		r = placed_fill(placed, weights, err);
		break;
	case PLACED_PRIVATE:
	case PLACED_NOT:
		r = placed_keep_private(placed, weights, err);
		break;
	}
	if (placed->mode != PLACED_PRIVATE &&
	    (r == GPU_E_UNSUPPORTED || r == GPU_E_DAMAGED || r == GPU_E_DEVICE))
		r = placed_give_up(placed, weights, r, ret_private, err);
	placed->view = (struct engine_placed){
		.address = arena->address,
		.host = arena->host,
		.is_read_only = arena->is_shared,
		.read = placed_read,
		.context = arena,
	};
	return placed_outcome(r);
}
