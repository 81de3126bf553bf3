/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a model passes from one generation to the next.
 *
 * One reload is in flight and one pending, whatever the storm: causes are bits. The active
 * generation is not touched before the candidate is READY; then the swap is one pointer.
 * The reload ends, with its receipt, when the old generation is reaped. A candidate that
 * fails ends it too, and the same inputs are not tried again until one of them changes or
 * somebody asks.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/model_state.h"

/* Until secrets that changed while being read are read again. */
#define RELOAD_UNSETTLED_S 0.2
/* Back-off of a loader that dies before it is ready: doubles from the first to the last. */
#define RELOAD_BACKOFF_S     0.5
#define RELOAD_BACKOFF_MAX_S 60.0
/* One that served this long and died is replaced at once. */
#define RELOAD_SERVED_NS CLOCK_NS_PER_SEC

#define RELOAD_CAUSE(cause) (1u << (unsigned int)(cause))

static void reload_try_start(struct model *model);

/* Inputs */

static void reload_read_file_identity(const struct model *model, struct stat *ret_stat)
{
	const char *path = model->section->path;

	if (!path || stat(path, ret_stat) < 0)
		*ret_stat = (struct stat){ 0 };
}

static bool reload_is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void reload_set_stale(struct model *model, const char *reason)
{
	if (strcmp(model->stale.text, reason) == 0)
		return;
	(void)err_set(&model->stale, 0, "%s", reason);
	if (*reason)
		log_event(LOG_LEVEL_WARNING, "input_stale",
		          "model=%s reason=%s action=\"keeping the last good one\"",
		          model->name, LOG_QUOTED(reason));
	else
		log_event(LOG_LEVEL_NOTICE, "input_fresh", "model=%s", model->name);
}

static void reload_retry_later(struct model *model)
{
	if (!ev_is_active(&model->unsettled)) {
		ev_timer_set(&model->unsettled, RELOAD_UNSETTLED_S, 0.);
		ev_timer_start(model->context.loop, &model->unsettled);
	}
}

/* The secrets changed, perhaps. */
static void reload_check_secrets(struct model *model)
{
	struct secrets fresh = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r;

	if (model->is_stopping)
		return;
	r = secrets_read(&fresh, model->section->secrets, &err);
	if (r == SECRETS_E_UNSETTLED) {
		reload_retry_later(model);
		return;
	}
	if (r) {
		reload_set_stale(model, err.text);
		return;
	}
	reload_set_stale(model, "");
	if (strcmp(fresh.digest, model->tried.secrets_digest) != 0) {
		if (model->section->disable_secrets_reload) {
			log_event(LOG_LEVEL_NOTICE, "secrets_changed",
			          "model=%s action=none reason=disable_secrets_reload",
			          model->name);
			(void)snprintf(model->tried.secrets_digest,
			               sizeof(model->tried.secrets_digest), "%s",
			               fresh.digest);
		} else {
			(void)model_reload(model, MODEL_CAUSE_SECRETS);
		}
	}
	secrets_fini(&fresh);
}

static void reload_on_unsettled(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	reload_check_secrets(model);
	reload_try_start(model);
}

static void reload_on_secrets(void *context, const char *path)
{
	(void)path;
	reload_check_secrets(context);
}

static void reload_on_file(void *context, const char *path)
{
	struct model *model = context;
	struct stat now;

	if (model->is_stopping || !model->section->watch_model_file)
		return;
	reload_read_file_identity(model, &now);
	if (now.st_ino == 0) {
		struct err err;

		(void)err_set(&err, 0, "model file %s: %s", path, strerror(errno));
		reload_set_stale(model, err.text);
		return;
	}
	if (!reload_is_same_file(&now, &model->tried.file))
		(void)model_reload(model, MODEL_CAUSE_FILE);
}

void reload_watch(struct model *model)
{
	const struct config_model *section = model->section;
	int r = 0;

	watch_remove(model->secrets_watch);
	watch_remove(model->file_watch);
	model->secrets_watch = model->file_watch = NULL;
	if (section->secrets)
		r = watch_add(model->context.watch, section->secrets, reload_on_secrets,
		              model, &model->secrets_watch);
	if (r == 0 && section->path)
		r = watch_add(model->context.watch, section->path, reload_on_file, model,
		              &model->file_watch);
	if (r < 0)
		log_event(LOG_LEVEL_ERR, "watch_failed", "model=%s error=%s", model->name,
		          LOG_QUOTED(strerror(-r)));
}

/* Receipts */

