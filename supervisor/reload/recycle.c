/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Replaces loaders that have served, lived or grown as much as they may, by a reload like
 * any other. A loader that leads or a replica may reach a limit: all of the model's are
 * replaced.
 *
 * Limits are looked at once a second, and the number of requests with every answer, too.
 * A loader's limits are up to a tenth above what the section says. How far above comes
 * from the loader's process id, so that machines, and models, that began at the same
 * moment do not end at the same moment.
 */

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"

#define RECYCLE_LOOK_S 1.
#define RECYCLE_SHARES 1024 /* steps from a limit to a tenth above it */
/* The delay before another try doubles so often. */
#define RECYCLE_DOUBLINGS 4

/* @limit and what @loader may have beyond it. */
static uint64_t recycle_limit(const struct generation *loader, uint64_t limit)
{
	/* Neighbouring numbers are to lie far apart (Knuth, multiplicative hashing). */
	uint32_t share = (uint32_t)loader->pid * UINT32_C(2654435761) >> 22;

	return limit + limit / 10 * share / RECYCLE_SHARES;
}

static bool recycle_is_used_up(const struct config_model *section,
                               const struct generation *loader, struct err *ret_why)
{
	uint64_t most = recycle_limit(loader, section->max_requests);

	if (!section->max_requests || loader->n_answered < most)
		return false;
	(void)err_set(ret_why, 0,
	              "loader %d has answered %llu requests (max_requests = %u)",
	              (int)loader->pid, (unsigned long long)loader->n_answered,
	              section->max_requests);
	return true;
}

static bool recycle_is_old(const struct config_model *section,
                           const struct generation *loader, struct err *ret_why)
{
	uint64_t age_ns = clock_now_ns() - loader->entered_ns[GENERATION_ACTIVE];

	if (!section->max_age_ns || age_ns < recycle_limit(loader, section->max_age_ns))
		return false;
	(void)err_set(ret_why, 0, "loader %d has served for %.1f s (max_age = %.1f s)",
	              (int)loader->pid, (double)age_ns / 1e9,
	              (double)section->max_age_ns / 1e9);
	return true;
}

static bool recycle_has_grown(const struct config_model *section,
                              struct generation *loader, struct err *ret_why)
{
	uint64_t grown_bytes;

	if (!section->max_growth_bytes)
		return false;
	grown_bytes = saturate_minus(device_look(&loader->use), loader->use.base_bytes);
	if (grown_bytes <= section->max_growth_bytes)
		return false;
	(void)err_set(ret_why, 0,
	              "loader %d has grown by %.1f MiB, from %.1f MiB (max_growth = %.1f "
	              "MiB)",
	              (int)loader->pid, (double)grown_bytes / 1048576.0,
	              (double)loader->use.base_bytes / 1048576.0,
	              (double)section->max_growth_bytes / 1048576.0);
	return true;
}

/* True: no reload is on its way, and the last try was long enough ago. */
static bool recycle_may_ask(const struct model *model)
{
	const struct generation *active = model->fleet.active;

	return active && !model->is_stopping && !model->ask.pending &&
	       !reload_in_flight(model) &&
	       (model->recycle.tried != active->number ||
	        (model->recycle.again_ns && clock_now_ns() >= model->recycle.again_ns));
}

/* Notes this try: when the same generation serves after it, it has failed. */
static void recycle_note_try(struct model *model)
{
	struct model_recycle *recycle = &model->recycle;
	uint64_t delay_ns = model->section->retry_delay_ns;

	if (recycle->tried != model->fleet.active->number)
		recycle->n_tries = 0;
	recycle->tried = model->fleet.active->number;
	recycle->again_ns =
		delay_ns ? clock_now_ns() + (delay_ns << recycle->n_tries) : 0;
	if (recycle->n_tries < RECYCLE_DOUBLINGS)
		recycle->n_tries++;
}

static void recycle_ask(struct model *model, const struct generation *loader)
{
	recycle_note_try(model);
	log_event(LOG_LEVEL_NOTICE, "recycle", "model=%s gen=%llu reason=%s", model->name,
	          (unsigned long long)loader->number,
	          LOG_QUOTED(model->recycle.why.text));
	(void)model_reload(model, MODEL_CAUSE_RECYCLE);
}

void recycle_on_answers(void *context, struct generation *generation)
{
	struct model *model = context;

	model_on_answers(model, generation);
	if (model->section->max_requests && generation->state == GENERATION_ACTIVE &&
	    recycle_may_ask(model) &&
	    recycle_is_used_up(model->section, generation, &model->recycle.why))
		recycle_ask(model, generation);
}

static void recycle_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;
	const struct config_model *section = model->section;
	struct generation *list[FLEET_MAX];
	size_t n = fleet_list(&model->fleet, list);

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < n && recycle_may_ask(model); i++)
		if (list[i]->state == GENERATION_ACTIVE &&
		    (recycle_is_used_up(section, list[i], &model->recycle.why) ||
		     recycle_is_old(section, list[i], &model->recycle.why) ||
		     recycle_has_grown(section, list[i], &model->recycle.why)))
			recycle_ask(model, list[i]);
}

struct err recycle_take_why(struct model *model)
{
	struct err why = ERR_NULL;

	if (model->reload.causes & RELOAD_CAUSE(MODEL_CAUSE_RECYCLE))
		why = model->recycle.why;
	return why;
}

void recycle_arm(struct model *model)
{
	const struct config_model *section = model->section;
	bool is_wanted =
		section->max_requests || section->max_age_ns || section->max_growth_bytes;

	if (is_wanted && !ev_is_active(&model->recycle.look))
		ev_timer_again(model->context.loop, &model->recycle.look);
	else if (!is_wanted)
		ev_timer_stop(model->context.loop, &model->recycle.look);
}

void recycle_init(struct model *model)
{
	ev_timer *look = &model->recycle.look;

	ev_timer_init(look, recycle_on_look, RECYCLE_LOOK_S, RECYCLE_LOOK_S);
	look->data = model;
	recycle_arm(model);
}

void recycle_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->recycle.look);
}
