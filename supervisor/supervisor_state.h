/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A supervisor from the inside, for the files of its name only: supervisor.c has its
 * birth and what models report, supervisor_stop.c the way out.
 */

#include <ev.h>
#include <sys/queue.h>

#include "supervisor/keep/config_keeper.h"
#include "supervisor/devices/devices.h"
#include "supervisor/memory/engine_base.h"
#include "supervisor/gate/gate.h"
#include "supervisor/http/http.h"
#include "supervisor/inputs/watch_set.h"
#include "supervisor/keep/keeper.h"
#include "supervisor/loaders/loads.h"
#include "supervisor/loop/pump.h"
#include "supervisor/loop/signals.h"
#include "supervisor/model/repository.h"
#include "supervisor/notify.h"
#include "supervisor/keep/numbers.h"
#include "supervisor/weights/store.h"
#include "supervisor/supervisor.h"

struct access_log;
struct control;
struct grpc;
struct orphans;
struct spares;
struct watch;
struct watch_path;

/* Models that clients have unloaded, and who waits for one: supervisor_calls.c. */
struct supervisor_calls {
	/* Models of the configuration that are not to be there. */
	char unloaded[CONFIG_MODELS_MAX][CONFIG_NAME_MAX];
	size_t n_unloaded;
	LIST_HEAD(repository_calls, repository_call) waiting;
	unsigned int n_waiting;
};

struct supervisor {
	struct ev_loop *loop;
	struct pump pump; /* of all lanes */
	struct orphans *orphans;
	struct config *config;
	struct devices devices;
	struct store store;
	struct loads loads;
	struct spares *spares;
	struct watch *watch;
	struct watch_path *config_watch;
	struct watch_path *models_watch;
	struct watch_set repository_watches;
	struct access_log *access; /* NULL: off */
	struct gate gate;
	struct http *http;
	struct grpc *grpc; /* NULL: not served */
	struct gate admin_gate;
	struct http *admin; /* NULL: no listener of its own */
	struct control *control;
	struct supervisor_listener listener;
	struct notify notify;
	struct model_listener model_listener;
	struct model
		*models[CONFIG_MODELS_MAX + 1]; /* in configuration order; then NULL */
	size_t n_models;
	struct model *leaving[CONFIG_MODELS_MAX]; /* removed, stopped or being stopped */
	size_t n_leaving;
	ev_timer sweep;
	struct repository repository; /* what others call */
	struct supervisor_calls calls;
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
	unsigned int n_draining; /* endpoints that still have connections */
	bool is_idle;            /* stopping: no connection is left */
	bool is_late;            /* stopping: shutdown_timeout is over */
};

/* supervisor_status.c: tells systemd how it is, and once that every model was tried. */
void supervisor_say_status(struct supervisor *supervisor);
void supervisor_say_started(struct supervisor *supervisor);

/* supervisor_models.c */
void supervisor_models_init(struct supervisor *supervisor);
void supervisor_models_fini(struct supervisor *supervisor);
/* Starts a model. Holds a reference to @config. 0 or -errno with a sentence. */
int supervisor_add(struct supervisor *supervisor, struct config *config,
                   const struct config_model *section, struct err *err);
/* Adds models that are configured and not there, also those that found no place while
 * others were leaving. */
void supervisor_add_missing(struct supervisor *supervisor);
/* Takes the i-th model out of service, and tells the listener. */
void supervisor_remove(struct supervisor *supervisor, size_t i);
/* Frees the removed models that nobody needs any more, now and until none is left. */
void supervisor_sweep(struct supervisor *supervisor);
/* Of model_listener. */
void supervisor_on_stopped(void *context, struct model *model);
void supervisor_on_file_touched(void *context, const struct stat *before,
                                const struct stat *after);
void supervisor_on_store(void *context);

/* supervisor_calls.c */
/* True: somebody has unloaded the model @name. */
bool supervisor_is_unloaded(const struct supervisor *supervisor, const char *name);
/* The names of those: a new reference. */
json_t *supervisor_unloaded_to_json(const struct supervisor *supervisor);
/* Of struct repository; @context: the supervisor. */
bool supervisor_calls_unloaded(void *context, size_t i,
                               struct repository_unloaded *ret_one);
void supervisor_calls_drop(struct repository_call *call);
/* The model of the configuration that is called so is not to be there, or is again. */
void supervisor_calls_remember(struct supervisor *supervisor, const char *name);
void supervisor_calls_forget(struct supervisor *supervisor, const char *name);
/* The last of that name that leaves, or NULL. */
struct model *supervisor_calls_leaving(const struct supervisor *supervisor,
                                       const char *name);
/* Has @ask answered when @model is gone or, from receipt @number on, loaded. As begin() of struct
 * repository. */
int supervisor_calls_wait(struct supervisor *supervisor, const struct repository_ask *ask,
                          const struct model *model, uint64_t number,
                          struct repository_call **ret_call,
                          struct request_refusal *refusal);
/* Another configuration is in use: what it lacks is not unloaded, but gone. */
void supervisor_calls_on_config(struct supervisor *supervisor);
void supervisor_calls_on_receipt(struct supervisor *supervisor, const struct model *model,
                                 const struct receipt *receipt);
/* @model leaves. */
void supervisor_calls_on_removed(struct supervisor *supervisor,
                                 const struct model *model);
/* @model is stopped, and is freed in this round. */
void supervisor_calls_on_freed(struct supervisor *supervisor, const struct model *model);
/* Answers whoever waits: moultd is stopping. */
void supervisor_calls_stop(struct supervisor *supervisor);

/* supervisor_repository.c */
void supervisor_repository_init(struct supervisor *supervisor);

/* supervisor_config.c */
/* Takes @config. @refused: as for supervisor_new(). */
void supervisor_config_init(struct supervisor *supervisor, struct config *config,
                            const struct err *refused);
/* Ends the watches; the configuration stays. */
void supervisor_config_fini(struct supervisor *supervisor);
/* Makes the watch, and watches the files of the configuration. 0 or -errno. */
int supervisor_config_start(struct supervisor *supervisor);
/* Logs who else could change what moultd goes by; for strict_check(). */
void supervisor_say_open(void *context, const char *why);

/* supervisor_stop.c */
void supervisor_stop_init(struct supervisor *supervisor);
void supervisor_stop_fini(struct supervisor *supervisor);
/* SIGTERM and its like. */
void supervisor_on_stop(struct ev_loop *loop, ev_signal *signal, int revents);
