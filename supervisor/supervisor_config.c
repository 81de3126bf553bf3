/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The passage of a supervisor from one configuration to the next. A configuration is read
 * whole, and refused whole. Models that the new one adds start like those of a start.
 */

#include "supervisor/supervisor_state.h"

#include <errno.h>
#include <ev.h>
#include <string.h>

#include "shared/log.h"
#include "supervisor/config/strict.h"
#include "supervisor/grpc/grpc.h"
#include "supervisor/http/http.h"
#include "supervisor/inputs/watch.h"
#include "supervisor/repository/folder.h"
#include "supervisor/keep/manifest.h"
#include "supervisor/spares/spares.h"

void supervisor_say_open(void *context, const char *why)
{
	(void)context;
	log_event(LOG_LEVEL_WARNING, "open_to_others", "reason=%s", LOG_QUOTED(why));
}

static void supervisor_apply_models(struct supervisor *supervisor, struct config *fresh)
{
	for (size_t i = supervisor->n_models; i-- > 0;) {
		struct model *model = supervisor->models[i];
		const struct config_model *section =
			config_find(fresh, model_name(model));

		if (section)
			(void)model_set_config(model, fresh, section);
		else
			supervisor_remove(supervisor, i);
	}
	supervisor_add_missing(supervisor);
	if (!ev_depth(supervisor->loop))
		return; /* not yet running: supervisor_run() says it */
	supervisor_say_started(supervisor);
}

static void supervisor_say_restart_keys(const struct config *old,
                                        const struct config *fresh)
{
	char keys[256];

	if (config_restart_keys(old, fresh, keys, sizeof(keys)) > 0)
		log_event(LOG_LEVEL_WARNING, "restart_needed", "keys=%s",
		          LOG_QUOTED(keys));
	for (size_t i = 0; i < fresh->n_models; i++) {
		const struct config_model *model = fresh->models[i];
		const struct config_model *before = config_find(old, model->name);

		if (before &&
		    config_model_restart_keys(before, model, keys, sizeof(keys)) > 0)
			log_event(LOG_LEVEL_WARNING, "restart_needed", "model=%s keys=%s",
			          model->name, LOG_QUOTED(keys));
	}
}

static void supervisor_on_config(void *context, const char *path)
{
	struct supervisor *supervisor = context;

	(void)path;
	ev_timer_start(supervisor->loop, &supervisor->read_config);
}

/* Also what could not be read is watched: somebody is going to mend it. */
static void supervisor_watch_repository(struct supervisor *supervisor)
{
	const struct config *config = supervisor->config;
	struct folder_places places = { .n = 0 };
	int r;

	if (config->model_repository && config->model_repository_watch)
		folder_find_places(&places, config->model_repository);
	r = watch_set_move(&supervisor->repository_watches, supervisor->watch,
	                   places.paths, places.n, supervisor_on_config, supervisor);
	folder_places_fini(&places);
	if (r < 0)
		log_event(LOG_LEVEL_ERR, "watch_failed", "path=%s error=%s",
		          config->model_repository, LOG_QUOTED(strerror(-r)));
}

/* Logs a refusal each time that somebody asks; of watches, which may see the same files
 * time and again, only a new one. */
static void supervisor_refuse_config(struct supervisor *supervisor,
                                     enum supervisor_asker asker, const struct err *why)
{
	static const char *const askers[] = {
		[SUPERVISOR_BY_WATCH] = "watch",
		[SUPERVISOR_BY_SIGNAL] = "SIGHUP",
		[SUPERVISOR_BY_COMMAND] = "moultctl",
		[SUPERVISOR_BY_HAND] = "moultctl",
	};

	if (asker != SUPERVISOR_BY_WATCH ||
	    strcmp(supervisor->config_error.text, why->text) != 0)
		log_event(LOG_LEVEL_ERR, "config_refused",
		          "asked_by=%s reason=%s action=\"keeping the running one\"",
		          askers[asker], LOG_QUOTED(why->text));
	supervisor->config_error = *why;
	supervisor_watch_repository(supervisor);
	supervisor_say_status(supervisor);
}

