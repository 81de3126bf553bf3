/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models that clients load and unload by name (model/repository.h): files say what a model is, and a
 * request when it is there. Who waits, and what is unloaded, is in supervisor_calls.c.
 */

#include "supervisor/supervisor_state.h"

#include <string.h>

#include "shared/log.h"

/* Calls that wait at once. */
#define REPOSITORY_CALLS_MAX 64

static int repository_load(struct supervisor *supervisor,
                           const struct repository_ask *ask,
                           struct repository_call **ret_call,
                           struct request_refusal *refusal)
{
	const struct config_model *section;
	struct model *model;
	struct err err = ERR_NULL;

	/* New files may bring the model, or change it. */
	if (supervisor_reload_config(supervisor, SUPERVISOR_BY_COMMAND, &err) < 0)
		return request_refuse(refusal, 400, 0,
		                      "the configuration is refused, nothing changed: %s",
		                      err.text);
	section = config_find(supervisor->config, ask->model);
	if (!section)
		return request_refuse(refusal, 404, 0,
		                      "there is no model '%s' in the configuration",
		                      ask->model);
	model = supervisor_find(supervisor, ask->model);
	if (!model && supervisor->n_models + supervisor->n_leaving >= CONFIG_MODELS_MAX)
		return request_refuse(
			refusal, 503, 1,
			"as many models as there may be are there or leaving");
	if (!model && supervisor_add(supervisor, supervisor->config, section, &err) < 0)
		return request_refuse(refusal, 400, 0, "%s", err.text);
	supervisor_calls_forget(supervisor, ask->model);
	model = supervisor_find(supervisor, ask->model);
	log_event(LOG_LEVEL_NOTICE, "repository_load", "model=%s", ask->model);
	return supervisor_calls_wait(supervisor, ask, model,
	                             model_reload(model, MODEL_CAUSE_MANUAL), ret_call,
	                             refusal);
}

static int repository_unload(struct supervisor *supervisor,
                             const struct repository_ask *ask,
                             struct repository_call **ret_call,
                             struct request_refusal *refusal)
{
	struct model *model;

	if (!config_find(supervisor->config, ask->model))
		return request_refuse(refusal, 404, 0,
		                      "there is no model '%s' in the configuration",
		                      ask->model);
	supervisor_calls_remember(supervisor, ask->model);
	for (size_t i = 0; i < supervisor->n_models; i++) {
		if (strcmp(model_name(supervisor->models[i]), ask->model) != 0)
			continue;
		log_event(LOG_LEVEL_NOTICE, "repository_unload", "model=%s", ask->model);
		supervisor_remove(supervisor, i);
		supervisor_say_started(supervisor);
		supervisor_say_status(supervisor);
		break;
	}
	model = supervisor_calls_leaving(supervisor, ask->model);
	return model ? supervisor_calls_wait(supervisor, ask, model, 0, ret_call, refusal)
	             : 0;
}

static int repository_begin(void *context, const struct repository_ask *ask,
                            struct repository_call **ret_call,
                            struct request_refusal *refusal)
{
	struct supervisor *supervisor = context;

	*ret_call = NULL;
	if (supervisor->is_stopping)
		return request_refuse(refusal, 503, 0, "moultd is stopping");
	if (supervisor->calls.n_waiting >= REPOSITORY_CALLS_MAX)
		return request_refuse(refusal, 503, 1,
		                      "too many models are being loaded and unloaded");
	return ask->verb == REPOSITORY_LOAD
	               ? repository_load(supervisor, ask, ret_call, refusal)
	               : repository_unload(supervisor, ask, ret_call, refusal);
}

void supervisor_repository_init(struct supervisor *supervisor)
{
	supervisor->repository = (struct repository){
		.begin = repository_begin,
		.drop = supervisor_calls_drop,
		.unloaded = supervisor_calls_unloaded,
		.context = supervisor,
	};
}
