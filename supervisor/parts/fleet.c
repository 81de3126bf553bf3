/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The places of a model's loaders, and the moves between them. Most functions look; those
 * under "Changes of place" are the only ones that write a place, and leave the loader
 * alone: who moves one tells it so (generation_apply()).
 */

#include "supervisor/parts/fleet.h"

#include <assert.h>

#include "shared/clock.h"
#include "supervisor/loaders/generation.h"
#include "supervisor/memory/memory.h"
#include "supervisor/process/proc.h"

size_t fleet_list(const struct fleet *fleet, struct generation *ret_list[FLEET_MAX])
{
	struct generation *const leading[] = { fleet->active, fleet->candidate,
		                               fleet->retiring };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(leading) / sizeof(leading[0]); i++)
		if (leading[i])
			ret_list[n++] = leading[i];
	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (fleet->replicas[i])
			ret_list[n++] = fleet->replicas[i];
	return n;
}

bool fleet_is_current(const struct fleet *fleet, const struct generation *replica)
{
	return fleet->active && replica->number == fleet->active->number &&
	       replica->state <= GENERATION_ACTIVE;
}

struct generation *fleet_old_replica(const struct fleet *fleet)
{
	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (fleet->replicas[i] && !fleet_is_current(fleet, fleet->replicas[i]))
			return fleet->replicas[i];
	return NULL;
}

struct generation *fleet_old(const struct fleet *fleet)
{
	if (fleet->active)
		return fleet->active;
	return fleet->retiring ? fleet->retiring : fleet_old_replica(fleet);
}

unsigned int fleet_replicas(const struct fleet *fleet, bool only_serving)
{
	unsigned int count = 0;

	for (size_t i = 0; i < FLEET_REPLICAS; i++) {
		const struct generation *replica = fleet->replicas[i];

		count += replica && fleet_is_current(fleet, replica) &&
		         (!only_serving || replica->state == GENERATION_ACTIVE);
	}
	return count;
}

/* Of two loaders, either of which may be NULL. */
static struct generation *fleet_less_busy(struct generation *best,
                                          struct generation *loader)
{
	if (!loader || loader->state != GENERATION_ACTIVE ||
	    lane_has_suspect(loader->lane))
		return best;
	return best && lane_leased(best->lane) <= lane_leased(loader->lane) ? best
	                                                                    : loader;
}

struct generation *fleet_pick(const struct fleet *fleet)
{
	struct generation *best = fleet_less_busy(NULL, fleet->active);

	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		best = fleet_less_busy(best, fleet->replicas[i]);
	return best;
}

bool fleet_is_gone(const struct fleet *fleet)
{
	return !fleet->candidate && !fleet_old(fleet);
}

uint64_t fleet_replicas_bytes(const struct fleet *fleet)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		bytes += fleet->replicas[i] ? fleet->replicas[i]->use.now_bytes : 0;
	return bytes;
}

static void fleet_add_one(struct generation *loader, struct memory_sample *sample)
{
	if (loader)
		device_sample_add(sample, &loader->use, loader->report.pss_bytes);
}

void fleet_add_memory(const struct fleet *fleet, struct memory_sample *sample)
{
	if (!fleet->active)
		return;
	fleet_add_one(fleet->active, sample);
	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		fleet_add_one(fleet->replicas[i], sample);
}

uint64_t fleet_waited_ns(const struct fleet *fleet)
{
	uint64_t waited_ns = fleet->active ? proc_waited_ns(fleet->active->pid) : 0;

	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (fleet->replicas[i])
			waited_ns += proc_waited_ns(fleet->replicas[i]->pid);
	return waited_ns;
}

json_t *fleet_loader_to_json(const struct generation *generation)
{
	if (!generation)
		return json_null();
	return json_pack("{s:I,s:i,s:s,s:i}", "generation",
	                 (json_int_t)generation->number, "pid", (int)generation->pid,
	                 "state", generation_state_name(generation->state), "leases",
	                 (int)lane_leased(generation->lane));
}

/* Changes of place */

void fleet_add_candidate(struct fleet *fleet, struct generation *candidate)
{
	assert(!fleet->candidate);
	fleet->candidate = candidate;
	/* The end of this one will say more. */
	fleet->was_killed = false;
}

void fleet_drop_candidate(struct fleet *fleet)
{
	fleet->candidate = NULL;
}

double fleet_promote(struct fleet *fleet)
{
	uint64_t since_ns = fleet->inactive_since_ns;

	if (fleet->active) {
		assert(!fleet->retiring);
		fleet->retiring = fleet->active;
	}
	fleet->active = fleet->candidate;
	fleet->candidate = NULL;
	fleet->inactive_since_ns = 0;
	fleet->was_killed = false;
	return since_ns ? clock_ns_to_ms(clock_now_ns() - since_ns) : 0;
}

