/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The weights of a model on its device before its engine comes to it: in chunks that outlive
 * this process where that can be done, else in memory of this process. Which of the two, and
 * why, is for people.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "loader/engine.h"
#include "loader/gpu/arena.h"
#include "loader/load/weights.h"
#include "shared/err.h"

enum placed_mode {
	PLACED_NOT,     /* the engine sees to it */
	PLACED_PRIVATE, /* a copy for this process */
	PLACED_FILL,    /* a copy for all is to be made */
	PLACED_MAP,     /* one that is there is to be mapped */
};

/* Why weights that were to be shared are not; "": they are. */
struct placed_private {
	struct err why;
	bool is_lasting; /* the same weights will not be, the next time either */
};

struct placed {
	enum placed_mode mode;
	bool is_open; /* arena is initialised */
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

/* COMMIT's chunks that may be written over, beside or in place of which others are made, of the
 * shape that @payload says. Takes @fds: -1 is left there. */
void placed_take_scrap(struct placed *placed, const char *payload, int *fds,
                       size_t n_fds);
/* What COMMITTED says of the descriptors that go with it: a new reference. */
json_t *placed_to_json(const struct placed *placed);

/* How much of the device may be taken before COMMIT, and until when. */
struct placed_prefill {
	size_t limit_bytes;
	/* One of these is readable: it is over, and what is there by then has to do. */
	int hurry_fds[2];
};

/* A part of what placed_run() is to place, ahead: what needs no room that somebody else has.
 * Others serve meanwhile: @n_threads copy.
 * 0: placed_ahead_bytes() says how much. Else nothing of it is left, placed_run() does all of
 * it, and @err says why. */
int placed_prefill(struct placed *placed, const char *device,
                   const struct weights *weights, unsigned int n_threads,
                   const struct placed_prefill *prefill, struct err *err);
size_t placed_ahead_bytes(const struct placed *placed);

/* Puts the weights on @device, "cuda:N", or maps them, and fills @view. Nobody can be answered
 * meanwhile, as often as not: as many threads copy as are of use. 0: they are there, and when
 * only this process has them *ret_private is why. ENGINE_E_PRIVATE: nothing can be placed from
 * here, now or later. Another outcome of enum engine_outcome: it failed. Both with a sentence
 * in @err. */
int placed_run(struct placed *placed, const char *device, const struct weights *weights,
               struct placed_private *ret_private, struct err *err);

void placed_close_fds(struct placed *placed);
/* Gives the memory back; mode becomes PLACED_NOT. */
void placed_drop(struct placed *placed);
