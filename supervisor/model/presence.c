/* SPDX-License-Identifier: Apache-2.0 */

/* Says whether a model serves, and if not, why: in a sentence that any client may
 * read. */

#include <stdio.h>

#include "shared/clock.h"
#include "supervisor/model/model_state.h"

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

	if (ev_is_active(&model->restart) && !reload_in_flight(model))
		(void)err_set(ret_why, 0, "another loader is started in %.1f s",
		              ev_timer_remaining(model->context.loop, &model->restart));
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

	if (model->section->error_detail == CONFIG_DETAIL_FULL)
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

enum model_presence model_presence(struct model *model, struct err *ret_why)
{
	struct err last = ERR_NULL;

	ret_why->text[0] = '\0';
	if (model->is_stopping) {
		(void)err_set(ret_why, 0, "it is being stopped");
		return MODEL_UNAVAILABLE;
	}
	if (model->fleet.active)
		return MODEL_READY;
	if (*model->last_error.text)
		(void)err_set(&last, 0, "%s", model_public_error(model));
	if (!reload_is_expected(model)) {
		(void)err_set(ret_why, 0, "%s",
		              *last.text ? last.text : "no generation serves");
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
