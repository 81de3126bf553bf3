/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The birth of a supervisor, and what its models report. They do so through one
 * model_listener: receipts go to the state directory, to whoever waits for them
 * (commands.c), and into the status that systemd shows. supervisor_status.c tells how
 * it is, supervisor_models.c has the models' coming and going, supervisor_config.c a new
 * configuration, and supervisor_stop.c the way out.
 */

#include "supervisor/supervisor_state.h"

#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/server_folder.h"
#include "supervisor/grpc/grpc.h"
#include "supervisor/http/access_log.h"
#include "supervisor/keep/config_keeper.h"
#include "supervisor/control/control.h"
#include "supervisor/devices/devices.h"
#include "supervisor/weights/store.h"
#include "supervisor/http/http.h"
#include "supervisor/gate/listen.h"
#include "supervisor/page/view.h"
#include "supervisor/loaders/reclaim.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/keep/manifest.h"
#include "supervisor/notify.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/process/orphans.h"
#include "supervisor/process/privileges.h"
#include "supervisor/parts/receipt.h"
#include "supervisor/loop/signals.h"
#include "supervisor/spares/spares.h"
#include "supervisor/config/strict.h"
#include "supervisor/start/lacking.h"
#include "supervisor/inputs/watch.h"

/* Models */

static void supervisor_say_receipt_lost(const struct supervisor *supervisor,
                                        const char *model, int r)
{
	const char *folder = supervisor->config->state_dir;
	FREE char *path = NULL;
	struct err why;

	if (asprintf(&path, "%s/receipts.jsonl", folder) < 0)
		path = NULL;
	log_event(LOG_LEVEL_WARNING, "receipt_lost", "model=%s error=%s path=%s", model,
	          LOG_QUOTED(path ? access_why(&why, path, R_OK | W_OK, -r)
	                          : strerror(-r)),
	          LOG_QUOTED(path ? path : folder));
}

static void supervisor_on_receipt(void *context, struct model *model,
                                  const struct receipt *receipt)
{
	struct supervisor *supervisor = context;
	json_t *json = receipt_to_json(receipt);
	int r;

	r = json ? receipt_append(supervisor->config->state_dir, json) : -ENOMEM;
	if (r < 0)
		supervisor_say_receipt_lost(supervisor, receipt->model, r);
	if (json && supervisor->admin)
		http_note_receipt(supervisor->admin, json);
	/* A model that leaves may have a namesake already, for which clients wait. */
	if (supervisor_find(supervisor, receipt->model) == model)
		supervisor->listener.on_receipt(supervisor->listener.context, receipt,
		                                json);
	supervisor_calls_on_receipt(supervisor, model, receipt);
	json_decref(json);
	supervisor_say_started(supervisor);
	supervisor_say_status(supervisor);
}

/* Keeps the section with which each model served: a start that needs them has to
 * serve. */
static void supervisor_collect(void *context, struct config_kept *ret_kept)
{
	const struct supervisor *supervisor = context;

	*ret_kept = (struct config_kept){ .config = supervisor->config };
	for (size_t i = 0; i < supervisor->n_models; i++) {
		const struct model *model = supervisor->models[i];
		const struct config_model *section =
			config_find(supervisor->config, model_name(model));

		if (section && section->keep_good)
			ret_kept->sections[ret_kept->n_sections++] =
				model_good_config(model);
	}
}

static void supervisor_on_good(void *context, struct model *model)
{
	struct supervisor *supervisor = context;

	/* A model that leaves is no part of the configuration any more. */
	if (supervisor_find(supervisor, model_name(model)) != model)
		return;
	config_keeper_on_good(&supervisor->config_keeper);
}

static void supervisor_on_ready(void *context, struct model *model)
{
	(void)model;
	supervisor_say_status(context);
}

/* Signals */

static void supervisor_on_hangup(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct supervisor *supervisor = signal->data;
	struct err err = ERR_NULL;

	(void)loop;
	(void)revents;
	if (supervisor_reload_config(supervisor, SUPERVISOR_BY_SIGNAL, &err) == 0)
		supervisor->listener.on_hangup(supervisor->listener.context);
}

