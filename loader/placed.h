/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The weights of a model on its device before its engine comes to it: in chunks that outlive
 * this process where that can be done, else in memory of this process. Which of the two, and
 * why, is for people.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "loader/gpu_arena.h"
#include "loader/weights.h"
#include "shared/err.h"

enum placed_mode {
	PLACED_NOT,     /* the engine sees to it */
	PLACED_PRIVATE, /* a copy for this process */
	PLACED_FILL,    /* a copy for all is to be made */
	PLACED_MAP,     /* one that is there is to be mapped */
};

struct placed {
	enum placed_mode mode;
	unsigned int n_threads; /* that copy */
	bool is_open;           /* arena is initialised */
	struct gpu_arena arena;
	struct gpu_arena_shape shape;      /* of shared chunks */
	char canary[GPU_ARENA_CANARY_HEX]; /* of them */
	/* Owned: those that came, until they are mapped (or, to be written over, until they
	 * are); those that were made, until they are sent. */
	int fds[PROTO_CHUNKS_MAX];
	size_t n_fds;
	struct engine_placed view; /* for the engine */
};

/* Takes @fds: -1 is left there. */
void placed_take(struct placed *placed, enum placed_mode mode,
                 const struct gpu_arena_shape *shape, const char *canary, int *fds,
                 size_t n_fds);

/* Chunks that may be written over, beside or in place of which others are made. Takes @fds:
 * -1 is left there. */
void placed_take_scrap(struct placed *placed, const struct gpu_arena_shape *shape,
                       int *fds, size_t n_fds);

/* Puts the weights on @device, "cuda:N", or maps them, and fills @view; @n_threads may
 * copy. 0: they are there, and when only
 * this process has them *ret_why_private is why. ENGINE_E_PRIVATE: nothing can be placed from
 * here. Another outcome of enum engine_outcome: it failed. Both with a sentence in @err. */
int placed_run(struct placed *placed, const char *device, const struct weights *weights,
               unsigned int n_threads, struct err *ret_why_private, struct err *err);

void placed_close_fds(struct placed *placed);
/* Gives the memory back; mode becomes PLACED_NOT. */
void placed_drop(struct placed *placed);
