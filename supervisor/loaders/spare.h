/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Loaders that were started ahead: one per engine whose models ask for it (key `spare`). Each
 * has opened its engine's libraries and waits; it has no generation, no model, no secret, no
 * device. One that is taken becomes the loader of a generation for good, and another one is
 * started at leisure. What is out of date, dies, or stands in the way of a reload's memory
 * goes; the next one comes after a pause, which grows as long as they are of no use.
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

/* For /metrics. */
struct spare_counts {
	const char *engine; /* borrowed */
	bool is_ready;
	uint64_t started;
	uint64_t taken;
	uint64_t lost; /* ended without having been taken, or did not answer then */
};

/* What they hold counts on @device; the first one of an engine is reckoned with what @bases
 * says of it. Both are borrowed. 0 or -ENOMEM. */
int spares_new(struct spares **ret_spares, struct ev_loop *loop, struct device *device,
               const struct engine_bases *bases);
/* Kills and reaps what is left. Accepts NULL. */
void spares_free(struct spares *spares);

/* From now on those that @config asks for; it is borrowed until the next call. */
void spares_set_config(struct spares *spares, const struct config *config);
/* None any more. */
void spares_stop(struct spares *spares);

/* Hands the spare of the engine of @inputs over, as a process and a channel that are the
 * caller's from now on: it has been sent TAKE for generation @number, and its next message is HELLO. False:
 * there is none that could be of use. */
bool spares_take(struct spares *spares, const struct inputs *inputs, uint64_t number,
                 struct child *ret_child, const struct child_listener *listener,
                 struct chan *ret_chan);
/* One that was taken and did not answer comes back to be killed and reaped here. @child has
 * no process any more then; one that is dead already counts as lost all the same. */
void spares_return(struct spares *spares, const char *engine, struct child *child);

/* Memory that would come free if they went, as of the last device_measure(). */
uint64_t spares_bytes(const struct spares *spares);
/* The same of the one that spares_take() would hand over for @engine. */
uint64_t spares_bytes_to_take(const struct spares *spares, const char *engine);
/* They make room, and are not started again for a while. */
void spares_make_room(struct spares *spares, const char *why);

/* i-th, or false at the end. */
bool spares_at(const struct spares *spares, size_t i, struct spare_counts *ret_counts);
/* For `moultctl status`: a new reference. */
json_t *spares_to_json(const struct spares *spares);
