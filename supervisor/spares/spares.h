/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Loaders that were started ahead (spare.h): one for each recipe by which models that ask for
 * it (key `spare`) start theirs. A spare that is taken becomes the loader of a generation for
 * good, and another one is started at leisure. Spares stand back where a reload needs their
 * memory (docs/adr/0011).
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/chan.h"
#include "supervisor/config/config.h"
#include "supervisor/devices/device.h"
#include "supervisor/process/child.h"
#include "supervisor/process/recipe.h"

struct engine_bases;
struct spares;

/* Counts for /metrics, of all spares of an engine. */
struct spare_counts {
	const char *engine; /* borrowed */
	uint64_t ready;
	uint64_t started;
	uint64_t taken;
	uint64_t lost; /* ended untaken, or did not answer when taken */
};

/* The memory of spares counts on @device; the first spare of a recipe is reckoned with what
 * @bases says of its engine. Both are borrowed. 0 or -ENOMEM. */
int spares_new(struct spares **ret_spares, struct ev_loop *loop, struct device *device,
               const struct engine_bases *bases);
/* Kills and reaps what is left. Accepts NULL. */
void spares_free(struct spares *spares);

/* Has the spares that @config asks for from now on; @config is borrowed until the next
 * call. */
void spares_set_config(struct spares *spares, const struct config *config);
/* Ends all spares. */
void spares_stop(struct spares *spares);

/* Hands over the spare of @recipe, as a process and a channel that the caller owns from now
 * on. The spare has been sent TAKE for generation @number, and its next message is HELLO.
 * False: there is none that could be of use. */
bool spares_take(struct spares *spares, const struct recipe *recipe, uint64_t number,
                 struct child *ret_child, const struct child_listener *listener,
                 struct chan *ret_chan);
/* Takes back the process of a spare of @recipe that was taken and did not answer, to be
 * killed and reaped here: @child has none any more. Counts it as lost even if it is dead
 * already. */
void spares_return(struct spares *spares, const struct recipe *recipe,
                   struct child *child);

/* Bytes that would come free if all spares went, as of the last device_measure(). */
uint64_t spares_bytes(const struct spares *spares);
/* Bytes of the one that spares_take() would hand over for @recipe. */
uint64_t spares_bytes_to_take(const struct spares *spares, const struct recipe *recipe);
/* Ends all spares to make room; none is started again for a while. */
void spares_make_room(struct spares *spares, const char *why);

/* Sums up the next engine's spares, beginning with number *@at, which becomes that of the
 * engine behind. False: there is no further engine. */
bool spares_sum(const struct spares *spares, size_t *at, struct spare_counts *ret_counts);
/* For `moultctl status`: a new reference. */
json_t *spares_to_json(const struct spares *spares);