static void supervisor_watch_config(struct supervisor *supervisor)
{
	const struct config *config = supervisor->config;
	int r;

	r = watch_move(supervisor->watch, config->file, supervisor_on_config, supervisor,
	               &supervisor->config_watch);
	if (r == 0)
		r = watch_move(supervisor->watch, config->models_dir,
		               supervisor_on_config, supervisor,
		               &supervisor->models_watch);
	if (r < 0)
		log_event(LOG_LEVEL_ERR, "watch_failed", "path=%s error=%s", config->file,
		          LOG_QUOTED(strerror(-r)));
	supervisor_watch_repository(supervisor);
}

static struct watch_config supervisor_watch_times(const struct config *config)
{
	return (struct watch_config){
		.settle_ns = config->settle_ns,
		.settle_cap_ns = config->settle_cap_ns,
		.poll_ns = config->poll_ns,
	};
}

int supervisor_reload_config(struct supervisor *supervisor, enum supervisor_asker asker,
                             struct err *err)
{
	struct config *old = supervisor->config;
	struct watch_config watch_config;
	struct config *fresh;
	int r;

	if (supervisor->is_stopping)
		return err_set(err, -ESHUTDOWN, "moultd is stopping");
	r = config_load(&fresh, old->file, err);
	if (r < 0) {
		supervisor_refuse_config(supervisor, asker, err);
		return r;
	}
	if (asker != SUPERVISOR_BY_HAND && config_is_emptied(old, fresh, err)) {
		config_unref(fresh);
		supervisor_refuse_config(supervisor, asker, err);
		return -ENOENT;
	}
	supervisor->config_error.text[0] = '\0';
	supervisor->is_config_kept = false;
	supervisor_say_restart_keys(old, fresh);
	r = config_keep_restart_keys(fresh, old);
	if (r < 0) {
		config_unref(fresh);
		return err_set(err, r, "out of memory");
	}
	supervisor->config = fresh;
	loads_set_max(&supervisor->loads, fresh->loads_at_once);
	devices_set_config(&supervisor->devices, fresh);
	spares_set_config(supervisor->spares, fresh);
	supervisor_calls_on_config(supervisor);
	supervisor_apply_models(supervisor, fresh);
	if (old->log_level != fresh->log_level)
		log_set_level(fresh->log_level);
	http_set_config(supervisor->http, fresh);
	if (supervisor->admin)
		http_set_config(supervisor->admin, fresh);
	if (supervisor->grpc)
		grpc_set_config(supervisor->grpc, fresh);
	watch_config = supervisor_watch_times(fresh);
	watch_set_config(supervisor->watch, &watch_config);
	supervisor_watch_config(supervisor);
	config_unref(old);
	strict_check(fresh, supervisor_say_open, NULL);
	manifest_prune(fresh->state_dir, fresh);
	config_keeper_on_change(&supervisor->config_keeper);
	supervisor_say_status(supervisor);
	return 0;
}

/* Reads the configuration once for watches that report together. */
static void supervisor_on_read_config(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct err err = ERR_NULL;

	(void)loop;
	(void)revents;
	(void)supervisor_reload_config(timer->data, SUPERVISOR_BY_WATCH, &err);
}

void supervisor_config_init(struct supervisor *supervisor, struct config *config,
                            const struct err *refused)
{
	supervisor->config = config;
	if (refused) {
		supervisor->config_error = *refused;
		supervisor->is_config_kept = true;
	}
	ev_timer_init(&supervisor->read_config, supervisor_on_read_config, 0., 0.);
	supervisor->read_config.data = supervisor;
}

int supervisor_config_start(struct supervisor *supervisor)
{
	const struct watch_config config = supervisor_watch_times(supervisor->config);
	int r = watch_new(&supervisor->watch, supervisor->loop, &config);

	/* A configuration that changed before it was watched is read again: each new
	 * watch reports once. */
	if (r == 0)
		supervisor_watch_config(supervisor);
	return r;
}

void supervisor_config_fini(struct supervisor *supervisor)
{
	watch_remove(supervisor->config_watch);
	watch_remove(supervisor->models_watch);
	watch_set_fini(&supervisor->repository_watches);
	if (supervisor->loop)
		ev_timer_stop(supervisor->loop, &supervisor->read_config);
}
