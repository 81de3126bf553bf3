/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The beginning and the end of a model, and its configuration in between. All parts of a
 * model come together here: those of model/ and those of reload/.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/config/check.h"
#include "supervisor/model/requests.h"
#include "supervisor/reload/reload.h"
#include "supervisor/traffic/recorder.h"

/* The beginning */

static void reload_on_buried(void *context)
{
	struct model *model = context;

	if (!model->is_stopping || model->is_stopped || !fleet_is_gone(&model->fleet))
		return;
	model->is_stopped = true;
	model->context.listener->on_stopped(model->context.listener->context, model);
}

static void reload_on_kick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	reload_try_start(timer->data);
	replicas_adjust(timer->data);
}

static void reload_on_turn(void *context)
{
	reload_try_start(context);
}

static void reload_init(struct model *model)
{
	model->turn = (struct loads_turn){ .on_turn = reload_on_turn, .context = model };
	reload_again_init(model);
	fleet_init(&model->fleet, model->context.loop, reload_on_buried, model);
	ask_init(model, reload_on_kick, reload_on_newer);
	sources_init(model);
	trial_init(model);
	arbiter_init(model);
	recycle_init(model);
	replicas_init(model);
}

static void model_log_doubt(const struct model *model, const struct config_model *before)
{
	struct err why = ERR_NULL;
	struct err known = ERR_NULL;

	if (config_model_is_doubtful(model->section, &why) &&
	    !(before && config_model_is_doubtful(before, &known) &&
	      strcmp(known.text, why.text) == 0))
		log_event(LOG_LEVEL_WARNING, "config_doubt", "model=%s reason=%s",
		          model->name, LOG_QUOTED(why.text));
}

int model_new(struct model **ret_model, const struct model_context *context,
              const struct config_model *config, struct err *err)
{
	struct model *model;
	int r;

	model = calloc(1, sizeof(*model));
	if (!model)
		return err_set(err, -ENOMEM, "out of memory");
	model->context = *context;
	(void)config_ref(context->config);
	model->section = config;
	(void)snprintf(model->name, sizeof(model->name), "%s", config->name);
	model->listener = (struct generation_listener){
		.on_state = reload_on_state,
		.on_lease_lost = model_on_lease_lost,
		.on_answers = recycle_on_answers,
		.context = model,
	};
	r = queue_init(&model->queue, context->pump, model->name,
	               config->request_arena_bytes, config->max_body_bytes);
	if (r < 0) {
		config_unref(context->config);
		free(model);
		return err_set(err, r,
		               "model '%s' gets no request_arena of %llu bytes: %s",
		               config->name,
		               (unsigned long long)config->request_arena_bytes,
		               strerror(-r));
	}
	model_log_doubt(model, NULL);
	detail_set_full(&model->queue.detail, config->error_detail == CONFIG_DETAIL_FULL);
	hold_begin(&model->hold, HOLD_CAUSE_START, clock_now_ns());
	reload_init(model);
	*ret_model = model;
	return 0;
}

/* The configuration */

/* Loaders that live already may take as long as the new section says. */
static void reload_set_patience(struct model *model)
{
	struct generation *list[FLEET_MAX];
	size_t n = fleet_list(&model->fleet, list);

	for (size_t i = 0; i < n; i++)
		generation_set_config(list[i], model->section);
}

bool model_set_config(struct model *model, struct config *config,
                      const struct config_model *fresh)
{
	struct config *old = model->context.config;
	const struct config_model *before = model->section;
	bool needs = config_model_needs_generation(before, fresh);

	if (model->section->replicas != fresh->replicas)
		replicas_rescale(model);
	model->context.config = config_ref(config);
	model->section = fresh;
	detail_set_full(&model->queue.detail, fresh->error_detail == CONFIG_DETAIL_FULL);
	model_log_doubt(model, before);
	config_unref(old);
	reload_set_patience(model);
	sources_arm(model);
	recycle_arm(model);
	replicas_adjust(model);
	if (needs)
		(void)model_reload(model, MODEL_CAUSE_CONFIG);
	return needs;
}

