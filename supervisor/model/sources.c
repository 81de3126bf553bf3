/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The inputs of a model as they lie on disk: says when they changed, and keeps why they
 * cannot be used as they are.
 *
 * Watches (inputs/watch.h) are hints: each makes this file read or stat(2) again and
 * compare with seen_secrets or seen_file. A difference asks for a reload, which notes
 * here what it was tried with. Secrets that differ are read and hashed once: the reload
 * takes the reading, unless it comes late or another change was seen meanwhile. Secrets
 * that change while being read are read again by a timer.
 */

#include <stdio.h>
#include <string.h>

#include "shared/file.h"
#include "shared/log.h"
#include "supervisor/inputs/code.h"
#include "supervisor/model/members.h"

/* Delay until secrets that changed while being read are read again. */
#define SOURCES_UNSETTLED_S 0.2
/* After so many tries (5 s) people are told, and a model that serves nobody does
 * without. */
#define SOURCES_UNSETTLED_MAX 25
/* A reload that nothing holds up takes secrets within a few rounds of the loop. Where
 * the watch only polls, this is how far behind the disk a later one may be. */
#define SOURCES_FRESH_S 0.2

void sources_set_stale(struct model *model, enum source input, const char *reason)
{
	struct err *stale = &model->sources.stale[input];

	if (strcmp(stale->text, reason) == 0)
		return;
	(void)err_set(stale, 0, "%s", reason);
	if (*reason)
		log_event(LOG_LEVEL_WARNING, "input_stale",
		          "model=%s reason=%s action=\"keeping the last good one\"",
		          model->name, LOG_QUOTED(reason));
	else
		log_event(LOG_LEVEL_NOTICE, "input_fresh", "model=%s", model->name);
}

const char *sources_stale(const struct model *model)
{
	for (size_t i = 0; i < SOURCE_COUNT; i++)
		if (model->sources.stale[i].text[0])
			return model->sources.stale[i].text;
	return "";
}

static void sources_note_skipped(struct model *model, const struct err *skipped)
{
	if (strcmp(model->sources.skipped.text, skipped->text) == 0)
		return;
	model->sources.skipped = *skipped;
	if (*skipped->text)
		log_event(LOG_LEVEL_WARNING, "secrets_skipped",
		          "model=%s directory=%s entries=%s", model->name,
		          LOG_QUOTED(model->section->secrets), LOG_QUOTED(skipped->text));
}

void sources_note(struct model *model, const struct inputs_found *found)
{
	sources_set_stale(model, SOURCE_SECRETS, found->secrets_refused.text);
	sources_set_stale(model, SOURCE_FILE, found->file_refused.text);
	if (!*found->secrets_refused.text)
		sources_note_skipped(model, &found->secrets_skipped);
	/* Without secrets, or without a file, whatever comes is a change, even what was
	 * there before: the reload is still owed. */
	memcpy(model->sources.seen_secrets, found->secrets_digest,
	       sizeof(model->sources.seen_secrets));
	model->sources.seen_file = found->file;
}

void sources_retry(struct model *model, const struct err *reason)
{
	if (ev_is_active(&model->sources.unsettled))
		return;
	if (model->sources.n_unsettled < SOURCES_UNSETTLED_MAX)
		model->sources.n_unsettled++;
	if (model->sources.n_unsettled == SOURCES_UNSETTLED_MAX)
		sources_set_stale(model, SOURCE_SECRETS, reason->text);
	ev_timer_set(&model->sources.unsettled, SOURCES_UNSETTLED_S, 0.);
	ev_timer_start(model->context.loop, &model->sources.unsettled);
}

bool sources_gives_up(const struct model *model)
{
	return !model->fleet.active &&
	       model->sources.n_unsettled == SOURCES_UNSETTLED_MAX;
}

static void sources_drop(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->sources.fresh_end);
	secrets_fini(&model->sources.fresh);
}

static void sources_on_fresh_end(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	sources_drop(timer->data);
}

/* Takes @fresh for the reload. */
static void sources_keep(struct model *model, struct secrets *fresh)
{
	model->sources.fresh = secrets_take(fresh);
	ev_timer_set(&model->sources.fresh_end, SOURCES_FRESH_S, 0.);
	ev_timer_start(model->context.loop, &model->sources.fresh_end);
}

const struct secrets *sources_secrets(const struct model *model)
{
	return model->sources.fresh.fd >= 0 &&
	                       watch_is_settled(model->sources.secrets_watch)
	               ? &model->sources.fresh
	               : NULL;
}

static void sources_on_fresh_secrets(struct model *model, struct secrets *fresh)
{
	sources_note_skipped(model, &fresh->skipped);
	sources_set_stale(model, SOURCE_SECRETS, "");
	if (strcmp(fresh->digest, model->sources.seen_secrets) == 0)
		return;
	if (!model->section->disable_secrets_reload) {
		sources_keep(model, fresh);
		(void)model_reload(model, MODEL_CAUSE_SECRETS);
		return;
	}
	log_event(LOG_LEVEL_NOTICE, "secrets_changed",
	          "model=%s action=none reason=disable_secrets_reload", model->name);
	(void)snprintf(model->sources.seen_secrets, sizeof(model->sources.seen_secrets),
	               "%s", fresh->digest);
}

