/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The models of a supervisor, as they come and go. Models that a configuration lacks are
 * stopped and move from models[] to leaving[]. A sweep frees them there, outside their own
 * calls, once no client holds a request of theirs.
 */

#include "supervisor/supervisor_state.h"

#include <assert.h>
#include <ev.h>
#include <string.h>

#include "shared/log.h"

/* Seconds between looks at removed models, until their last requests have left. */
#define SUPERVISOR_SWEEP_S 0.2

struct model *supervisor_find(struct supervisor *supervisor, const char *name)
{
	return model_find(supervisor->models, name);
}

struct model *supervisor_at(struct supervisor *supervisor, size_t i)
{
	return i < supervisor->n_models ? supervisor->models[i] : NULL;
}

static bool supervisor_is_empty(const struct supervisor *supervisor)
{
	return supervisor->n_models == 0 && supervisor->n_leaving == 0;
}

int supervisor_add(struct supervisor *supervisor, struct config *config,
                   const struct config_model *section, struct err *err)
{
	const struct model_context context = {
		.loop = supervisor->loop,
		.pump = &supervisor->pump,
		.watch = supervisor->watch,
		.config = config,
		.device = &supervisor->devices.host,
		.devices = &supervisor->devices,
		.store = &supervisor->store,
		.loads = &supervisor->loads,
		.bases = &supervisor->bases,
		.numbers = &supervisor->numbers,
		.keeper = &supervisor->keeper,
		.spares = supervisor->spares,
		.listener = &supervisor->model_listener,
	};
	struct model *model;
	int r;

	r = model_new(&model, &context, section, err);
	if (r < 0)
		return r;
	supervisor->models[supervisor->n_models++] = model;
	(void)model_reload(model, MODEL_CAUSE_START);
	return 0;
}

void supervisor_add_missing(struct supervisor *supervisor)
{
	struct config *config = supervisor->config;
	struct err err = ERR_NULL;

	for (size_t i = 0; i < config->n_models; i++) {
		const struct config_model *section = config->models[i];

		if (supervisor_find(supervisor, section->name) ||
		    supervisor_is_unloaded(supervisor, section->name))
			continue;
		if (supervisor->n_models + supervisor->n_leaving >= CONFIG_MODELS_MAX) {
			log_event(LOG_LEVEL_WARNING, "model_waits",
			          "model=%s reason=\"as many models as there may be "
			          "are there or leaving\"",
			          section->name);
			return; /* the sweep goes on when one has left */
		}
		if (supervisor_add(supervisor, config, section, &err) < 0)
			log_event(LOG_LEVEL_ERR, "model_refused", "model=%s reason=%s",
			          section->name, LOG_QUOTED(err.text));
	}
}

/* A stopped model is freed here, outside its own calls, once no client holds a request. */
static void supervisor_on_sweep(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct supervisor *supervisor = timer->data;
	size_t kept = 0;
	bool has_left;

	(void)revents;
	for (size_t i = 0; i < supervisor->n_leaving; i++) {
		struct model *model = supervisor->leaving[i];

		if (!model_is_stopped(model) || !model_is_unused(model)) {
			supervisor->leaving[kept++] = model;
			continue;
		}
		supervisor_calls_on_freed(supervisor, model);
		model_free(model);
	}
	has_left = kept < supervisor->n_leaving;
	supervisor->n_leaving = kept;
	if (has_left && !supervisor->is_stopping)
		supervisor_add_missing(supervisor);
	if (kept == 0)
		ev_timer_stop(loop, timer);
	if (supervisor->is_idle && supervisor_is_empty(supervisor))
		ev_break(loop, EVBREAK_ALL);
}

void supervisor_sweep(struct supervisor *supervisor)
{
	ev_timer_again(supervisor->loop, &supervisor->sweep);
	ev_feed_event(supervisor->loop, &supervisor->sweep, EV_TIMER);
}

void supervisor_on_stopped(void *context, struct model *model)
{
	struct supervisor *supervisor = context;

	(void)model;
	ev_feed_event(supervisor->loop, &supervisor->sweep, EV_TIMER);
}

void supervisor_remove(struct supervisor *supervisor, size_t i)
{
	struct model *model = supervisor->models[i];

	assert(supervisor->n_leaving < CONFIG_MODELS_MAX);
	supervisor->listener.on_removed(supervisor->listener.context, model_name(model));
	supervisor_calls_on_removed(supervisor, model);
	supervisor->n_models--;
	memmove(&supervisor->models[i], &supervisor->models[i + 1],
	        (supervisor->n_models - i) * sizeof(supervisor->models[0]));
	supervisor->models[supervisor->n_models] = NULL;
	supervisor->leaving[supervisor->n_leaving++] = model;
	model_stop(model);
	ev_timer_again(supervisor->loop, &supervisor->sweep);
}

void supervisor_on_file_touched(void *context, const struct stat *before,
                                const struct stat *after)
{
	struct supervisor *supervisor = context;

	store_on_file_touched(&supervisor->store, before, after);
	for (size_t i = 0; i < supervisor->n_models; i++)
		model_on_file_touched(supervisor->models[i], before, after);
}

void supervisor_on_store(void *context)
{
	const struct supervisor *supervisor = context;

	for (size_t i = 0; i < supervisor->n_models; i++)
		model_on_store(supervisor->models[i]);
}

void supervisor_models_init(struct supervisor *supervisor)
{
	ev_timer_init(&supervisor->sweep, supervisor_on_sweep, 0., SUPERVISOR_SWEEP_S);
	supervisor->sweep.data = supervisor;
}

void supervisor_models_fini(struct supervisor *supervisor)
{
	for (size_t i = 0; i < supervisor->n_models; i++)
		model_free(supervisor->models[i]);
	for (size_t i = 0; i < supervisor->n_leaving; i++)
		model_free(supervisor->leaving[i]);
	if (supervisor->loop)
		ev_timer_stop(supervisor->loop, &supervisor->sweep);
}
