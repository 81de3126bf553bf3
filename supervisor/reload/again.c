/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tries again when a reload failed or a loader died: the inputs that served are rebuilt
 * or started again, and changes on disk are tried again by themselves, if that may help.
 *
 * While the old generation serves on, such a try costs nothing, and tries go on. When the
 * old one had to go first (staged, stop-first) each try costs the clients a pause, so a
 * few must do. A try that is refused beforehand, for want of memory, costs no pause and
 * does not count.
 */

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"

#define RELOAD_AGAIN_DOUBLINGS 4
#define RELOAD_PAUSES_MAX      3

_Static_assert(CONFIG_DEATHS_MAX <= RESTART_LIMIT_MAX, "so many deaths are remembered");

void reload_schedule_restart(struct model *model, enum restart_death death)
{
	const struct restart_policy policy = {
		.limit = model->section->death_limit,
		.window_ns = model->section->death_window_ns,
	};
	bool had_failed = model->retry.deaths.is_failed;
	uint64_t delay_ns;

	if (model->is_stopping)
		return;
	delay_ns = restart_on_death(&model->retry.deaths, &policy, death, clock_now_ns());
	log_event(LOG_LEVEL_WARNING, "loader_restart",
	          "model=%s deaths=%llu refused=%llu failed=%s delay_s=%.1f", model->name,
	          (unsigned long long)model->retry.deaths.n_deaths,
	          (unsigned long long)model->retry.deaths.n_refused,
	          model->retry.deaths.is_failed ? "yes" : "no", (double)delay_ns / 1e9);
	ev_timer_stop(model->context.loop, &model->retry.restart);
	ev_timer_set(&model->retry.restart, (double)delay_ns / 1e9, 0.);
	ev_timer_start(model->context.loop, &model->retry.restart);
	if (model->retry.deaths.is_failed && !had_failed)
		log_event(LOG_LEVEL_ERR, "model_failed",
		          "model=%s deaths=%llu refused=%llu action=\"turning requests "
		          "away, trying again now and then\"",
		          model->name, (unsigned long long)model->retry.deaths.n_deaths,
		          (unsigned long long)model->retry.deaths.n_refused);
	if (model->retry.deaths.is_failed)
		model_fail_held(model, model_public_reason(model));
}

void reload_restart(struct model *model, enum restart_death death)
{
	if (!reload_in_flight(model) && !model->ask.pending)
		reload_schedule_restart(model, death);
}

static void reload_on_restart(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	if (!model->fleet.active && !model->is_stopping)
		(void)model_reload(model, MODEL_CAUSE_CRASH);
}

/* True: an old generation served when the reload began, and none does now. */
static bool reload_cost_a_pause(const struct model *model)
{
	return !model->fleet.active && model->reload.receipt.from.generation != 0;
}

/* Tries changes on disk again without anybody's asking. */
void reload_schedule_again(struct model *model)
{
	const unsigned int changes =
		RELOAD_CAUSE(MODEL_CAUSE_START) | RELOAD_CAUSE(MODEL_CAUSE_SECRETS) |
		RELOAD_CAUSE(MODEL_CAUSE_CONFIG) | RELOAD_CAUSE(MODEL_CAUSE_FILE);
	unsigned int causes = model->reload.causes & changes;
	double delay_s = (double)model->section->retry_delay_ns / 1e9 *
	                 (double)(1u << model->retry.n_tries);

	if (delay_s <= 0 || !causes || !model->reload.is_newest)
		return;
	if (reload_cost_a_pause(model) && model->retry.n_pauses++ >= RELOAD_PAUSES_MAX) {
		log_event(LOG_LEVEL_ERR, "reload_given_up",
		          "model=%s pauses=%u action=\"waiting for a change, or for "
		          "moultctl reload\"",
		          model->name, model->retry.n_pauses);
		return;
	}
	model->retry.causes = causes;
	if (model->retry.n_tries < RELOAD_AGAIN_DOUBLINGS)
		model->retry.n_tries++;
	log_event(LOG_LEVEL_NOTICE, "reload_again", "model=%s delay_s=%.1f", model->name,
	          delay_s);
	ev_timer_stop(model->context.loop, &model->retry.again);
	ev_timer_set(&model->retry.again, delay_s, 0.);
	ev_timer_start(model->context.loop, &model->retry.again);
}

static void reload_on_again(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	ask_add(model, model->retry.causes);
	ask_kick(model);
}

void reload_again_wait(struct model *model, double look_s, const char *reason)
{
	if (ev_is_active(&model->retry.wait))
		return;
	log_event(LOG_LEVEL_INFO, "reload_waits", "model=%s reason=%s", model->name,
	          LOG_QUOTED(reason));
	ev_timer_set(&model->retry.wait, look_s, look_s);
	ev_timer_start(model->context.loop, &model->retry.wait);
}

static void reload_on_wait(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)revents;
	if (model->ask.pending == 0 || reload_in_flight(model))
		ev_timer_stop(loop, timer);
	ask_kick(model);
}

void reload_again_forget(struct model *model)
{
	model->retry.n_tries = 0;
	model->retry.n_pauses = 0;
}

void reload_again_begin(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->retry.wait);
	ev_timer_stop(model->context.loop, &model->retry.restart);
	if (model->ask.pending & ~RELOAD_RECOVERY)
		ev_timer_stop(model->context.loop, &model->retry.again);
}

void reload_again_stop(struct model *model)
{
	reload_again_forget(model);
	ev_timer_stop(model->context.loop, &model->retry.again);
}

void reload_again_init(struct model *model)
{
	ev_timer_init(&model->retry.restart, reload_on_restart, 0., 0.);
	model->retry.restart.data = model;
	ev_timer_init(&model->retry.again, reload_on_again, 0., 0.);
	model->retry.again.data = model;
	ev_timer_init(&model->retry.wait, reload_on_wait, 0., 0.);
	model->retry.wait.data = model;
}

void reload_again_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->retry.restart);
	ev_timer_stop(model->context.loop, &model->retry.again);
	ev_timer_stop(model->context.loop, &model->retry.wait);
}