static void supervisor_on_dump(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct supervisor *supervisor = signal->data;

	(void)loop;
	(void)revents;
	for (size_t i = 0; i < supervisor->n_models; i++) {
		json_t *json = model_to_json(supervisor->models[i]);
		FREE char *text = json_dumps(json, CONTROL_JSON);

		log_event(LOG_LEVEL_NOTICE, "dump", "state=%s", text ? text : "");
		json_decref(json);
	}
}

static void supervisor_start_signals(struct supervisor *supervisor)
{
	static const struct signals_row rows[] = {
		{ SIGTERM, supervisor_on_stop }, { SIGINT, supervisor_on_stop },
		{ SIGQUIT, supervisor_on_stop }, { SIGHUP, supervisor_on_hangup },
		{ SIGUSR1, supervisor_on_dump },
	};

	signals_start(&supervisor->signals, supervisor->loop, rows,
	              sizeof(rows) / sizeof(rows[0]), supervisor);
}

/* Birth */

/* Finds the last generation in the receipts, in case that the file of numbers is gone. */
static uint64_t supervisor_last_generation(const char *state_dir)
{
	json_t *receipts = receipt_read(state_dir, NULL, 100);
	uint64_t last = 0;
	json_t *receipt;
	size_t i;

	json_array_foreach(receipts, i, receipt)
	{
		const json_t *to = json_object_get(receipt, "to");
		json_int_t number = json_integer_value(json_object_get(to, "generation"));

		if (number > 0 && (uint64_t)number > last)
			last = (uint64_t)number;
	}
	json_decref(receipts);
	return last;
}

static void supervisor_add_metrics(const void *context, struct metrics *metrics)
{
	const struct supervisor *supervisor = context;

	if (supervisor->grpc)
		grpc_add_metrics(supervisor->grpc, metrics);
}

/* What the endpoint and a listener for administration tell of. */
static struct http_models supervisor_models(struct supervisor *supervisor)
{
	return (struct http_models){
		.list = supervisor->models,
		.spares = &supervisor->spares,
		.devices = &supervisor->devices,
		.config_error = &supervisor->config_error,
		.gate = &supervisor->gate,
		.repository = &supervisor->repository,
		.has_admin = supervisor->config->admin_listen,
		.add_metrics = supervisor_add_metrics,
		.context = supervisor,
	};
}

static int supervisor_open_endpoint(struct supervisor *supervisor, struct err *err)
{
	const struct http_models models = supervisor_models(supervisor);
	int r = gate_open(&supervisor->gate, supervisor->loop, supervisor->config, err);
	int fd;

	if (r < 0)
		return r;
	fd = notify_take_listen_fd(err);
	if (fd < 0 && fd != -ENOENT)
		return fd;
	if (fd < 0 && strcmp(supervisor->config->listen, "systemd") == 0)
		return err_set(err, -EINVAL,
		               "listen = systemd, but no socket was handed over: start "
		               "moultd.socket or set listen to ADDRESS:PORT");
	if (fd < 0)
		fd = listen_open(supervisor->config->listen, err);
	if (fd < 0)
		return fd;
	return http_new(&supervisor->http, supervisor->loop, supervisor->config, &models,
	                fd, err);
}

static int supervisor_open_admin(struct supervisor *supervisor, struct err *err)
{
	struct http_models models = supervisor_models(supervisor);
	int fd;

	if (!supervisor->config->admin_listen)
		return 0;
	fd = listen_open(supervisor->config->admin_listen, err);
	if (fd < 0)
		return err_prefix(err, fd, "admin_listen");
	supervisor->admin_gate = gate_in_the_clear(&supervisor->gate);
	models.gate = &supervisor->admin_gate;
	models.endpoint = supervisor->http;
	models.has_admin = false;
	return http_new(&supervisor->admin, supervisor->loop, supervisor->config, &models,
	                fd, err);
}

