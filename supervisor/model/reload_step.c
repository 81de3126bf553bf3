/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/log.h"
#include "supervisor/model/model_state.h"

void reload_enter(struct model *model, enum reload_step step)
{
	enum reload_step from = model->reload.step;

	if (!reload_may_follow(from, step))
		log_event(LOG_LEVEL_ERR, "reload_unexpected", "model=%s step=%s next=%s",
		          model->name, reload_step_name(from), reload_step_name(step));
	log_event(LOG_LEVEL_DEBUG, "reload_step", "model=%s from=%s to=%s", model->name,
	          reload_step_name(from), reload_step_name(step));
	model->reload.step = step;
}

void reload_give_up(struct model *model, const char *why)
{
	struct generation *candidate = model->fleet.candidate;
	struct err failure;

	if (candidate->state > GENERATION_READY)
		return;
	reload_enter(model, RELOAD_GIVING_UP);
	(void)err_set(&failure, 0, "%s", why ? why : "");
	generation_dismiss(candidate, &failure);
}
