/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model from LOAD's payload and descriptors to an engine that can compute, in the order of the
 * functions below. Functions with an @err return 0 or an outcome of enum engine_outcome with a
 * sentence.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/enclosure.h"
#include "loader/engine.h"
#include "loader/load/model_config.h"
#include "loader/load/placed.h"
#include "loader/load/secrets.h"
#include "loader/load/weights.h"
#include "shared/chan.h"
#include "shared/err.h"

struct build {
	struct model_config config;
	struct secrets secrets;
	struct weights weights;
	struct placed placed; /* the weights on the device */
	bool is_lean;         /* no copy of the weights before COMMIT */
	int weights_fd;       /* from LOAD, until weights_init() takes it */
	int store_fd;         /* likewise */
	int quit_fd;
	_Atomic uint64_t *passed;      /* see struct weights; from build_stage() on */
	struct placed_private private; /* why weights are private that were to be shared */
	const char *spare_of; /* the engine that a spare has opened; NULL: no spare */
	const struct engine_api *api; /* in a spare set before LOAD */
	struct engine *engine;
	struct enclosure enclosure;
	struct engine_config engine_config; /* the engine keeps a pointer to it */
	uint64_t loading_bytes;             /* the most private memory while loading */
	uint64_t engine_bytes; /* private memory of an engine without a model */
	double weights_ms;     /* reading, hashing, mapping the weights */
	double engine_ms;      /* opening the engine's libraries, and the walls */
	double module_ms;      /* the engine's stage */
	double prefill_ms;     /* placing a part of the weights ahead */
};

/* @quit_fd is readable once the loader is to end. */
void build_init(struct build *build, int quit_fd);

/* Opens @engine ahead, for a spare. @engine is borrowed until the end. */
int build_be_spare(struct build *build, const char *engine_dir, const char *engine,
                   struct err *err);

/* Takes LOAD's configuration and descriptors, but for the lane's. */
int build_take_load(struct build *build, struct chan_message *message, struct err *err);
/* Reads the weights, opens the engine and stages it. @passed counts the bytes; borrowed as long as
 * @build is used. */
int build_stage(struct build *build, _Atomic uint64_t *passed, struct err *err);
/* Brings a part of the weights to the device ahead, where the old generation leaves room, until
 * one of @hurry_fds is readable. A failure costs only time: COMMIT does all that is left. */
void build_prefill(struct build *build, const int hurry_fds[2]);
/* Returns STAGED's payload, a new reference; NULL: out of memory. */
json_t *build_staged(const struct build *build);

/* Puts the weights onto the device and lets the engine commit, over the chunks that COMMIT
 * brings. */
int build_commit(struct build *build, struct chan_message *message, struct err *err);
/* Tells the engine how many tensors the configuration has now. */
void build_show_tensors(struct build *build);
/* Returns COMMITTED's payload, a new reference; NULL: out of memory. build->placed has the
 * descriptors that go with it. */
json_t *build_committed(const struct build *build, double place_ms);

/* Closes the engine. */
void build_close(struct build *build);
/* Frees the rest, but for shared weights. */
void build_fini(struct build *build);