static void reload_finish(struct model *model, enum receipt_outcome outcome,
                          const char *reason)
{
	struct receipt *receipt = &model->receipt;

	receipt->outcome = outcome;
	(void)err_set(&receipt->reason, 0, "%s", reason);
	receipt->total_ms = clock_ns_to_ms(clock_now_ns() - model->started_ns);
	receipt->after = memory_read();
	if (model->active) {
		memory_add_process(&receipt->after, model->active->pid);
		receipt->after.loader_pss_bytes = model->active->report.pss_bytes;
	}
	receipt->requests = model->queue.counts;
	model->in_flight = false;
	if (outcome == RECEIPT_FAILED)
		(void)err_set(&model->last_error, 0, "%s", reason);
	else
		model->last_error.text[0] = '\0';
	log_event(outcome == RECEIPT_FAILED ? LOG_LEVEL_ERR : LOG_LEVEL_NOTICE, "reload",
	          "model=%s outcome=%s cause=%s from=%llu to=%llu total_ms=%.1f "
	          "serving=%llu reason=%s",
	          model->name, receipt_outcome_name(outcome), receipt->cause,
	          (unsigned long long)receipt->from.generation,
	          (unsigned long long)receipt->to.generation, receipt->total_ms,
	          (unsigned long long)model_generation(model), LOG_QUOTED(reason));
	model->context.listener->on_receipt(model->context.listener->context, model,
	                                    receipt);
	reload_try_start(model);
}

static void reload_note_candidate(struct model *model, const struct generation *candidate)
{
	struct receipt *receipt = &model->receipt;

	receipt->spawn_ms = generation_phase_ms(candidate, GENERATION_SPAWNED);
	receipt->stage_ms = generation_phase_ms(candidate, GENERATION_STAGING);
	receipt->commit_ms = generation_phase_ms(candidate, GENERATION_COMMITTING);
	receipt->warmup_ms = generation_phase_ms(candidate, GENERATION_WARMING);
	receipt->swap_ms = generation_phase_ms(candidate, GENERATION_READY);
}

static void reload_note_retired(struct model *model, const struct generation *retired)
{
	struct receipt *receipt = &model->receipt;

	receipt->drain_ms = generation_phase_ms(retired, GENERATION_DRAINING);
	receipt->stop_ms = generation_phase_ms(retired, GENERATION_STOPPING) +
	                   generation_phase_ms(retired, GENERATION_TERMINATING) +
	                   generation_phase_ms(retired, GENERATION_KILLING);
	receipt->reclaim_ms = generation_phase_ms(retired, GENERATION_RECLAIMING);
}

/* The way up */

static enum model_cause reload_first_cause(unsigned int causes)
{
	for (unsigned int i = 0; i < MODEL_CAUSE_COUNT; i++)
		if (causes & (1u << i))
			return (enum model_cause)i;
	return MODEL_CAUSE_MANUAL;
}

static void reload_open_receipt(struct model *model)
{
	struct receipt *receipt = &model->receipt;

	*receipt = (struct receipt){
		.number = ++model->receipts,
		.time_ms = clock_unix_ms(),
		.model = model->name,
		.cause = model_cause_name(reload_first_cause(model->causes)),
		.strategy = "overlap",
		.before = memory_read(),
	};
	model->started_ns = clock_now_ns();
	if (model->active) {
		receipt->from.generation = model->active->number;
		receipt->from.pid = model->active->pid;
		memory_add_process(&receipt->before, model->active->pid);
		receipt->before.loader_pss_bytes = model->active->report.pss_bytes;
	}
}

static int reload_spawn(struct model *model, struct err *err)
{
	const struct generation_start start = {
		.number = ++*model->context.next_generation,
		.model = model->name,
		.config = model->context.config,
		.section = model->section,
		.queue = &model->queue,
		.secrets_fd = model->secrets.fd,
		.secrets_digest = model->secrets.digest,
	};
	int r = generation_new(&model->candidate, model->context.loop, &start,
	                       &model->listener, err);

	if (r == 0) {
		model->receipt.to.generation = model->candidate->number;
		model->receipt.to.pid = model->candidate->pid;
	}
	return r;
}

static void reload_schedule_restart(struct model *model)
{
	double delay_s = 0;

	if (model->is_stopping || model->active || ev_is_active(&model->restart))
		return;
	if (model->n_deaths > 0) {
		unsigned int doublings = model->n_deaths < 8 ? model->n_deaths - 1 : 7;

		delay_s = RELOAD_BACKOFF_S * (double)(1u << doublings);
		if (delay_s > RELOAD_BACKOFF_MAX_S)
			delay_s = RELOAD_BACKOFF_MAX_S;
	}
	log_event(LOG_LEVEL_WARNING, "loader_restart", "model=%s deaths=%u delay_s=%.1f",
	          model->name, model->n_deaths, delay_s);
	ev_timer_set(&model->restart, delay_s, 0.);
	ev_timer_start(model->context.loop, &model->restart);
}

static void reload_on_restart(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	if (!model->active && !model->is_stopping)
		(void)model_reload(model, MODEL_CAUSE_CRASH);
}

