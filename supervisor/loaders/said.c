/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/said.h"

#include "shared/log.h"

/* A loader without walls is loud at every load. */
void said_staged(const struct generation *generation)
{
	const struct config_model *section = generation->inputs->section;
	enum config_sandbox sandbox = config_sandbox(section);
	bool is_off = sandbox == CONFIG_SANDBOX_OFF;

	log_event(is_off ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
	          is_off ? "sandbox_off" : "walls",
	          "model=%s gen=%llu sandbox=%s layers=%s missing=%s%s",
	          generation->model, (unsigned long long)generation->number,
	          config_sandbox_word(sandbox), LOG_QUOTED(generation->report.walls.text),
	          LOG_QUOTED(generation->report.walls_missing.text),
	          is_off ? " reason=\"the model may do whatever moultd may\"" : "");
	log_event(LOG_LEVEL_INFO, "loader_staged",
	          "model=%s gen=%llu weights_ms=%.1f engine_ms=%.1f "
	          "module_ms=%.1f prefill_ms=%.1f prefilled_bytes=%llu",
	          generation->model, (unsigned long long)generation->number,
	          generation->report.weights_ms, generation->report.engine_ms,
	          generation->report.module_ms, generation->report.prefill_ms,
	          (unsigned long long)generation->report.prefilled_bytes);
}

bool said_ready(struct generation *generation, struct err *err)
{
	const struct declared *told = &generation->report.told;
	struct declared_view view;

	if (!declared_look(generation->inputs->section, told, &view)) {
		(void)err_set(err, 0, "READY does not tell the model's tensors");
		return false;
	}
	inputs_learn_tensors(generation->inputs, told);
	if (generation->state == GENERATION_WARMING)
		inputs_learn_proven(generation->inputs);
	return true;
}
