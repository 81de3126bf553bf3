/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A candidate is STAGED: its report is held against what its reload was decided by.
 * Nothing is placed before that.
 *
 * A candidate whose weights were to be shared may turn out to need its own, and an engine
 * may take more than was thought. Then the numbers are others and the reload is decided
 * again, with the candidate in its place: both fit, or the old generation goes first
 * after all, or the candidate ends with the numbers and the old one serves on.
 */

#include <string.h>

#include "shared/log.h"
#include "shared/saturate.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/loaders/claims.h"
#include "supervisor/reload/reload.h"

/* True: weights that hash the same need no new process when nothing else is new. */
static bool reload_is_needless(const struct model *model,
                               const struct generation *candidate)
{
	const struct generation *active = model->fleet.active;

	return active && model->reload.causes == RELOAD_CAUSE(MODEL_CAUSE_FILE) &&
	       strcmp(candidate->report.weights_sha256, active->report.weights_sha256) ==
	               0 &&
	       strcmp(candidate->inputs->secrets.digest,
	              active->inputs->secrets.digest) == 0 &&
	       !config_model_needs_generation(active->inputs->section,
	                                      candidate->inputs->section);
}

/* True: the file of inputs that are built again was written over, and is another one. */
static bool reload_is_overwritten(const struct generation *candidate)
{
	const struct inputs *inputs = candidate->inputs;

	return inputs->weights_sha256[0] &&
	       strcmp(inputs->weights_sha256, candidate->report.weights_sha256) != 0;
}

void reload_claim_all(struct model *model)
{
	struct generation *candidate = model->fleet.candidate;
	const struct strategy_facts *facts = &model->reload.decision.facts;

	if (candidate->is_lean)
		reload_weights_give(model, candidate);
	reload_gpu_claim_all(model, candidate);
	if (!candidate->is_lean)
		return;
	reload_weights_make_room(model, candidate->inputs);
	generation_claim(candidate, saturate_minus(facts->need_bytes, facts->copy_bytes));
	if (candidate->copy)
		device_claim(&candidate->copy->use, facts->copy_bytes);
}

void reload_commit(struct model *model)
{
	if (model->fleet.candidate->state != GENERATION_STAGED)
		return; /* its end leads on */
	reload_claim_all(model);
	reload_enter(model, RELOAD_COMMITTING);
	generation_apply(model->fleet.candidate, GENERATION_EV_COMMIT);
}

/* Says why the numbers that the reload was decided by are wrong; NULL: they are right. */
static const char *reload_news(const struct model *model)
{
	const struct generation *candidate = model->fleet.candidate;
	const struct generation_report *report = &candidate->report;
	uint64_t base_bytes = model->reload.decision.facts.engine_bytes;

	if (*report->why_private.text)
		return "the weights cannot be shared";
	if (base_bytes > 0 && report->engine_bytes > base_bytes)
		return "the engine takes more than was known";
	if (report->weights_bytes > (uint64_t)candidate->inputs->file.st_size)
		return "the model file is larger than it was";
	return NULL;
}

/* Decides again with the candidate in its place. False: there is no room for it, and it
 * ends. */
static bool reload_decide_again(struct model *model, const char *news)
{
	const struct model_reload *reload = &model->reload;
	struct generation *candidate = model->fleet.candidate;
	struct err why = ERR_NULL;

	reload_plan_settle_again(model);
	log_event(LOG_LEVEL_NOTICE, "reload_decided_again",
	          "model=%s gen=%llu strategy=%s reason=%s why=%s", model->name,
	          (unsigned long long)candidate->number,
	          strategy_name(reload->decision.strategy), LOG_QUOTED(news),
	          LOG_QUOTED(reload->decision.why.text));
	if (reload->decision.strategy == STRATEGY_REFUSED) {
		(void)err_set(&why, 0, "%s: %s", news, reload->decision.why.text);
		reload_give_up(model, why.text);
		return false;
	}
	/* Memory that the candidate is yet to take waits for the old one to go. */
	if (reload_is_lean(model))
		generation_make_lean(candidate);
	generation_claim(candidate, reload_claim(model));
	reload_gpu_claim(model, candidate);
	return true;
}

void reload_on_staged(struct model *model)
{
	struct generation *candidate = model->fleet.candidate;
	struct err why = ERR_NULL;
	const char *news;

	/* A spare may have more in memory than its engine takes. */
	if (!candidate->spares)
		engine_base_learn(model->context.bases,
		                  candidate->inputs->section->engine,
		                  candidate->report.engine_bytes);
	if (reload_is_overwritten(candidate)) {
		(void)err_set(
			&why, 0,
			"the model file '%s' was written over: what served last is "
			"gone; write model files under another name and rename them "
			"into place",
			candidate->inputs->section->path);
		reload_give_up(model, why.text);
		return;
	}
	if (reload_is_needless(model, candidate)) {
		reload_give_up(model, NULL);
		return;
	}
	news = reload_news(model);
	if (news && !reload_decide_again(model, news))
		return;
	if (!reload_is_lean(model) || !fleet_old(&model->fleet)) {
		reload_commit(model);
		return;
	}
	reload_enter(model, RELOAD_WAITING_OLD);
	if (model->fleet.active)
		reload_retire_active(model); /* else the old one is ending already */
}
