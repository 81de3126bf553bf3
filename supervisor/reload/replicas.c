/* SPDX-License-Identifier: Apache-2.0 */

/*
 * More loaders of the generation that serves. All share its weights, its queue and its
 * number, and differ in nothing. One of them is model->fleet.active, through which reloads go
 * (docs/adr/0009); the others, the replicas, are here. Replicas come one after the other
 * once the active loader serves, and go when it goes. If the active loader dies while a
 * replica of its generation serves, that replica takes its place: there is no pause then.
 */

#include <errno.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"
#include "supervisor/spares/spares.h"

static bool replicas_is_rising(const struct generation *replica)
{
	return replica->state < GENERATION_ACTIVE;
}

static unsigned int replicas_wanted(const struct model *model)
{
	return model->replicas.scale ? model->replicas.scale : model->section->replicas;
}

/* Going */

/* Ends loaders that are being built first, then the youngest: it has the least to
 * lose. */
static void replicas_shrink(struct model *model, unsigned int wanted)
{
	for (int is_rising = 1; is_rising >= 0; is_rising--) {
		for (size_t i = FLEET_REPLICAS; i-- > 0;) {
			struct generation *replica = model->fleet.replicas[i];

			if (fleet_replicas(&model->fleet, false) <= wanted)
				return;
			if (replica && fleet_is_current(&model->fleet, replica) &&
			    replicas_is_rising(replica) == is_rising)
				generation_apply(replica, GENERATION_EV_RETIRE);
		}
	}
}

/* Coming */

static void replicas_try_later(struct model *model, double delay_s)
{
	ev_timer_stop(model->context.loop, &model->replicas.grow);
	ev_timer_set(&model->replicas.grow, delay_s, 0.);
	ev_timer_start(model->context.loop, &model->replicas.grow);
}

/* Finds room for a replica, which needs what the active loader holds for itself and has
 * @own_bytes of that already. Spare loaders stand back. */
static int replicas_find_room(struct model *model, uint64_t need_bytes,
                              uint64_t own_bytes, struct err *err)
{
	struct device *device = model->context.device;
	struct spares *spares = model->context.spares;

	if (device_has_room(device, need_bytes, own_bytes))
		return 0;
	if (!device_has_room(device, need_bytes, own_bytes + spares_bytes(spares)))
		return err_set(err, -ENOMEM,
		               "another loader needs %.1f MiB, and that is not free: "
		               "raise budget in [device host], free memory, or set "
		               "fewer replicas",
		               (double)need_bytes / 1048576.0);
	spares_make_room(spares, "a replica needs its memory");
	return 0;
}

static int replicas_spawn(struct model *model, uint64_t need_bytes, struct err *err)
{
	struct generation_start start = {
		.number = model->fleet.active->number,
		.model = model->name,
		.inputs = model->fleet.active->inputs,
		.section = model->section,
		.device = model->context.device,
		.claim_bytes = need_bytes,
		.queue = &model->queue,
	};
	struct generation *replica;
	int r = replicas_find_room(model, need_bytes, 0, err);

	if (r < 0)
		return r;
	r = reload_gpu_begin_replica(model, &start, err);
	if (r < 0)
		return r;
	r = reload_weights_begin(model, &start, err);
	if (r == 0)
		r = generation_new(&replica, model->context.loop, &start,
		                   &model->replicas.listener, err);
	store_copy_unref(start.copy);
	if (r == 0)
		fleet_add_replica(&model->fleet, replica);
	return r;
}

/* Bytes that a replica takes until it serves. Nothing was measured if the active loader
 * came in as a lean one. Then a loader with weights of its own is taken to read the file
 * beside what it builds. */
