/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What others may know of a model, and whether it serves: in a sentence that any client
 * may read. Everything here only reads.
 */

#include "supervisor/model/model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/config/check.h"
#include "supervisor/model/members.h"
#include "supervisor/traffic/recorder.h"

/* What is recent where readiness asks for answers, and how many say something. */
#define MODEL_RECENT_NS  (30 * CLOCK_NS_PER_SEC)
#define MODEL_RECENT_MIN 10

bool model_is_stopped(const struct model *model)
{
	return model->is_stopped;
}

bool model_is_unused(const struct model *model)
{
	return model->queue.arena.used_bytes == 0;
}

/* Answers to others */

uint64_t model_reloads(const struct model *model, enum model_cause cause,
                       enum receipt_outcome outcome)
{
	return model->reloads[cause][outcome];
}

const char *model_walls(const struct model *model)
{
	return model->fleet.active ? model->fleet.active->report.walls.text : "";
}

bool model_is_stale(const struct model *model)
{
	return *sources_stale(model) || model->ledger.refused;
}

const struct receipt *model_receipt(const struct model *model)
{
	return model->last.number > 0 ? &model->last : NULL;
}

const char *model_name(const struct model *model)
{
	return model->name;
}

struct model *model_find(struct model *const *models, const char *name)
{
	while (*models && strcmp((*models)->name, name) != 0)
		models++;
	return *models;
}

/* True: too many of the last answers are errors that the model is to blame for. */
static bool model_is_failing(const struct model *model, struct err *ret_why)
{
	struct pulse_summary recent =
		pulse_recent(&model->trial.pulse, MODEL_RECENT_NS, clock_now_ns());
	double percent = pulse_error_percent(&recent);

	if (model->section->unready_errors == 0 || recent.answers < MODEL_RECENT_MIN ||
	    percent < model->section->unready_errors)
		return false;
	(void)err_set(
		ret_why, 0,
		"%.0f %% of its last %llu answers are errors (unready_errors = %u); "
		"requests are asked all the same",
		percent, (unsigned long long)recent.answers,
		(unsigned int)model->section->unready_errors);
	return true;
}

bool model_is_ready(const struct model *model)
{
	struct err why;

	return model->fleet.active != NULL && !model->is_stopping &&
	       !model_is_failing(model, &why);
}

bool model_is_tried(const struct model *model)
{
	return model->receipts > (reload_in_flight(model) ? 1 : 0);
}

bool model_stops_sharing(const struct model *model)
{
	return model->ledger.writer != NULL;
}

uint64_t model_generation(const struct model *model)
{
	return model->fleet.active ? model->fleet.active->number : 0;
}

const struct config_model *model_config(const struct model *model)
{
	return model->fleet.active ? model->fleet.active->inputs->section
	                           : model->section;
}

bool model_tensors(const struct model *model, struct declared_view *ret_view)
{
	static const struct declared none;
	const struct inputs *inputs =
		model->fleet.active ? model->fleet.active->inputs : model->ledger.good;

	return inputs ? declared_look(inputs->section, &inputs->told, ret_view)
	              : declared_look(model->section, &none, ret_view);
}

const struct config_model *model_good_config(const struct model *model)
{
	const struct inputs *good = model->ledger.good;

	/* Inputs on trial may have to go. */
	if (trial_is_open(model) && model->ledger.previous)
		good = model->ledger.previous;
	/* Keys that make no generation are the newest at once. */
	if (!good || !config_model_needs_generation(good->section, model->section))
		return model->section;
	return good->section;
}

const char *model_last_error(const struct model *model)
{
	return model->last_error.text;
}

const struct stats *model_stats(const struct model *model)
{
	return &model->queue.stats;
}

void model_note_response(struct model *model, unsigned int status)
{
	stats_note_response(&model->queue.stats, status);
}

const struct request_counts *model_counts(const struct model *model)
{
	return &model->queue.counts;
}

int model_record(struct model *model, struct control_call *call, unsigned int count,
                 uint64_t timeout_ns, struct err *err)
{
	if (model->is_stopping)
		return err_set(err, -ESHUTDOWN, "model '%s' is being stopped",
		               model->name);
	return recorder_start(&model->queue, call, count, timeout_ns, err);
}

/* Presence */

const char *model_presence_name(enum model_presence presence)
{
	/* Triton's words, which its clients know. */
	static const char *const names[] = {
		[MODEL_READY] = "READY",
		[MODEL_LOADING] = "LOADING",
		[MODEL_UNAVAILABLE] = "UNAVAILABLE",
	};

	return names[presence];
}

/* Says what is under way, and how far it is. */
static void model_explain_loading(struct model *model, struct err *ret_why)
{
	const struct generation *candidate = model->fleet.candidate;
	int percent = hold_percent(&model->hold, clock_now_ns());

	if (ev_is_active(&model->retry.restart) && !reload_in_flight(model))
		(void)err_set(ret_why, 0, "another loader is started in %.1f s",
		              ev_timer_remaining(model->context.loop,
		                                 &model->retry.restart));
	else if (!candidate)
		(void)err_set(ret_why, 0, "waiting for the old loader to end");
	else if (percent < 0)
		(void)err_set(ret_why, 0, "%s", generation_state_name(candidate->state));
	else
		(void)err_set(ret_why, 0, "%s, at %d %% of the usual time",
		              generation_state_name(candidate->state), percent);
}

const char *model_public_error(struct model *model)
{
	const struct receipt *last = &model->last;

	if (model->section->error_detail == CONFIG_DETAIL_FULL ||
	    *model->last_error.text == '\0')
		return model->last_error.text;
	if (last->number > 0 && last->outcome == RECEIPT_FAILED)
		(void)snprintf(model->public_error, sizeof(model->public_error),
		               "the last attempt failed (receipt %llu says why)",
		               (unsigned long long)last->number);
	else
		(void)snprintf(model->public_error, sizeof(model->public_error),
		               "the last attempt failed (the log says why)");
	return model->public_error;
}

const char *model_public_reason(struct model *model)
{
	const char *error = model_public_error(model);

	return *error ? error : "no generation serves";
}

enum model_presence model_presence(struct model *model, struct err *ret_why)
{
	struct err last = ERR_NULL;

	ret_why->text[0] = '\0';
	if (model->is_stopping) {
		(void)err_set(ret_why, 0, "it is being stopped");
		return MODEL_UNAVAILABLE;
	}
	if (model->fleet.active)
		return model_is_failing(model, ret_why) ? MODEL_UNAVAILABLE : MODEL_READY;
	(void)err_set(&last, 0, "%s", model_public_error(model));
	if (!reload_is_expected(model)) {
		(void)err_set(ret_why, 0, "%s", model_public_reason(model));
		return MODEL_UNAVAILABLE;
	}
	model_explain_loading(model, ret_why);
	if (*last.text) {
		struct err now = *ret_why;

		(void)err_set(ret_why, 0, "%.200s; before that: %.250s", now.text,
		              last.text);
	}
	return MODEL_LOADING;
}

const char *model_public_death(struct model *model, const struct generation *dead)
{
	if (model->section->error_detail == CONFIG_DETAIL_FULL)
		return dead->failure.text;
	(void)snprintf(model->public_error, sizeof(model->public_error),
	               "reference: generation %llu", (unsigned long long)dead->number);
	return model->public_error;
}

void model_set_last_error(struct model *model, const char *reason)
{
	(void)err_set(&model->last_error, 0, "%s", reason);
}

void model_note_death(struct model *model, const char *why)
{
	(void)err_set(&model->death, 0, "%s", why);
}
