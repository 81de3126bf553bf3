/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One place for a loader that was started ahead by a recipe, and who is there. That loader has
 * opened its engine's libraries and waits; it has no generation, no model, no secret, no
 * device. Once it is taken, dead, out of date or in the way of a reload's memory, the next one
 * comes after a pause, which grows as long as spares are of no use.
 *
 * For spares.c alone; everybody else asks for spares (spares.h).
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/spares/grave.h"
#include "supervisor/spares/spares.h"

struct spare;

/* What all spares have in common; borrowed by each. */
struct spare_ground {
	struct ev_loop *loop;
	struct device *device;
	const struct engine_bases *bases;
	const struct config *config;
	struct graves graves;
};

/* Makes a place and soon starts a loader for it. @engine is copied, @recipe taken. NULL: out
 * of memory, and @recipe is the caller's still. */
struct spare *spare_new(struct spare_ground *ground, const char *engine,
                        struct recipe *recipe);
/* Ends who is there, for @why, and the place itself. */
void spare_free(struct spare *spare, const char *why);

const char *spare_engine(const struct spare *spare);
bool spare_is_of(const struct spare *spare, const struct recipe *recipe);
bool spare_is_ready(const struct spare *spare);
/* Bytes that it holds, or may come to hold. */
uint64_t spare_bytes(const struct spare *spare);

/* Ends a spare that is ready and was started from other files than would be used now. True:
 * ended. */
bool spare_end_if_old(struct spare *spare);
/* Ends a spare that is ready when the device's reserve is not free. True: ended. */
bool spare_end_if_short(struct spare *spare);
/* Ends it to make room; the next one comes after a while. */
void spare_make_room(struct spare *spare, const char *why);
/* See spares_take() and spares_return(); the spare is ready. */
bool spare_take(struct spare *spare, uint64_t number, struct child *ret_child,
                const struct child_listener *listener, struct chan *ret_chan);
void spare_note_return(struct spare *spare);

/* Makes counts of the engine of @spare, all 0. */
void spare_begin_count(const struct spare *spare, struct spare_counts *ret_counts);
/* Adds those of @spare. */
void spare_count(const struct spare *spare, struct spare_counts *counts);
json_t *spare_to_json(const struct spare *spare);
