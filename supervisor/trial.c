/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The watch window: for a while after new inputs begin to serve, they are compared with
 * those before. When they do worse, the model goes back by itself.
 */

#include <stdio.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model_state.h"

#define TRIAL_LOOK_S 0.5
/* So many loaders dead within the window are no coincidence. */
#define TRIAL_DEATHS_MAX 3

static void trial_end(struct model *model, const char *verdict)
{
	ev_timer_stop(model->context.loop, &model->trial.look);
	log_event(LOG_LEVEL_NOTICE, "watch_window", "model=%s gen=%llu verdict=%s",
	          model->name, (unsigned long long)model_generation(model),
	          LOG_QUOTED(verdict));
}

static void trial_roll_back(struct model *model, const char *why)
{
	bool is_theirs = (model->pending & RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK)) &&
	                 !model->trial.has_asked;
	struct err err = ERR_NULL;
	uint64_t number;
	int r = model_rollback(model, &number, &err);

	trial_end(model, why);
	if (r < 0) {
		log_event(LOG_LEVEL_ERR, "rollback_refused", "model=%s reason=%s",
		          model->name, LOG_QUOTED(err.text));
		return;
	}
	/* Who waits for the one that is pending already gets it. */
	model->trial.has_asked = !is_theirs;
	(void)err_set(&model->last_error, 0, "rolled back: %.400s", why);
	log_event(LOG_LEVEL_ERR, "rollback", "model=%s reason=%s", model->name,
	          LOG_QUOTED(why));
}

static void trial_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;
	const struct config_model *section = model->section;
	const struct pulse_policy policy = {
		.errors_percent = section->watch_errors,
		.latency_percent = section->watch_latency,
	};
	uint64_t now_ns = clock_now_ns();
	struct pulse_summary before =
		pulse_sum(&model->trial.before, model->trial.begun_ns);
	struct pulse_summary now = pulse_sum(&model->queue.pulse, now_ns);
	struct err why;

	(void)loop;
	(void)revents;
	if (pulse_is_worse(&before, &now, &policy, &why))
		trial_roll_back(model, why.text);
	else if (now_ns - model->trial.begun_ns >= section->watch_window_ns) {
		trial_end(model, "good");
		reload_plan_keep(model);
	}
}

void trial_begin(struct model *model, uint64_t generation, bool has_new_inputs)
{
	struct model_trial *trial = &model->trial;

	/* Another loader of the same inputs stands where its predecessor stood. */
	model->queue.pulse.generation = generation;
	if (!has_new_inputs)
		return;
	trial->before = model->queue.pulse;
	trial->begun_ns = clock_now_ns();
	trial->n_deaths = 0;
	pulse_reset(&model->queue.pulse, generation);
	ev_timer_stop(model->context.loop, &trial->look);
	if (model->section->watch_window_ns == 0 || !model->previous ||
	    !model->reload.is_newest) {
		reload_plan_keep(model);
		return;
	}
	ev_timer_set(&trial->look, TRIAL_LOOK_S, TRIAL_LOOK_S);
	ev_timer_start(model->context.loop, &trial->look);
}

void trial_on_death(struct model *model, const char *why)
{
	char text[ERR_TEXT_MAX];

	if (!ev_is_active(&model->trial.look) ||
	    ++model->trial.n_deaths < TRIAL_DEATHS_MAX)
		return;
	(void)snprintf(text, sizeof(text), "%u loaders died; the last: %.380s",
	               model->trial.n_deaths, why);
	trial_roll_back(model, text);
}

bool trial_is_open(const struct model *model)
{
	return ev_is_active(&model->trial.look);
}

void trial_init(struct model *model)
{
	ev_timer_init(&model->trial.look, trial_on_look, 0., 0.);
	model->trial.look.data = model;
}

void trial_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->trial.look);
}
