/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A model's beginning and end, and what others may know of it. Its work is done
 * elsewhere: requests in queue.c and poison.c, replicas in replicas.c, inputs on disk in
 * watch.c, the watch window in trial.c and arbiter.c, and the passage between generations
 * in reload/. Most functions here only read struct model (model_state.h).
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
#include "supervisor/model/model_state.h"
#include "supervisor/traffic/recorder.h"

const char *model_cause_name(enum model_cause cause)
{
	static const char *const names[] = {
		[MODEL_CAUSE_START] = "start",       [MODEL_CAUSE_SECRETS] = "secrets",
		[MODEL_CAUSE_CONFIG] = "config",     [MODEL_CAUSE_FILE] = "model-file",
		[MODEL_CAUSE_SIGNAL] = "signal",     [MODEL_CAUSE_MANUAL] = "manual",
		[MODEL_CAUSE_ROLLBACK] = "rollback", [MODEL_CAUSE_REBUILD] = "rebuild",
		[MODEL_CAUSE_CRASH] = "crash",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == MODEL_CAUSE_COUNT,
	               "one name per cause");
	return names[cause];
}

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

bool model_is_stale(const struct model *model)
{
	return *model_watch_stale(model) != '\0';
}

const struct receipt *model_receipt(const struct model *model)
{
	return model->last.number > 0 ? &model->last : NULL;
}

const char *model_name(const struct model *model)
{
	return model->name;
}

bool model_is_ready(const struct model *model)
{
	return model->fleet.active != NULL && !model->is_stopping;
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

static const char *model_state_text(const struct model *model)
{
	if (model->is_stopping)
		return "stopping";
	if (model->fleet.active)
		return "ready";
	if (model->deaths.is_failed)
		return "failed";
	if (model->fleet.candidate)
		return "loading";
	if (!reload_is_expected(model))
		return "failed";
	return model->served ? "restarting" : "starting";
}

static json_t *model_text_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

json_t *model_generation_to_json(const struct generation *generation)
{
	if (!generation)
		return json_null();
	return json_pack("{s:I,s:i,s:s,s:i}", "generation",
	                 (json_int_t)generation->number, "pid", (int)generation->pid,
	                 "state", generation_state_name(generation->state), "leases",
	                 (int)lane_leased(generation->lane));
}

/* Lists the generations that survive SIGKILL. */
static json_t *model_stuck_to_json(const struct model *model)
{
	json_t *array = json_array();

	for (size_t i = 0; i < FLEET_STUCK; i++)
		if (model->fleet.stuck[i])
			(void)json_array_append_new(
				array, model_generation_to_json(model->fleet.stuck[i]));
	return array;
}

static json_t *model_failures_to_json(const struct request_counts *counts)
{
	json_t *failures = json_object();

	for (unsigned int i = 0; i < REQUEST_FAILURE_COUNT; i++)
		(void)json_object_set_new(failures,
		                          request_failure_name((enum request_failure)i),
		                          json_integer((json_int_t)counts->failures[i]));
	return failures;
}

json_t *model_to_json(struct model *model)
{
	const struct generation *active = model->fleet.active;
	const struct request_counts *counts = &model->queue.counts;
	struct err rollback_off;
	bool can_roll_back = ledger_has_previous(&model->ledger, &rollback_off);

	return json_pack(
		"{s:s,s:s,s:I,s:i,s:f,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I,"
		"s:b,s:o,s:o,s:o,s:{s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:I,s:I}}",
		"name", model->name, "state", model_state_text(model), "generation",
		(json_int_t)(active ? active->number : 0), "pid",
		active ? (int)active->pid : 0, "since_ms",
		active ? generation_phase_ms(active, GENERATION_ACTIVE) : 0., "candidate",
		model_generation_to_json(model->fleet.candidate), "retiring",
		model_generation_to_json(model->fleet.retiring), "stuck",
		model_stuck_to_json(model), "replicas", replicas_to_json(model), "stale",
		model_text_or_null(model_watch_stale(model)), "secrets_skipped",
		model_text_or_null(model->skipped.text), "last_error",
		model_text_or_null(model->last_error.text), "secrets_digest",
		model_text_or_null(active ? active->inputs->secrets.digest : NULL),
		"weights_sha256",
		model_text_or_null(active ? active->report.weights_sha256 : NULL),
		"weights", reload_weights_to_json(model), "receipts",
		(json_int_t)model->receipts, "request_arena_used_bytes",
		(json_int_t)model->queue.arena.used_bytes, "can_roll_back", can_roll_back,
		"rollback_off", model_text_or_null(rollback_off.text), "hold",
		model_hold_to_json(model), "poison", model_poison_to_json(model),
		"requests", "accepted", (json_int_t)counts->accepted, "answered",
		(json_int_t)counts->answered, "faults", (json_int_t)counts->faults,
		"failed", (json_int_t)counts->failed, "failures",
		model_failures_to_json(counts), "held", (json_int_t)counts->held,
		"leased", (json_int_t)counts->leased, "replayed",
		(json_int_t)counts->replayed, "held_bytes",
		(json_int_t)counts->held_bytes);
}
