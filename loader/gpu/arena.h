/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights in a GPU's memory, outside of any framework's allocator: the bytes of the model
 * file, in chunks that are mapped one behind the other.
 *
 *	shared   chunks of CUDA's virtual memory management with a descriptor each. Whoever
 *	         holds the descriptors keeps the memory, with or without a context; a loader
 *	         that is given them maps the same memory. After sealing this process can only
 *	         read. The descriptor itself would let its holder write, so all that share are
 *	         one domain of trust.
 *	private  an allocation of this process, which ends with it.
 *
 * All calls come from one thread; copying makes others and ends them. Functions return 0, an
 * outcome of enum gpu_outcome with a sentence, or -errno with a sentence.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/gpu/card.h"
#include "loader/gpu/copy.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/proto.h"

#define GPU_ARENA_CANARY_HEX 65
/* The memory of a process that has ended comes back this late at worst. */
#define GPU_ARENA_WAIT_NS (5 * CLOCK_NS_PER_SEC)

/* The layout of shared chunks: all have chunk_bytes, but for the last one. */
struct gpu_arena_shape {
	size_t chunk_bytes;
	size_t mapped_bytes; /* of all chunks */
};

struct gpu_arena {
	struct gpu_card card;
	bool is_shared;
	uint64_t address; /* on the device; 0: no memory is there */
	const void *host; /* where the host can read the same; NULL: it cannot */
	size_t bytes;     /* of the file */
	struct gpu_arena_shape shape;
	unsigned int n_chunks;
	unsigned int n_kept;  /* so many of the first chunks were scrap */
	unsigned int n_ahead; /* so many of the last chunks were made and filled ahead */
	bool is_mapped[PROTO_CHUNKS_MAX];
	uint64_t handles[PROTO_CHUNKS_MAX]; /* owned until sealing; 0: none */
};

/* Opens the card, as gpu_card_init() does. gpu_arena_fini() in any case. */
int gpu_arena_init(struct gpu_arena *arena, unsigned int ordinal, uint64_t wait_ns,
                   struct err *err);
/* Gives everything back. */
void gpu_arena_fini(struct gpu_arena *arena);
/* Gives the memory back. */
void gpu_arena_drop(struct gpu_arena *arena);

/* Chunks that nobody needs any more. */
struct gpu_arena_scrap {
	struct gpu_arena_shape shape;
	const int *fds; /* borrowed */
	size_t n_fds;
};

/* Makes and fills the last chunks for a file of @bytes, until @limit_bytes of the card are taken,
 * the card is full (no failure, and not waited for) or the source is cut short.
 * gpu_arena_create() makes the others. */
int gpu_arena_prefill(struct gpu_arena *arena, size_t bytes, size_t limit_bytes,
                      const struct gpu_copy_source *source, unsigned int n_threads,
                      struct err *err);
/* Bytes of the card that gpu_arena_prefill() has taken. */
size_t gpu_arena_ahead_bytes(const struct gpu_arena *arena);

/* Makes the chunks for a file of @bytes that were not made ahead. As far as they fit, chunks of
 * @scrap (NULL: none) become the first ones. */
int gpu_arena_create(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_scrap *scrap, struct err *err);
/* Allocates memory of this process for a file of @bytes. */
int gpu_arena_create_private(struct gpu_arena *arena, size_t bytes, struct err *err);
/* Maps existing chunks read-only: one of @fds for each, borrowed. */
int gpu_arena_import(struct gpu_arena *arena, size_t bytes,
                     const struct gpu_arena_shape *shape, const int *fds, size_t n_fds,
                     struct err *err);

/* Copies the file into the memory, but for the chunks that were filled ahead. */
int gpu_arena_fill(struct gpu_arena *arena, const struct gpu_copy_source *source,
                   unsigned int n_threads, struct err *err);
/* Makes a descriptor of each chunk but the first n_kept, CLOEXEC, the caller's; only before
 * sealing. */
int gpu_arena_export(struct gpu_arena *arena, int *ret_fds, struct err *err);
/* Takes the right to write from this process: a write faults from then on. */
int gpu_arena_seal(struct gpu_arena *arena, struct err *err);

/* Hashes some bytes of each chunk into @ret_hex (GPU_ARENA_CANARY_HEX): another value later means
 * that somebody changed the contents. */
int gpu_arena_canary(struct gpu_arena *arena, char *ret_hex, struct err *err);
/* Copies @bytes from @at of the file to the host. 0 or -EIO. */
int gpu_arena_read(const struct gpu_arena *arena, size_t at, void *buffer, size_t bytes);
