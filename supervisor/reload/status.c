/* SPDX-License-Identifier: Apache-2.0 */

/* All that `moultctl status` shows of a model. */

#include "shared/clock.h"
#include "supervisor/figures/stats.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/model/requests.h"
#include "supervisor/parts/load.h"
#include "supervisor/process/proc.h"
#include "supervisor/reload/reload.h"

#define STATUS_NOT_SERVING                                                               \
	"what is on disk, which failed or was rolled back from; moultctl reload tries "  \
	"it"

static const char *model_state_text(const struct model *model)
{
	if (model->is_stopping)
		return "stopping";
	if (model->fleet.active)
		return "ready";
	if (model->retry.deaths.is_failed)
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

/* Lists the generations that survive SIGKILL. */
static json_t *model_stuck_to_json(const struct model *model)
{
	json_t *array = json_array();

	for (size_t i = 0; i < FLEET_STUCK; i++)
		if (model->fleet.stuck[i])
			(void)json_array_append_new(
				array, fleet_loader_to_json(model->fleet.stuck[i]));
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

/* Threads of the process that leads, as the kernel counts them; 0: none does. */
static unsigned int model_count_threads(const struct generation *active)
{
	struct proc proc;

	return active && proc_read(active->pid, &proc) ? proc.threads : 0;
}

/* Of the loader that serves; null: none does. */
static json_t *model_walls_to_json(const struct generation *active)
{
	if (!active)
		return json_null();
	return json_pack("{s:s,s:s,s:s}", "sandbox",
	                 config_sandbox_word(config_sandbox(active->inputs->section)),
	                 "layers", active->report.walls.text, "missing",
	                 active->report.walls_missing.text);
}

/* Of the generation that is being built, or is in its watch window; null: there is none. */
static json_t *model_load_to_json(const struct model *model)
{
	const struct model_trial *trial = &model->trial;

	if (model->fleet.candidate)
		return load_to_json(model->fleet.candidate);
	if (!model->fleet.active || !ev_is_active(&trial->look))
		return json_null();
	return load_trial_to_json(model->fleet.active->number,
	                          clock_ns_to_ms(clock_now_ns() - trial->begun_ns),
	                          clock_ns_to_ms(model->section->watch_window_ns));
}

static json_t *model_memory_to_json(const struct model *model)
{
	struct model_memory memory = model_memory(model, UINT64_MAX);

	return json_pack("{s:I,s:I,s:s?,s:I,s:I}", "private_bytes",
	                 (json_int_t)(memory.host_bytes - memory.host_shared_bytes),
	                 "shared_bytes", (json_int_t)memory.host_shared_bytes, "gpu",
	                 memory.gpu, "gpu_private_bytes",
	                 (json_int_t)(memory.gpu_bytes - memory.gpu_shared_bytes),
	                 "gpu_shared_bytes", (json_int_t)memory.gpu_shared_bytes);
}

json_t *model_to_json(struct model *model)
{
	const struct generation *active = model->fleet.active;
	const struct request_counts *counts = &model->queue.counts;
	struct err rollback_off;
	bool can_roll_back = ledger_has_previous(&model->ledger, &rollback_off);

	return json_pack(
		"{s:s,s:s,s:I,s:i,s:i,s:f,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,"
		"s:o,s:o,"
		"s:o,s:o,s:I,s:I,"
		"s:b,s:o,s:o,s:o,s:o,s:{s:I,s:I,s:I,s:I,s:o,s:I,s:I,s:I,s:I}}",
		"name", model->name, "state", model_state_text(model), "generation",
		(json_int_t)(active ? active->number : 0), "pid",
		active ? (int)active->pid : 0, "threads",
		(int)model_count_threads(active), "since_ms",
		active ? generation_phase_ms(active, GENERATION_ACTIVE) : 0., "load",
		model_load_to_json(model), "memory", model_memory_to_json(model),
		"latency_counts",
		histogram_counts_to_json(&model_stats(model)->request, HISTOGRAM_NS),
		"candidate", fleet_loader_to_json(model->fleet.candidate), "retiring",
		fleet_loader_to_json(model->fleet.retiring), "stuck",
		model_stuck_to_json(model), "replicas", replicas_to_json(model), "stale",
		model_text_or_null(sources_stale(model)), "not_serving",
		model_text_or_null(model->ledger.refused ? STATUS_NOT_SERVING : NULL),
		"secrets_skipped", model_text_or_null(model->sources.skipped.text),
		"last_error", model_text_or_null(model->last_error.text),
		"secrets_digest",
		model_text_or_null(active ? active->inputs->secrets.digest : NULL),
		"weights_sha256",
		model_text_or_null(active ? active->report.weights_sha256 : NULL),
		"weights", reload_weights_to_json(model), "receipts",
		(json_int_t)model->receipts, "request_arena_used_bytes",
		(json_int_t)model->queue.arena.used_bytes, "can_roll_back", can_roll_back,
		"rollback_off", model_text_or_null(rollback_off.text), "hold",
		model_hold_to_json(model), "walls", model_walls_to_json(active), "poison",
		model_poison_to_json(model), "requests", "accepted",
		(json_int_t)counts->accepted, "answered", (json_int_t)counts->answered,
		"faults", (json_int_t)counts->faults, "failed",
		(json_int_t)counts->failed, "failures", model_failures_to_json(counts),
		"held", (json_int_t)counts->held, "leased", (json_int_t)counts->leased,
		"replayed", (json_int_t)counts->replayed, "held_bytes",
		(json_int_t)counts->held_bytes);
}
