/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A supervisor from the inside, for supervisor.c (birth, models, configuration) and
 * supervisor_stop.c (the way out) only.
 */

#include <ev.h>

#include "supervisor/keep/config_keeper.h"
#include "supervisor/devices/devices.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/http/http.h"
#include "supervisor/keep/keeper.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/notify.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/signals.h"
#include "supervisor/weights/store.h"
#include "supervisor/supervisor.h"

struct access_log;
struct commands;
struct control;
struct orphans;
struct spares;
struct watch;
struct watch_path;

struct supervisor {
	struct ev_loop *loop;
	struct orphans *orphans;
	struct config *config;
	struct devices devices;
	struct store store;
	struct loads loads;
	struct spares *spares;
	struct watch *watch;
	struct watch_path *config_watch;
	struct watch_path *models_watch;
	struct access_log *access; /* NULL: off */
	struct http *http;
	struct control *control;
	struct commands *commands;
	struct notify notify;
	struct model_listener listener;
	struct model *models[CONFIG_MODELS_MAX]; /* in configuration order */
	size_t n_models;
	struct model *leaving[CONFIG_MODELS_MAX]; /* removed, stopped or being stopped */
	size_t n_leaving;
	ev_timer sweep;
	struct engine_bases bases;
	struct numbers numbers;
	bool is_started; /* every model was tried once, and systemd was told */
	uint64_t started_ns;
	struct err config_error; /* why the file on disk is not in use; "" when it is */
	bool is_config_kept;     /* the configuration in use was kept of an earlier run */
	ev_timer read_config;    /* once for watches that report together */
	struct keeper keeper;
	struct config_keeper config_keeper;
	struct signals signals;
	ev_timer leave; /* drain_delay */
	ev_timer shutdown;
	bool is_stopping;
	bool is_idle; /* stopping: no connection is left */
	bool is_late; /* stopping: shutdown_timeout is over */
};

/* supervisor.c: takes the i-th model out of service. */
void supervisor_remove(struct supervisor *supervisor, size_t i);

/* supervisor_stop.c */
void supervisor_stop_init(struct supervisor *supervisor);
/* SIGTERM and its like. */
void supervisor_on_stop(struct ev_loop *loop, ev_signal *signal, int revents);
