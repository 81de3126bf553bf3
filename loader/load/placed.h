/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Places the weights of a model on its device before the engine's commit: in chunks that
 * outlive this process where that can be done (gpu/arena.h), else in memory of this process.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "loader/gpu/arena.h"
#include "loader/load/weights.h"
#include "shared/err.h"

enum placed_mode {
	PLACED_NOT,     /* the engine places the weights itself */
	PLACED_PRIVATE, /* make a copy for this process */
	PLACED_FILL,    /* make a copy for all */
	PLACED_MAP,     /* map the copy that is there */
};

/* Why weights that were to be shared are private; "": they are shared. */
struct placed_private {
	struct err why;
	bool is_lasting; /* the next loader could not share them either */
};

struct placed {
	enum placed_mode mode;
	bool is_open; /* arena is initialised */
	struct gpu_arena arena;
	struct gpu_arena_shape shape;      /* of the shared chunks */
	char canary[GPU_ARENA_CANARY_HEX]; /* of the shared chunks */
	/* Owned descriptors: chunks that came, until placed_run() has mapped them; then
	 * chunks that were made, until they are sent. */
	int fds[PROTO_CHUNKS_MAX];
	size_t n_fds;
	struct engine_placed view; /* for the engine */
};

/* Begins with @mode and, for PLACED_MAP, the chunks that came. Takes @fds: -1 is left there. */
void placed_take(struct placed *placed, enum placed_mode mode,
                 const struct gpu_arena_shape *shape, const char *canary, int *fds,
                 size_t n_fds);

/* Takes COMMIT's chunks that may be written over; @payload says their shape. Takes @fds: -1 is
 * left there. */
void placed_take_scrap(struct placed *placed, const char *payload, int *fds,
                       size_t n_fds);
/* Returns COMMITTED's "placed", about the descriptors that go with it: a new reference. */
json_t *placed_to_json(const struct placed *placed);

/* How much of the device may be taken before COMMIT, and until when. */
struct placed_prefill {
	size_t limit_bytes;
	/* Borrowed. When one is readable the prefill ends with the chunks that are done. */
	int hurry_fds[2];
};

/* Places a part of the weights ahead of placed_run(), as far as the device has room that nobody
 * uses. Only @n_threads copy, because the old generation serves meanwhile.
 * 0: placed_ahead_bytes() says how much. Else nothing is placed, @err says why, and
 * placed_run() does all of it. */
int placed_prefill(struct placed *placed, const char *device,
                   const struct weights *weights, unsigned int n_threads,
                   const struct placed_prefill *prefill, struct err *err);
size_t placed_ahead_bytes(const struct placed *placed);

/* Puts the weights on @device, "cuda:N", or maps them, and fills placed->view. As many threads
 * copy as are of use: often nobody can be answered meanwhile. 0: the weights are there; when
 * they were to be shared and are not, *ret_private says why. ENGINE_E_PRIVATE: this process can
 * place nothing, now or later. Another outcome of enum engine_outcome: placing failed. Both with
 * a sentence in @err. */
int placed_run(struct placed *placed, const char *device, const struct weights *weights,
               struct placed_private *ret_private, struct err *err);

void placed_close_fds(struct placed *placed);
/* Gives the memory back; mode becomes PLACED_NOT. */
void placed_drop(struct placed *placed);