static uint64_t replicas_need(const struct generation *active)
{
	const struct inputs *inputs = active->inputs;
	uint64_t peak_bytes = active->use.peak_bytes;
	uint64_t loading_bytes = inputs->footprint.loading_bytes;

	if (loading_bytes == 0 && inputs->footprint.is_private)
		loading_bytes = peak_bytes + (uint64_t)inputs->file.st_size;
	return loading_bytes > peak_bytes ? loading_bytes : peak_bytes;
}

/* Starts one replica at a time, and none beside a reload, which comes first. */
static void replicas_grow(struct model *model)
{
	const struct generation *active = model->fleet.active;
	struct err err = ERR_NULL;
	uint64_t need_bytes;

	if (reload_in_flight(model) || ev_is_active(&model->replicas.grow) ||
	    !fleet_has_place(&model->fleet) ||
	    fleet_replicas(&model->fleet, false) > fleet_replicas(&model->fleet, true))
		return;
	need_bytes = replicas_need(active);
	if (replicas_spawn(model, need_bytes, &err) == 0)
		return;
	log_event(LOG_LEVEL_WARNING, "replica_refused",
	          "model=%s replicas=%u wanted=%u reason=%s", model->name,
	          fleet_replicas(&model->fleet, true) + 1, replicas_wanted(model),
	          LOG_QUOTED(err.text));
	replicas_try_later(model, MODEL_REPLICA_RETRY_S);
}

void replicas_adjust(struct model *model)
{
	unsigned int wanted = replicas_wanted(model) - 1;

	if (model->is_stopping || !model->fleet.active)
		return;
	fleet_retire_replicas(&model->fleet, false);
	if (fleet_replicas(&model->fleet, false) > wanted)
		replicas_shrink(model, wanted);
	else if (fleet_replicas(&model->fleet, false) < wanted)
		replicas_grow(model);
}

static void replicas_on_grow(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	replicas_adjust(timer->data);
}

unsigned int model_loaders(const struct model *model)
{
	return model->fleet.active ? fleet_replicas(&model->fleet, true) + 1 : 0;
}

int model_scale(struct model *model, unsigned int replicas, struct err *err)
{
	if (replicas < 1 || replicas > FLEET_REPLICAS + 1)
		return err_set(err, -ERANGE, "replicas must be 1 to %d, not %u",
		               FLEET_REPLICAS + 1, replicas);
	log_event(LOG_LEVEL_NOTICE, "scale", "model=%s from=%u to=%u", model->name,
	          replicas_wanted(model), replicas);
	model->replicas.scale = replicas;
	ev_timer_stop(model->context.loop, &model->replicas.grow);
	replicas_adjust(model);
	return 0;
}

/* Endings */

bool replicas_take_over(struct model *model)
{
	struct generation *replica = fleet_take_over(&model->fleet);

	if (!replica)
		return false;
	generation_set_listener(replica, &model->listener);
	log_event(LOG_LEVEL_NOTICE, "replica_leads", "model=%s gen=%llu pid=%d",
	          model->name, (unsigned long long)replica->number, (int)replica->pid);
	return true;
}

void replicas_on_death(struct model *model, const struct generation *dead)
{
	const struct restart_policy policy = {
		.limit = model->section->death_limit,
		.window_ns = model->section->death_window_ns,
	};
	uint64_t delay_ns = restart_on_death(&model->replicas.deaths, &policy,
	                                     reload_judge(dead), clock_now_ns());

	if (dead->entered_ns[GENERATION_ACTIVE] && !dead->has_culprit &&
	    !model_was_killed(dead))
		trial_on_death(model, dead->failure.text);
	replicas_try_later(model, (double)delay_ns / 1e9);
}

static void replicas_on_gone(struct model *model, struct generation *replica)
{
	bool has_failed = replica->failure.text[0] != '\0' && model->fleet.active &&
	                  replica->number == model->fleet.active->number;

	fleet_drop_replica(&model->fleet, replica);
	if (model->is_stopping)
		return;
	if (has_failed) {
		log_event(LOG_LEVEL_WARNING, "replica_failed",
		          "model=%s gen=%llu pid=%d reason=%s", model->name,
		          (unsigned long long)replica->number, (int)replica->pid,
		          LOG_QUOTED(replica->failure.text));
		replicas_on_death(model, replica);
	}
	reload_go_on(model);
	replicas_adjust(model);
}