/* A candidate did not make it. @is_permanent: the same inputs would fail again. */
static void reload_failed(struct model *model, const char *reason, bool is_permanent)
{
	if (!model->active && !is_permanent) {
		model->n_deaths++;
		reload_schedule_restart(model);
	} else if (!model->active) {
		(void)err_set(&model->last_error, 0, "%s", reason);
		model_fail_held(model, reason);
	}
	reload_finish(model, RECEIPT_FAILED, reason);
}

static void reload_try_start(struct model *model)
{
	struct secrets fresh = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r;

	if (model->in_flight || model->pending == 0 || model->is_stopping)
		return;
	r = secrets_read(&fresh, model->section->secrets, &err);
	if (r == SECRETS_E_UNSETTLED) {
		reload_retry_later(model);
		return;
	}
	ev_timer_stop(model->context.loop, &model->restart);
	model->causes = model->pending;
	model->pending = 0;
	model->in_flight = true;
	reload_open_receipt(model);
	reload_read_file_identity(model, &model->tried.file);
	if (r == 0) {
		secrets_fini(&model->secrets);
		model->secrets = fresh;
		memcpy(model->tried.secrets_digest, fresh.digest, sizeof(fresh.digest));
		reload_set_stale(model, "");
	} else if (model->secrets.fd >= 0) {
		reload_set_stale(model, err.text);
	} else {
		reload_failed(model, err.text, true);
		return;
	}
	r = reload_spawn(model, &err);
	if (r < 0)
		reload_failed(model, err.text, false);
}

uint64_t model_reload(struct model *model, enum model_cause cause)
{
	uint64_t number = model->receipts + 1;

	model->pending |= RELOAD_CAUSE(cause);
	if (!model->in_flight && !ev_is_active(&model->kick))
		ev_timer_start(model->context.loop, &model->kick);
	return number;
}

static void reload_on_kick(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	reload_try_start(timer->data);
}

bool reload_is_expected(const struct model *model)
{
	return model->candidate || model->pending || ev_is_active(&model->restart);
}

/* The way down and over */

static void reload_on_bury(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct model *model = timer->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < MODEL_GRAVES; i++) {
		generation_free(model->graves[i]);
		model->graves[i] = NULL;
	}
	if (model->is_stopping && !model->active && !model->candidate &&
	    !model->retiring && !model->is_stopped) {
		model->is_stopped = true;
		model->context.listener->on_stopped(model->context.listener->context,
		                                    model);
	}
}

static void reload_bury(struct model *model, struct generation *generation)
{
	for (size_t i = 0; i < MODEL_GRAVES; i++) {
		if (!model->graves[i]) {
			model->graves[i] = generation;
			ev_timer_start(model->context.loop, &model->bury);
			return;
		}
	}
	assert(false); /* at most three generations live at once */
}

/* Weights that hash the same need no new process when nothing else is new. */
static bool reload_is_needless(const struct model *model,
                               const struct generation *candidate)
{
	return model->active && model->causes == RELOAD_CAUSE(MODEL_CAUSE_FILE) &&
	       strcmp(candidate->report.weights_sha256,
	              model->active->report.weights_sha256) == 0 &&
	       strcmp(candidate->secrets_digest, model->active->secrets_digest) == 0;
}

static void reload_swap(struct model *model, struct generation *fresh)
{
	struct generation *old = model->active;

	model->receipt.peak = memory_read();
	memory_add_process(&model->receipt.peak, fresh->pid);
	model->receipt.peak.loader_pss_bytes = fresh->report.pss_bytes;
	if (old) {
		memory_add_process(&model->receipt.peak, old->pid);
		model->receipt.peak.loader_pss_bytes += old->report.pss_bytes;
	}
	reload_note_candidate(model, fresh);
	model->active = fresh;
	model->candidate = NULL;
	model->n_deaths = 0;
	model_dispatch(model);
	model->context.listener->on_ready(model->context.listener->context, model);
	if (old) {
		model->retiring = old;
		generation_apply(old, GENERATION_EV_RETIRE);
	} else if (!model->retiring) {
		reload_finish(model, RECEIPT_OK, "");
	}
}

static void reload_on_crash(struct model *model, struct generation *dead)
{
	uint64_t served_ns = clock_now_ns() - dead->entered_ns[GENERATION_ACTIVE];

	model->active = NULL;
	if (served_ns < RELOAD_SERVED_NS)
		model->n_deaths++;
	(void)err_set(&model->last_error, 0, "%s", dead->failure.text);
	model->context.listener->on_ready(model->context.listener->context, model);
	/* A drain that goes on must not hold up the replacement: its receipt ends here. */
	if (model->in_flight && !model->candidate)
		reload_finish(model, RECEIPT_OK,
		              "the new generation died before the old one");
	if (!model->candidate)
		reload_schedule_restart(model);
}

