/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What served well is kept by a writer process (keep/keeper.h), and remembered by the next
 * run when the inputs on disk are of no use. Another such process clears away what a hosted loader
 * has left.
 */

#include <stdio.h>

#include "shared/log.h"
#include "shared/server_folder.h"
#include "supervisor/keep/keeper.h"
#include "supervisor/keep/manifest.h"
#include "supervisor/model/members.h"

void model_remember_good(struct model *model)
{
	struct inputs *kept = NULL;
	struct err err = ERR_NULL;
	int r;

	if (!model->section->keep_good)
		return;
	r = manifest_load(&kept, model->context.config->state_dir, model->name,
	                  model->context.config, &err);
	/* The same inputs would fail again, but for golden requests: these are not asked
	 * of inputs that have served. */
	if (r == 0 && inputs_equal(kept, model->reload.inputs) &&
	    !model->section->golden) {
		inputs_unref(kept);
		return;
	}
	if (r && *err.text)
		log_event(LOG_LEVEL_WARNING, "last_good_useless", "model=%s reason=%s",
		          model->name, LOG_QUOTED(err.text));
	if (r == 0)
		log_event(LOG_LEVEL_WARNING, "last_good",
		          "model=%s weights_sha256=%.16s action=\"serving what was kept "
		          "of an earlier run\"",
		          model->name, kept->weights_sha256);
	ledger_remember(&model->ledger, kept);
}

/* Runs in the writer. */
static int model_save_good(const void *what, uint64_t number, struct err *err)
{
	const struct model *model = what;

	return manifest_save(model->context.config->state_dir, model->ledger.good,
	                     model->section->keep_secrets, number, err);
}

/* Tells everybody of the new link in the same moment, so that nobody takes it for new
 * content. */
static void model_link_good(struct model *model)
{
	const struct model_listener *listener = model->context.listener;
	struct stat before;
	struct stat after;

	if (manifest_link(model->context.config->state_dir, model->ledger.good, &before,
	                  &after) == 0)
		listener->on_file_touched(listener->context, &before, &after);
}

/* In a process of its own. */
static int model_sweep(const void *what, uint64_t number, struct err *err)
{
	const struct model *model = what;

	(void)number;
	(void)err;
	reclaim_sweep(model->context.config, model->name, SIZE_MAX);
	return 0;
}

void model_clear_away(struct model *model, const struct generation *dead)
{
	char of[sizeof("model=") + CONFIG_NAME_MAX];
	const struct keeper_job job = {
		.of = of, .save = model_sweep, .what = model, .fds = { -1, -1 }
	};

	if (!generation_may_leave_folder(dead))
		return;
	(void)snprintf(of, sizeof(of), "model=%s", model->name);
	if (model->context.keeper)
		keeper_start(model->context.keeper, &job);
	else
		(void)model_sweep(model, 0, NULL);
}

void model_keep_good(struct model *model)
{
	char of[sizeof("model=") + CONFIG_NAME_MAX];
	const struct keeper_job job = {
		.of = of,
		.save = model_save_good,
		.what = model,
		.fds = { model->section->keep_secrets ? model->ledger.good->secrets.fd
		                                      : -1,
		         model->ledger.good->weights_fd },
	};

	(void)snprintf(of, sizeof(of), "model=%s", model->name);
	if (model->section->keep_good) {
		model_link_good(model);
		keeper_start(model->context.keeper, &job);
	}
	model->context.listener->on_good(model->context.listener->context, model);
}