static int supervisor_open_grpc(struct supervisor *supervisor, struct err *err)
{
	const struct grpc_models models = {
		.list = supervisor->models,
		.gate = &supervisor->gate,
		.http = supervisor->http,
		.repository = &supervisor->repository,
		.has_admin = supervisor->config->admin_listen,
	};
	int fd;

	if (!supervisor->config->grpc_listen)
		return 0;
	fd = listen_open(supervisor->config->grpc_listen, err);
	if (fd < 0)
		return err_prefix(err, fd, "grpc_listen");
	return grpc_new(&supervisor->grpc, supervisor->loop, supervisor->config, &models,
	                fd, err);
}

/* Opens what root is needed for, and becomes the user that everything else is done as. */
static int supervisor_open_sockets(struct supervisor *supervisor, struct err *err)
{
	const struct config *config = supervisor->config;
	const struct privileges_files files = {
		.state_dir = config->state_dir,
		.control = config->control,
	};
	int r = privileges_check(config->user, err);

	if (r == 0)
		r = control_new(&supervisor->control, supervisor->loop, config->control,
		                supervisor->listener.commands,
		                supervisor->listener.context, err);
	if (r == 0)
		r = supervisor_open_endpoint(supervisor, err);
	if (r == 0)
		r = supervisor_open_admin(supervisor, err);
	if (r == 0)
		r = supervisor_open_grpc(supervisor, err);
	return r < 0 ? r : privileges_drop(config, &files, err);
}

/* The page of the listener for administration begins with what earlier runs have left. */
static void supervisor_show_receipts(struct supervisor *supervisor)
{
	json_t *receipts =
		receipt_read(supervisor->config->state_dir, NULL, VIEW_RECEIPTS);
	const json_t *receipt;
	size_t i;

	json_array_foreach(receipts, i, receipt)
		http_note_receipt(supervisor->admin, receipt);
	json_decref(receipts);
}

static int supervisor_open_state(struct supervisor *supervisor, struct err *err)
{
	const struct config *config = supervisor->config;
	int r;

	if (mkdir(config->state_dir, 0750) < 0 && errno != EEXIST)
		return err_set(err, -errno, "state_dir %s: %s", config->state_dir,
		               access_why(&(struct err)ERR_NULL, config->state_dir,
		                          W_OK | X_OK, errno));
	/* After the change of user: the log's writer must not keep root's rights. */
	r = access_log_new(&supervisor->access, supervisor->loop, config, err);
	if (r < 0)
		return r;
	http_set_access(supervisor->http, supervisor->access);
	if (supervisor->admin)
		http_set_access(supervisor->admin, supervisor->access);
	if (supervisor->grpc)
		grpc_set_access(supervisor->grpc, supervisor->access);
	if (supervisor->admin)
		supervisor_show_receipts(supervisor);
	return numbers_init(&supervisor->numbers, config->state_dir,
	                    supervisor_last_generation(config->state_dir), err);
}

static int supervisor_open(struct supervisor *supervisor, struct err *err)
{
	struct config *config = supervisor->config;
	int r = supervisor_open_sockets(supervisor, err);

	if (r < 0)
		return r;
	/* As the user that everything is started as, and before anything is. */
	orphans_begin(supervisor->orphans, supervisor->config);
	r = supervisor_open_state(supervisor, err);
	if (r < 0)
		return r;
	strict_check(config, supervisor_say_open, NULL);
	lacking_warn(config);
	keeper_init(&supervisor->keeper, supervisor->loop, config->state_dir);
	manifest_prune(config->state_dir, config);
	r = supervisor_config_start(supervisor);
	if (r == 0)
		r = gate_watch(&supervisor->gate, supervisor->watch);
	if (r == 0)
		r = spares_new(&supervisor->spares, supervisor->loop,
		               &supervisor->devices.host, &supervisor->bases);
	if (r < 0)
		return err_set(err, r, "cannot start: %s", strerror(-r));
	devices_set_config(&supervisor->devices, config);
	devices_wait(&supervisor->devices);
	spares_set_config(supervisor->spares, config);
	for (size_t i = 0; r == 0 && i < config->n_models; i++)
		r = supervisor_add(supervisor, config, config->models[i], err);
	return r;
}