/* A replica that was to share the weights of the active loader and cannot needs its own
 * beside them. */
static int replicas_decide_again(struct model *model, struct generation *replica,
                                 struct err *err)
{
	const struct device_use *use = &replica->use;
	const struct inputs *inputs = replica->inputs;
	uint64_t own_bytes =
		use->claim_bytes > use->now_bytes ? use->claim_bytes : use->now_bytes;
	uint64_t need_bytes;
	int r;

	if (!*replica->report.why_private.text ||
	    !fleet_is_current(&model->fleet, replica))
		return 0;
	need_bytes = model->fleet.active->use.peak_bytes;
	if (!inputs->footprint.is_private)
		need_bytes += (uint64_t)inputs->file.st_size;
	r = replicas_find_room(model, need_bytes, own_bytes, err);
	if (r == 0)
		r = reload_gpu_check_private(model, replica, err);
	if (r == 0)
		generation_claim(replica, need_bytes);
	return r;
}

static void replicas_on_staged(struct model *model, struct generation *replica)
{
	struct err why = ERR_NULL;

	if (replicas_decide_again(model, replica, &why) < 0)
		generation_dismiss(replica, &why);
	else
		generation_apply(replica, GENERATION_EV_COMMIT);
}

static void replicas_on_state(void *context, struct generation *replica,
                              enum generation_state from)
{
	struct model *model = context;

	(void)from;
	switch (replica->state) {
	case GENERATION_STAGED:
		replicas_on_staged(model, replica);
		break;
	case GENERATION_READY:
		generation_apply(replica, fleet_is_current(&model->fleet, replica)
		                                  ? GENERATION_EV_PROMOTE
		                                  : GENERATION_EV_RETIRE);
		break;
	case GENERATION_ACTIVE:
		restart_on_ready(&model->replicas.deaths);
		replicas_adjust(model);
		break;
	case GENERATION_UNKILLABLE:
		if (reload_put_aside(model, replica))
			replicas_on_gone(model, replica);
		break;
	case GENERATION_RECLAIMING:
		model_clear_away(model, replica);
		break;
	case GENERATION_DEAD:
		reload_receipt_note_orphans(model, replica);
		if (!fleet_bury(&model->fleet, replica))
			replicas_on_gone(model, replica);
		break;
	case GENERATION_NONE:
	case GENERATION_SPAWNED:
	case GENERATION_STAGING:
	case GENERATION_COMMITTING:
	case GENERATION_WARMING:
	case GENERATION_DRAINING:
	case GENERATION_STOPPING:
	case GENERATION_TERMINATING:
	case GENERATION_KILLING:
	case GENERATION_FAILED:
	case GENERATION_STATE_COUNT:
		break;
	}
	model_dispatch(model);
}

json_t *replicas_to_json(const struct model *model)
{
	json_t *array = json_array();

	for (size_t i = 0; i < FLEET_REPLICAS; i++)
		if (model->fleet.replicas[i])
			(void)json_array_append_new(
				array, fleet_loader_to_json(model->fleet.replicas[i]));
	return json_pack("{s:i,s:i,s:o}", "wanted", (int)replicas_wanted(model),
	                 "serving", (int)model_loaders(model), "others", array);
}

void replicas_init(struct model *model)
{
	model->replicas.listener = model->listener;
	model->replicas.listener.on_state = replicas_on_state;
	ev_timer_init(&model->replicas.grow, replicas_on_grow, 0., 0.);
	model->replicas.grow.data = model;
}

void replicas_rescale(struct model *model)
{
	model->replicas.scale = 0;
}

void replicas_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->replicas.grow);
}
