/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights in a GPU's memory, outside of any framework's allocator: the bytes of the model
 * file, in chunks that are mapped one behind the other.
 *
 *	shared   chunks of CUDA's virtual memory management with a descriptor each. Whoever
 *	         holds the descriptors keeps the memory, with or without a context; a loader
 *	         that is given them maps the same memory. Sealed: this process can only read
 *	         it from then on. The descriptor itself would let its holder write, so all
 *	         that share are one domain of trust.
 *	private  an allocation of this process, which goes with it.
 *
 * Calls come from one thread; it makes others while it copies. Functions return 0, an outcome
 * with a sentence, or -errno with a sentence.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/gpu/cuda_library.h"
#include "loader/gpu/copy.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/proto.h"

#define GPU_ARENA_CANARY_HEX 65
/* Memory of a process that is gone comes back this late at worst. */
#define GPU_ARENA_WAIT_NS (5 * CLOCK_NS_PER_SEC)

enum gpu_arena_outcome {
	_GPU_ARENA_E_SUCCESS,
	GPU_ARENA_E_UNSUPPORTED, /* this driver, or this card, can never do that */
	GPU_ARENA_E_MEMORY,  /* the card has not so much left, and nothing came free */
	GPU_ARENA_E_DAMAGED, /* what is in the chunks is not what was put there */
	GPU_ARENA_E_DEVICE,  /* the driver refuses this time, and says why */
};

/* How shared chunks are laid out: all are of chunk_bytes, but the last. */
struct gpu_arena_shape {
	size_t chunk_bytes;
	size_t mapped_bytes; /* of all chunks */
};

struct gpu_arena {
	struct cuda_library cuda;
	int device;
	struct cuda_context *context;
	bool has_context;
	bool is_shared;
	uint64_t address; /* on the device; 0: nothing is there */
	const void *host; /* where the host can read the same; NULL: it cannot */
	size_t bytes;     /* of the file */
	struct gpu_arena_shape shape;
	unsigned int n_chunks;
	unsigned int n_kept;  /* of them: the first ones are not new */
	unsigned int n_ahead; /* of them: the last ones were made and filled ahead */
	bool is_mapped[PROTO_CHUNKS_MAX];
	uint64_t handles[PROTO_CHUNKS_MAX]; /* until it is sealed */
};

/* Opens the driver and takes the context of card number @ordinal among those that this process
 * sees, the one that a framework computes in; @wait_ns for memory that is just coming free.
 * gpu_arena_fini() in any case. */
int gpu_arena_init(struct gpu_arena *arena, unsigned int ordinal, uint64_t wait_ns,
                   struct err *err);
/* Gives everything back and leaves the context to those that use it. */
void gpu_arena_fini(struct gpu_arena *arena);
/* Gives the memory back. */
void gpu_arena_drop(struct gpu_arena *arena);

/* Chunks that nobody needs any more. */
struct gpu_arena_scrap {
	struct gpu_arena_shape shape;
	const int *fds; /* borrowed */
	size_t n_fds;
};

/* Makes and fills the last chunks for a file of @bytes, as many as there is room for within
 * @limit_bytes of the card and before the source is cut short: gpu_arena_create() makes the
 * others. Memory is not waited for, and that there is none is no failure. */
int gpu_arena_prefill(struct gpu_arena *arena, size_t bytes, size_t limit_bytes,
                      const struct gpu_copy_source *source, unsigned int n_threads,
                      struct err *err);
/* Of the card, by that. */
size_t gpu_arena_ahead_bytes(const struct gpu_arena *arena);

/* Chunks for a file of @bytes; as far as they fit, those of @scrap (NULL: there are none) are
 * the first of them, up to those that were made ahead. */
int gpu_arena_create(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_scrap *scrap, struct err *err);
/* Memory of this process. Likewise. */
int gpu_arena_create_private(struct gpu_arena *arena, size_t bytes, struct err *err);
/* Chunks that exist, read-only: one of @fds for each, borrowed. */
int gpu_arena_import(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_shape *shape, const int *fds, size_t n_fds,
                     struct err *err);

/* Copies the file there, but for what was filled ahead. */
int gpu_arena_fill(struct gpu_arena *arena, const struct gpu_copy_source *source,
                   unsigned int n_threads, struct err *err);
/* A descriptor of each chunk but the first n_kept, CLOEXEC, for the caller to close; only
 * before sealing. */
int gpu_arena_export(struct gpu_arena *arena, int *ret_fds, struct err *err);
/* From now on a write from this process faults. */
int gpu_arena_seal(struct gpu_arena *arena, struct err *err);

/* A hash of some bytes of each chunk: the same as long as nobody changed the contents. */
int gpu_arena_canary(struct gpu_arena *arena, char *ret_hex, struct err *err);
/* Copies to the host. 0 or -EIO. */
int gpu_arena_read(const struct gpu_arena *arena, size_t at, void *buffer, size_t bytes);