static void sources_check_secrets(struct model *model)
{
	struct secrets fresh = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r;

	sources_drop(model);
	if (model->is_stopping)
		return;
	r = inputs_read_secrets(&fresh, model->section, &err);
	/* As long as secrets change, this is called again and again. */
	if (r != SECRETS_E_UNSETTLED)
		model->sources.n_unsettled = 0;
	if (r == SECRETS_E_UNSETTLED)
		sources_retry(model, &err);
	else if (r)
		sources_set_stale(model, SOURCE_SECRETS, err.text);
	else
		sources_on_fresh_secrets(model, &fresh);
	secrets_fini(&fresh);
}

static void sources_on_unsettled(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	sources_check_secrets(model);
	ask_kick(model);
}

static void sources_on_secrets(void *context, const char *path)
{
	(void)path;
	sources_check_secrets(context);
}

/* Warns when the write arrives, not when somebody wants to go back. */
static void sources_note_overwritten(const struct model *model, const struct stat *now)
{
	const struct inputs *inputs =
		model->fleet.active ? model->fleet.active->inputs : NULL;
	struct err why;

	if (!inputs || inputs->file.st_dev != now->st_dev ||
	    inputs->file.st_ino != now->st_ino || !inputs_is_overwritten(inputs, &why))
		return;
	log_event(
		LOG_LEVEL_WARNING, "model_file_overwritten",
		"model=%s reason=%s action=\"what serves goes on, and no rollback leads "
		"back to it\"",
		model->name, LOG_QUOTED(why.text));
}

static void sources_on_file(void *context, const char *path)
{
	struct model *model = context;
	struct err refused = ERR_NULL;
	struct stat now = { 0 };

	if (model->is_stopping || !model->section->watch_model_file ||
	    inputs_look_at_file(path, &now, &refused) < 0)
		return;
	/* What was written over in place may be empty now; each look finds that again. */
	if (*refused.text &&
	    strcmp(model->sources.stale[SOURCE_FILE].text, refused.text) != 0)
		sources_note_overwritten(model, &now);
	sources_set_stale(model, SOURCE_FILE, refused.text);
	if (*refused.text || file_is_same(&now, &model->sources.seen_file))
		return;
	sources_note_overwritten(model, &now);
	(void)model_reload(model, MODEL_CAUSE_FILE);
}

void model_on_file_touched(struct model *model, const struct stat *before,
                           const struct stat *after)
{
	struct inputs *const all[] = {
		model->ledger.good,
		model->ledger.previous,
		model->ledger.refused,
		model->ledger.rollback_to,
		model->ledger.writer,
		model->reload.inputs,
		model->fleet.active ? model->fleet.active->inputs : NULL,
		model->fleet.candidate ? model->fleet.candidate->inputs : NULL,
	};

	if (file_is_same(&model->sources.seen_file, before))
		model->sources.seen_file = *after;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i])
			inputs_on_file_touched(all[i], before, after);
}

static void sources_on_code(void *context, const char *directory)
{
	struct model *model = context;

	if (model->is_stopping)
		return;
	log_event(LOG_LEVEL_NOTICE, "code_changed", "model=%s directory=%s", model->name,
	          LOG_QUOTED(directory));
	(void)model_reload(model, MODEL_CAUSE_CODE);
}

void sources_arm(struct model *model)
{
	const struct config_model *section = model->section;
	const struct code_place place = {
		.watch = model->context.watch,
		.loop = model->context.loop,
		.directory = section->watch_code ? section->working_directory : NULL,
	};
	int r;

	if (!model->context.watch)
		return;
	/* The section may name another directory, or require other secrets. */
	sources_drop(model);
	r = watch_move(model->context.watch, section->secrets, sources_on_secrets, model,
	               &model->sources.secrets_watch);
	if (r == 0)
		r = watch_move(model->context.watch, section->path, sources_on_file,
		               model, &model->sources.file_watch);
	if (r == 0)
		r = code_move(&place, sources_on_code, model, &model->sources.code_watch);
	if (r < 0)
		log_event(LOG_LEVEL_ERR, "watch_failed", "model=%s error=%s", model->name,
		          LOG_QUOTED(strerror(-r)));
}

void sources_init(struct model *model)
{
	ev_timer_init(&model->sources.unsettled, sources_on_unsettled, 0., 0.);
	model->sources.unsettled.data = model;
	model->sources.fresh = (struct secrets)SECRETS_NULL;
	ev_timer_init(&model->sources.fresh_end, sources_on_fresh_end, 0., 0.);
	model->sources.fresh_end.data = model;
	sources_arm(model);
}

void sources_fini(struct model *model)
{
	ev_timer_stop(model->context.loop, &model->sources.unsettled);
	sources_drop(model);
	watch_remove(model->sources.secrets_watch);
	watch_remove(model->sources.file_watch);
	code_free(model->sources.code_watch);
	model->sources.secrets_watch = model->sources.file_watch = NULL;
	model->sources.code_watch = NULL;
}
