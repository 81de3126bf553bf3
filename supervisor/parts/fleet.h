/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * All loaders of a model, each in one place. A loader changes its place when its part in
 * the model changes: a candidate is promoted, the active one is retired or lost, a replica
 * takes over, whatever survives SIGKILL is put aside. fleet.c alone moves them; whether
 * and when is decided in reload/.
 *
 * The fleet owns its loaders: fleet_bury() has a dead one freed when the loop comes
 * round, fleet_fini() frees the rest.
 */

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/config.h"

struct generation;
struct memory_sample;

/* Loaders beside the active one. */
#define FLEET_REPLICAS (CONFIG_REPLICAS_MAX - 1)
/* Loaders that survive SIGKILL and are not waited for; with one more, it is. */
#define FLEET_STUCK 4
/* Dead loaders that wait to be freed. */
#define FLEET_GRAVES 24
/* Of those that are not put aside. */
#define FLEET_MAX (3 + FLEET_REPLICAS)

struct fleet {
	struct generation *active;    /* takes requests, and leads; or NULL */
	struct generation *candidate; /* is to become the active one; or NULL */
	struct generation *retiring;  /* was the active one, and ends; or NULL */
	struct generation *replicas[FLEET_REPLICAS]; /* in any order, with holes */
	struct generation *stuck[FLEET_STUCK];       /* put aside, UNKILLABLE */
	struct generation *graves[FLEET_GRAVES];
	uint64_t inactive_since_ns; /* since when none takes requests; 0: one does */
	bool was_killed;            /* somebody's kill -9 ended the last active one */
	struct ev_loop *loop;
	ev_timer bury; /* once per round */
	void (*on_buried)(void *context);
	void *context;
};

/* @on_buried is called when dead loaders have been freed, and after fleet_look(). */
void fleet_init(struct fleet *fleet, struct ev_loop *loop,
                void (*on_buried)(void *context), void *context);
void fleet_fini(struct fleet *fleet);

/* Lists the loaders that are not put aside; their number. */
size_t fleet_list(const struct fleet *fleet, struct generation *ret_list[FLEET_MAX]);
/* The loader whose memory a new generation has to live beside, or NULL. */
struct generation *fleet_old(const struct fleet *fleet);
/* A replica that is ending, or whose generation does not serve any more; or NULL. */
struct generation *fleet_old_replica(const struct fleet *fleet);
/* True: @replica belongs to the generation that serves, and is not told to end. */
bool fleet_is_current(const struct fleet *fleet, const struct generation *replica);
/* Number of current replicas: those that serve, or all. */
unsigned int fleet_replicas(const struct fleet *fleet, bool only_serving);
/* The serving loader with the fewest leases and no suspect, or NULL. */
struct generation *fleet_pick(const struct fleet *fleet);
/* True: none is left but those that are put aside. */
bool fleet_is_gone(const struct fleet *fleet);
/* Bytes that replicas hold, as last measured. */
uint64_t fleet_replicas_bytes(const struct fleet *fleet);
/* Adds the memory of the active loader, if there is one, and its replicas to @sample. */
void fleet_add_memory(const struct fleet *fleet, struct memory_sample *sample);

/* Time that the active loader and its replicas, with what they started, have waited for a
 * processor (proc_waited_ns()). */
uint64_t fleet_waited_ns(const struct fleet *fleet);

/* For `moultctl status`: a new reference; JSON null for NULL. */
json_t *fleet_loader_to_json(const struct generation *loader);

void fleet_add_candidate(struct fleet *fleet, struct generation *candidate);
void fleet_drop_candidate(struct fleet *fleet);
/* The candidate is the active one from now on, and that one retires. Milliseconds for
 * which none took requests. */
double fleet_promote(struct fleet *fleet);
/* The active one retires, and none takes requests. */
void fleet_retire(struct fleet *fleet);
/* The active one is dead, and none takes requests. @was_killed: see above. */
void fleet_lose_active(struct fleet *fleet, bool was_killed);
void fleet_drop_retiring(struct fleet *fleet);
/* False: there are as many as can be. */
bool fleet_has_place(const struct fleet *fleet);
void fleet_add_replica(struct fleet *fleet, struct generation *replica);
void fleet_drop_replica(struct fleet *fleet, const struct generation *replica);
/* The active one is dead: a replica of its generation that serves stands in its place.
 * NULL: there is none, and the dead one is active still. */
struct generation *fleet_take_over(struct fleet *fleet);

/* Tells the replicas of other generations than the one that serves to end, or @all. */
void fleet_retire_replicas(const struct fleet *fleet, bool all);

/* Has the dead @loader freed when the loop comes round; it has left its place, or leaves
 * it in this round. True: it was put aside. */
bool fleet_bury(struct fleet *fleet, struct generation *loader);
/* Puts @loader aside, which leaves its place in this round. False: too many are. */
bool fleet_put_aside(struct fleet *fleet, struct generation *loader);
/* Has on_buried called when the loop comes round. */
void fleet_look(struct fleet *fleet);