static void reload_on_dead(struct model *model, struct generation *generation)
{
	if (generation == model->candidate) {
		bool is_needless = generation->failure.text[0] == '\0';

		reload_note_candidate(model, generation);
		model->candidate = NULL;
		reload_bury(model, generation);
		if (model->is_stopping)
			reload_finish(model, RECEIPT_FAILED,
			              "the model is being stopped");
		else if (is_needless)
			reload_finish(model, RECEIPT_UNCHANGED,
			              "the model file's content is what already serves");
		else
			reload_failed(model, generation->failure.text,
			              generation->is_permanent);
	} else if (generation == model->active) {
		reload_bury(model, generation);
		reload_on_crash(model, generation);
	} else {
		assert(generation == model->retiring);
		model->retiring = NULL;
		reload_note_retired(model, generation);
		reload_bury(model, generation);
		if (model->in_flight && !model->candidate)
			reload_finish(model, RECEIPT_OK, "");
		model_dispatch(model);
	}
}

void reload_on_state(void *context, struct generation *generation,
                     enum generation_state from)
{
	struct model *model = context;

	(void)from;
	switch (generation->state) {
	case GENERATION_STAGED:
		if (reload_is_needless(model, generation))
			generation_apply(generation, GENERATION_EV_RETIRE);
		else
			generation_apply(generation, GENERATION_EV_COMMIT);
		break;
	case GENERATION_READY:
		generation_apply(generation, GENERATION_EV_PROMOTE);
		break;
	case GENERATION_ACTIVE:
		reload_swap(model, generation);
		break;
	case GENERATION_DEAD:
		reload_on_dead(model, generation);
		break;
	case GENERATION_NONE:
	case GENERATION_SPAWNED:
	case GENERATION_STAGING:
	case GENERATION_COMMITTING:
	case GENERATION_WARMING:
	case GENERATION_DRAINING:
	case GENERATION_STOPPING:
	case GENERATION_TERMINATING:
	case GENERATION_KILLING:
	case GENERATION_UNKILLABLE:
	case GENERATION_FAILED:
	case GENERATION_RECLAIMING:
	case GENERATION_STATE_COUNT:
		break;
	}
}

bool model_set_config(struct model *model, const struct config *config,
                      const struct config_model *fresh)
{
	bool needs = config_model_needs_generation(model->section, fresh);
	char keys[256];

	if (config_model_restart_keys(model->section, fresh, keys, sizeof(keys)) > 0)
		log_event(LOG_LEVEL_WARNING, "restart_needed", "model=%s keys=%s",
		          model->name, LOG_QUOTED(keys));
	model->context.config = config;
	model->section = fresh;
	reload_watch(model);
	if (needs)
		(void)model_reload(model, MODEL_CAUSE_CONFIG);
	return needs;
}

void reload_stop(struct model *model)
{
	struct generation *all[] = { model->active, model->candidate, model->retiring };

	model->is_stopping = true;
	model->pending = 0;
	ev_timer_stop(model->context.loop, &model->kick);
	ev_timer_stop(model->context.loop, &model->restart);
	ev_timer_stop(model->context.loop, &model->unsettled);
	/* The configuration may go before the last loader does. */
	model->last_section = *model->section;
	model->section = &model->last_section;
	model->context.config = NULL;
	/* The active one becomes the retiring one, whose death is no crash. */
	if (model->active && !model->retiring) {
		model->retiring = model->active;
		model->active = NULL;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i])
			generation_apply(all[i], GENERATION_EV_RETIRE);
	ev_timer_start(model->context.loop, &model->bury);
}

void reload_init(struct model *model)
{
	model->secrets = (struct secrets)SECRETS_NULL;
	ev_timer_init(&model->unsettled, reload_on_unsettled, 0., 0.);
	model->unsettled.data = model;
	ev_timer_init(&model->restart, reload_on_restart, 0., 0.);
	model->restart.data = model;
	/* Zero delays: the next round, and unlike an idle watcher also under load. */
	ev_timer_init(&model->bury, reload_on_bury, 0., 0.);
	model->bury.data = model;
	ev_timer_init(&model->kick, reload_on_kick, 0., 0.);
	model->kick.data = model;
	reload_watch(model);
}

void reload_fini(struct model *model)
{
	model->is_stopping = true;
	ev_timer_stop(model->context.loop, &model->unsettled);
	ev_timer_stop(model->context.loop, &model->restart);
	ev_timer_stop(model->context.loop, &model->kick);
	ev_timer_stop(model->context.loop, &model->bury);
	watch_remove(model->secrets_watch);
	watch_remove(model->file_watch);
	generation_free(model->candidate);
	generation_free(model->retiring);
	generation_free(model->active);
	for (size_t i = 0; i < MODEL_GRAVES; i++)
		generation_free(model->graves[i]);
	secrets_fini(&model->secrets);
}
