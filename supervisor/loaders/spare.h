/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Loaders that were started ahead: one per engine whose models ask for it (key `spare`).
 * A spare has opened its engine's libraries and waits; it has no generation, no model, no
 * secret, no device. A spare that is taken becomes the loader of a generation for good,
 * and another one is started at leisure. A spare that is out of date, dies, or stands in
 * the way of a reload's memory goes. The next one comes after a pause, which grows as
 * long as spares are of no use (docs/adr/0011).
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/chan.h"
#include "supervisor/process/child.h"
#include "supervisor/config/config.h"
#include "supervisor/devices/device.h"
#include "supervisor/inputs/inputs.h"

struct engine_bases;
struct spares;

/* Counts for /metrics. */
struct spare_counts {
	const char *engine; /* borrowed */
	bool is_ready;
	uint64_t started;
	uint64_t taken;
	uint64_t lost; /* ended untaken, or did not answer when taken */
};

/* The memory of spares counts on @device; the first spare of an engine is reckoned with
 * what @bases says of the engine. Both are borrowed. 0 or -ENOMEM. */
int spares_new(struct spares **ret_spares, struct ev_loop *loop, struct device *device,
               const struct engine_bases *bases);
/* Kills and reaps what is left. Accepts NULL. */
void spares_free(struct spares *spares);

/* Has the spares that @config asks for from now on; @config is borrowed until the next
 * call. */
void spares_set_config(struct spares *spares, const struct config *config);
/* Ends all spares. */
void spares_stop(struct spares *spares);

/* Hands over the spare of the engine of @inputs, as a process and a channel that the
 * caller owns from now on. The spare has been sent TAKE for generation @number, and its
 * next message is HELLO. False: there is none that could be of use. */
bool spares_take(struct spares *spares, const struct inputs *inputs, uint64_t number,
                 struct child *ret_child, const struct child_listener *listener,
                 struct chan *ret_chan);
/* Takes back the process of a spare that was taken and did not answer, to be killed and
 * reaped here: @child has none any more. Counts it as lost even if it is dead already. */
void spares_return(struct spares *spares, const char *engine, struct child *child);

/* Bytes that would come free if all spares went, as of the last device_measure(). */
uint64_t spares_bytes(const struct spares *spares);
/* Bytes of the one that spares_take() would hand over for @engine. */
uint64_t spares_bytes_to_take(const struct spares *spares, const char *engine);
/* Ends all spares to make room; none is started again for a while. */
void spares_make_room(struct spares *spares, const char *why);

/* Fills in the counts of the i-th spare; false at the end. */
bool spares_at(const struct spares *spares, size_t i, struct spare_counts *ret_counts);
/* For `moultctl status`: a new reference. */
json_t *spares_to_json(const struct spares *spares);