/* A person asks for what served before */

int model_rollback(struct model *model, uint64_t *ret_number, struct err *err)
{
	const struct inputs *building = reload_in_flight(model) && !model->fleet.active
	                                        ? model->reload.inputs
	                                        : NULL;
	bool is_asked;
	int r;

	if (reload_in_flight(model) && model->fleet.candidate)
		building = model->reload.inputs;
	r = reload_ask_rollback(model, false, ret_number, err);
	if (r < 0)
		return r;
	is_asked = arbiter_drop(model);
	if (!building || building != model->ledger.rollback_to || is_asked) {
		reload_tell(model, RELOAD_EV_OVERTAKEN, NULL, RELOAD_OVERTAKEN);
		return 0;
	}
	/* The very same inputs are on their way, and a person wants them, whatever the
	 * arbiter would say. */
	ask_drop(model, RELOAD_CAUSE(MODEL_CAUSE_ROLLBACK));
	ledger_ask_back(&model->ledger, NULL);
	*ret_number = model->receipts;
	return 0;
}

/* The end */

static void reload_stop(struct model *model)
{
	struct generation *serving[] = { model->fleet.active, model->fleet.retiring };

	model->is_stopping = true;
	if (!reload_in_flight(model))
		loads_end(&model->turn);
	ask_fini(model);
	reload_again_fini(model);
	sources_fini(model);
	trial_fini(model);
	arbiter_fini(model);
	recycle_fini(model);
	/* With a candidate the reload ends when the candidate does. */
	reload_tell(model, RELOAD_EV_STOP, NULL, RELOAD_STOPPING);
	/* The active generation becomes the retiring one, whose death is no crash. */
	if (model->fleet.active && !model->fleet.retiring)
		fleet_retire(&model->fleet);
	for (size_t i = 0; i < sizeof(serving) / sizeof(serving[0]); i++)
		if (serving[i])
			generation_apply(serving[i], GENERATION_EV_RETIRE);
	replicas_fini(model);
	fleet_retire_replicas(&model->fleet, true);
	fleet_look(&model->fleet);
}

static void reload_fini(struct model *model)
{
	model->is_stopping = true;
	loads_end(&model->turn);
	reload_again_fini(model);
	ask_fini(model);
	sources_fini(model);
	trial_fini(model);
	arbiter_fini(model);
	recycle_fini(model);
	replicas_fini(model);
	fleet_fini(&model->fleet);
	reload_weights_swap(model, NULL);
	inputs_unref(model->reload.inputs);
	ledger_fini(&model->ledger);
}

/* Logs the last word about the model's requests: at the end of every life, also a forced
 * one. */
static void model_log_end(const struct model *model)
{
	const struct request_counts *counts = &model->queue.counts;
	char reasons[256] = "";
	size_t used = 0;

	for (unsigned int i = 0; i < REQUEST_FAILURE_COUNT; i++)
		used += (size_t)snprintf(reasons + used, sizeof(reasons) - used,
		                         " %s=%llu",
		                         request_failure_name((enum request_failure)i),
		                         (unsigned long long)counts->failures[i]);
	log_event(LOG_LEVEL_NOTICE, "model_stopped",
	          "model=%s accepted=%llu answered=%llu failed=%llu%s", model->name,
	          (unsigned long long)counts->accepted,
	          (unsigned long long)counts->answered,
	          (unsigned long long)counts->failed, reasons);
}

void model_free(struct model *model)
{
	if (!model)
		return;
	reload_fini(model);
	recorder_end(model->queue.recorder, "the model is removed");
	model_fail_held(model, "the model is removed");
	model_log_end(model);
	queue_fini(&model->queue);
	config_unref(model->context.config);
	free(model);
}

void model_stop(struct model *model)
{
	recorder_end(model->queue.recorder, "the model is being stopped");
	model_fail_held(model, "the model is being stopped");
	reload_stop(model);
}