void fleet_retire(struct fleet *fleet)
{
	assert(!fleet->retiring);
	fleet->retiring = fleet->active;
	fleet->active = NULL;
	fleet->inactive_since_ns = clock_now_ns();
}

void fleet_lose_active(struct fleet *fleet, bool was_killed)
{
	fleet->active = NULL;
	fleet->was_killed = was_killed;
	fleet->inactive_since_ns = clock_now_ns();
}

void fleet_drop_retiring(struct fleet *fleet)
{
	fleet->retiring = NULL;
}

/* The place of @loader in @places, or with NULL a free place; or NULL. */
static struct generation **fleet_find(struct generation *places[], size_t n,
                                      const struct generation *loader)
{
	for (size_t i = 0; i < n; i++)
		if (places[i] == loader)
			return &places[i];
	return NULL;
}

bool fleet_has_place(const struct fleet *fleet)
{
	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (!fleet->replicas[i])
			return true;
	return false;
}

void fleet_add_replica(struct fleet *fleet, struct generation *replica)
{
	struct generation **place = fleet_find(fleet->replicas, FLEET_REPLICAS, NULL);

	assert(place);
	*place = replica;
}

void fleet_drop_replica(struct fleet *fleet, const struct generation *replica)
{
	struct generation **place = fleet_find(fleet->replicas, FLEET_REPLICAS, replica);

	if (place)
		*place = NULL;
}

struct generation *fleet_take_over(struct fleet *fleet)
{
	const struct generation *dead = fleet->active;

	for (size_t i = 0; i < FLEET_REPLICAS; i++) {
		struct generation *replica = fleet->replicas[i];

		if (!replica || replica->state != GENERATION_ACTIVE ||
		    replica->number != dead->number)
			continue;
		fleet->replicas[i] = NULL;
		fleet->active = replica;
		return replica;
	}
	return NULL;
}

/* Ends */

void fleet_retire_replicas(const struct fleet *fleet, bool all)
{
	for (size_t i = 0; i < FLEET_REPLICAS; i++) {
		struct generation *replica = fleet->replicas[i];

		if (replica && replica->state <= GENERATION_ACTIVE &&
		    (all || !fleet_is_current(fleet, replica)))
			generation_apply(replica, GENERATION_EV_RETIRE);
	}
}

static void fleet_on_bury(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct fleet *fleet = timer->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < FLEET_GRAVES; i++) {
		generation_free(fleet->graves[i]);
		fleet->graves[i] = NULL;
	}
	fleet->on_buried(fleet->context);
}

bool fleet_bury(struct fleet *fleet, struct generation *loader)
{
	struct generation **stuck = fleet_find(fleet->stuck, FLEET_STUCK, loader);
	struct generation **grave = fleet_find(fleet->graves, FLEET_GRAVES, NULL);

	if (stuck)
		*stuck = NULL;
	assert(grave); /* more graves than loaders can live at once */
	*grave = loader;
	fleet_look(fleet);
	return stuck != NULL;
}

bool fleet_put_aside(struct fleet *fleet, struct generation *loader)
{
	struct generation **place = fleet_find(fleet->stuck, FLEET_STUCK, NULL);

	if (!place)
		return false;
	*place = loader;
	/* A model that is being stopped may wait for this end. */
	fleet_look(fleet);
	return true;
}

void fleet_look(struct fleet *fleet)
{
	ev_timer_start(fleet->loop, &fleet->bury);
}

void fleet_init(struct fleet *fleet, struct ev_loop *loop,
                void (*on_buried)(void *context), void *context)
{
	fleet->loop = loop;
	fleet->on_buried = on_buried;
	fleet->context = context;
	/* A timer of zero delay rings in the next round, and unlike an idle watcher also
	 * under load. */
	ev_timer_init(&fleet->bury, fleet_on_bury, 0., 0.);
	fleet->bury.data = fleet;
}

void fleet_fini(struct fleet *fleet)
{
	struct generation *list[FLEET_MAX];
	size_t n = fleet_list(fleet, list);

	ev_timer_stop(fleet->loop, &fleet->bury);
	for (size_t i = 0; i < n; i++)
		generation_free(list[i]);
	for (size_t i = 0; i < FLEET_STUCK; i++)
		generation_free(fleet->stuck[i]);
	for (size_t i = 0; i < FLEET_GRAVES; i++)
		generation_free(fleet->graves[i]);
}
