/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The loop and everything on it: models, endpoint, control socket, watches, signals.
 * Wiring and the passage from one configuration to the next; policy is elsewhere.
 */

#include <jansson.h>
#include <stdbool.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/model/model.h"

struct control_command;
struct receipt;
struct supervisor;

/* Hears of what clients of the control socket wait for. */
struct supervisor_listener {
	const struct control_command *commands; /* of the control socket */
	/* @json, the receipt as JSON, is borrowed. */
	void (*on_receipt)(void *context, const struct receipt *receipt, json_t *json);
	/* @model is taken out of service. */
	void (*on_removed)(void *context, const char *model);
	/* SIGHUP came, and the new configuration is in use. */
	void (*on_hangup)(void *context);
	void *context;
};

/* Takes @config over, on failure too. @refused: NULL, or why the files are not in use and
 * @config was kept of an earlier run. 0 or -errno with a sentence. */
int supervisor_new(struct supervisor **ret_supervisor, struct config *config,
                   const struct err *refused, const struct supervisor_listener *listener,
                   struct err *err);
/* Runs the loop until moultd is told to stop. 0 or -errno. */
int supervisor_run(struct supervisor *supervisor);
/* Closes everything and ends every loader. Accepts NULL. */
void supervisor_free(struct supervisor *supervisor);

/* For commands.c. */

/* On whose behalf the configuration is read. */
enum supervisor_asker {
	SUPERVISOR_BY_WATCH,
	SUPERVISOR_BY_SIGNAL,
	SUPERVISOR_BY_COMMAND, /* for one model */
	SUPERVISOR_BY_HAND,    /* for all models: an empty models_dir is meant */
};

/* Reads the configuration again and applies it whole. 0, or -errno with a sentence and
 * nothing changed. */
int supervisor_reload_config(struct supervisor *supervisor, enum supervisor_asker asker,
                             struct err *err);
/* The configuration in use, borrowed until it is read again. */
const struct config *supervisor_config(const struct supervisor *supervisor);
/* NULL: there is no model @name. */
struct model *supervisor_find(struct supervisor *supervisor, const char *name);
/* i-th model, or NULL. */
struct model *supervisor_at(struct supervisor *supervisor, size_t i);
/* Process, endpoint and version: a new reference. */
json_t *supervisor_to_json(struct supervisor *supervisor);
struct notify *supervisor_notify(struct supervisor *supervisor);