int supervisor_new(struct supervisor **ret_supervisor, struct config *config,
                   const struct err *refused, const struct supervisor_listener *listener,
                   struct err *err)
{
	struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
	int r;

	if (!supervisor) {
		config_unref(config);
		return err_set(err, -ENOMEM, "out of memory");
	}
	supervisor->listener = *listener;
	supervisor_config_init(supervisor, config, refused);
	supervisor->numbers = (struct numbers)NUMBERS_NULL;
	supervisor->started_ns = clock_now_ns();
	supervisor->model_listener = (struct model_listener){
		.on_receipt = supervisor_on_receipt,
		.on_good = supervisor_on_good,
		.on_file_touched = supervisor_on_file_touched,
		.on_ready = supervisor_on_ready,
		.on_stopped = supervisor_on_stopped,
		.context = supervisor,
	};
	/* Not the default loop: that one would reap our children. */
	supervisor->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	devices_init(&supervisor->devices, supervisor->loop);
	store_init(&supervisor->store, &supervisor->devices.host);
	store_listen(&supervisor->store, supervisor_on_store, supervisor);
	if (!supervisor->loop) {
		supervisor_free(supervisor);
		return err_set(err, -EIO, "no event loop: %s", strerror(errno));
	}
	pump_init(&supervisor->pump, supervisor->loop);
	loads_init(&supervisor->loads, supervisor->loop);
	loads_set_max(&supervisor->loads, config->loads_at_once);
	r = orphans_new(&supervisor->orphans, supervisor->loop);
	if (r < 0) {
		supervisor_free(supervisor);
		return err_set(err, r, "out of memory");
	}
	supervisor_models_init(supervisor);
	supervisor_repository_init(supervisor);
	supervisor->config_keeper = (struct config_keeper){
		.loop = supervisor->loop,
		.keeper = &supervisor->keeper,
		.collect = supervisor_collect,
		.context = supervisor,
	};
	config_keeper_init(&supervisor->config_keeper);
	supervisor_stop_init(supervisor);
	notify_init(&supervisor->notify, supervisor->loop);
	supervisor_start_signals(supervisor);
	r = supervisor_open(supervisor, err);
	if (r < 0) {
		supervisor_free(supervisor);
		return r;
	}
	*ret_supervisor = supervisor;
	return 0;
}

int supervisor_run(struct supervisor *supervisor)
{
	supervisor_say_started(supervisor);
	supervisor_say_status(supervisor);
	(void)ev_run(supervisor->loop, 0);
	return 0;
}

static void supervisor_clear_away(const struct config *config)
{
	server_folder_sweep(SIZE_MAX);
	for (size_t i = 0; config->loader_users && i < config->n_models; i++)
		reclaim_sweep(config, config->models[i]->name, 0);
}

void supervisor_free(struct supervisor *supervisor)
{
	if (!supervisor)
		return;
	grpc_free(supervisor->grpc);
	http_free(supervisor->admin);
	http_free(supervisor->http);
	gate_close(&supervisor->gate);
	access_log_free(supervisor->access);
	store_listen(&supervisor->store, NULL, NULL);
	supervisor_models_fini(supervisor);
	if (supervisor->control)
		control_free(supervisor->control);
	supervisor_config_fini(supervisor);
	watch_free(supervisor->watch);
	spares_free(supervisor->spares);
	if (supervisor->loop) {
		notify_fini(&supervisor->notify);
		orphans_free(supervisor->orphans);
		loads_fini(&supervisor->loads);
		keeper_fini(&supervisor->keeper);
		/* Nobody waits any more, and nothing is to stay. */
		supervisor_clear_away(supervisor->config);
		config_keeper_fini(&supervisor->config_keeper);
		supervisor_stop_fini(supervisor);
		signals_stop(&supervisor->signals);
		store_fini(&supervisor->store);
		devices_fini(&supervisor->devices);
		ev_loop_destroy(supervisor->loop);
	}
	numbers_fini(&supervisor->numbers);
	config_unref(supervisor->config);
	free(supervisor);
}
