/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The commands of moultctl(1): one function each, listed with their arguments in
 * commands_table. Whoever waits for a reload has a waiter with a goal for each model; the
 * goal is met by the first receipt of that model with its number or a later one. When the
 * last goal is met, the client is answered. A waiter of a signal has no client. While
 * there is any waiter, systemd is told that moultd reloads (notify.c).
 */

#include "supervisor/commands.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/proto.h"
#include "supervisor/notify.h"

#define COMMANDS_RECEIPTS_DEFAULT 10
#define COMMANDS_RECEIPTS_MAX     500
/* Waiters at once; each stands for a client or a signal. */
#define COMMANDS_WAITERS_MAX  64
#define COMMANDS_RECORD_MAX_S 86400

struct commands_goal {
	char model[CONFIG_NAME_MAX];
	uint64_t number;  /* of the first receipt that may answer; 0: answered */
	bool is_rollback; /* whether the receipt must be one of a rollback */
};

struct commands_waiter {
	LIST_ENTRY(commands_waiter) link;
	struct commands *commands;
	struct control_call *call; /* NULL: a signal */
	size_t n_left;
	struct err failure;
	struct commands_goal goals[CONFIG_MODELS_MAX];
};

struct commands {
	struct supervisor *supervisor;
	unsigned int n_waiters;
	LIST_HEAD(commands_waiters, commands_waiter) waiters;
};

int commands_new(struct commands **ret_commands)
{
	struct commands *commands = calloc(1, sizeof(*commands));

	if (!commands)
		return -ENOMEM;
	LIST_INIT(&commands->waiters);
	*ret_commands = commands;
	return 0;
}

void commands_set_supervisor(struct commands *commands, struct supervisor *supervisor)
{
	commands->supervisor = supervisor;
}

static void commands_drop_waiter(struct commands_waiter *waiter)
{
	waiter->commands->n_waiters--;
	LIST_REMOVE(waiter, link);
	free(waiter);
}

void commands_free(struct commands *commands)
{
	while (!LIST_EMPTY(&commands->waiters))
		commands_drop_waiter(LIST_FIRST(&commands->waiters));
	free(commands);
}

/* The client left; the reload goes on without it. */
static void commands_on_gone(void *context, struct control_call *call)
{
	struct commands_waiter *waiter = context;

	(void)call;
	waiter->call = NULL;
}

static void commands_finish(struct commands_waiter *waiter)
{
	struct control_call *call = waiter->call;
	struct err failure = waiter->failure;

	notify_reloaded(supervisor_notify(waiter->commands->supervisor));
	commands_drop_waiter(waiter);
	if (!call)
		return;
	if (failure.text[0])
		control_fail(call, "%s", failure.text);
	else
		control_done(call);
}

static void commands_add_goal(struct commands_waiter *waiter, struct model *model,
                              enum model_cause cause, uint64_t number)
{
	struct commands_goal *goal = &waiter->goals[waiter->n_left++];

	(void)strncpy(goal->model, model_name(model), sizeof(goal->model) - 1);
	goal->number = number;
	goal->is_rollback = cause == MODEL_CAUSE_ROLLBACK;
}

/* NULL: too many wait already, or there is no memory. */
static struct commands_waiter *commands_new_waiter(struct commands *commands)
{
	struct commands_waiter *waiter;

	if (commands->n_waiters >= COMMANDS_WAITERS_MAX)
		return NULL;
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return NULL;
	waiter->commands = commands;
	commands->n_waiters++;
	LIST_INSERT_HEAD(&commands->waiters, waiter, link);
	notify_reloading(supervisor_notify(commands->supervisor));
	return waiter;
}

/* Reloads @only, or all models when it is NULL. Returns the waiter; NULL: nobody can wait
 * for these reloads, which go on. */
static struct commands_waiter *commands_reload(struct commands *commands,
                                               struct model *only, enum model_cause cause)
{
	struct commands_waiter *waiter = commands_new_waiter(commands);
	struct model *model;

	for (size_t i = 0; (model = supervisor_at(commands->supervisor, i)); i++) {
		uint64_t number;

		if (only && model != only)
			continue;
		number = model_reload(model, cause);
		if (waiter)
			commands_add_goal(waiter, model, cause, number);
	}
	return waiter;
}

/* SIGHUP reloads every model, without a client. */
static void commands_on_hangup(void *context)
{
	struct commands_waiter *waiter =
		commands_reload(context, NULL, MODEL_CAUSE_SIGNAL);

	if (waiter && waiter->n_left == 0)
		commands_finish(waiter);
}

static void commands_note(struct commands_waiter *waiter, const struct receipt *receipt,
                          json_t *json)
{
	bool is_rollback =
		strcmp(receipt->cause, model_cause_name(MODEL_CAUSE_ROLLBACK)) == 0;

	for (size_t i = 0; i < CONFIG_MODELS_MAX; i++) {
		struct commands_goal *goal = &waiter->goals[i];

		if (goal->number == 0 || goal->number > receipt->number ||
		    goal->is_rollback != is_rollback ||
		    strcmp(goal->model, receipt->model) != 0)
			continue;
		goal->number = 0;
		waiter->n_left--;
		if (receipt->outcome == RECEIPT_FAILED)
			(void)err_set(&waiter->failure, 0, "model '%s': %.400s",
			              receipt->model, receipt->reason.text);
		if (waiter->call)
			control_reply(waiter->call, json_pack("{s:O}", "receipt", json),
			              false);
	}
}

static void commands_on_receipt(void *context, const struct receipt *receipt,
                                json_t *json)
{
	struct commands *commands = context;
	struct commands_waiter *waiter = LIST_FIRST(&commands->waiters);

	while (waiter) {
		struct commands_waiter *next = LIST_NEXT(waiter, link);

		commands_note(waiter, receipt, json);
		if (waiter->n_left == 0)
			commands_finish(waiter);
		waiter = next;
	}
}

static void commands_on_removed(void *context, const char *model)
{
	struct commands *commands = context;
	struct commands_waiter *waiter = LIST_FIRST(&commands->waiters);

	while (waiter) {
		struct commands_waiter *next = LIST_NEXT(waiter, link);

		for (size_t i = 0; i < CONFIG_MODELS_MAX; i++) {
			struct commands_goal *goal = &waiter->goals[i];

			if (goal->number == 0 || strcmp(goal->model, model) != 0)
				continue;
			goal->number = 0;
			waiter->n_left--;
			(void)err_set(&waiter->failure, 0,
			              "model '%s' is taken out of service", model);
		}
		if (waiter->n_left == 0)
			commands_finish(waiter);
		waiter = next;
	}
}

struct supervisor_listener commands_listener(struct commands *commands)
{
	return (struct supervisor_listener){
		.commands = commands_table,
		.on_receipt = commands_on_receipt,
		.on_removed = commands_on_removed,
		.on_hangup = commands_on_hangup,
		.context = commands,
	};
}

/* The commands. Each fails with a sentence when its arguments are wrong. */

static bool commands_get_model(struct commands *commands, struct control_call *call,
                               const json_t *args, struct model **ret_model)
{
	const char *name = json_string_value(json_object_get(args, "model"));

	*ret_model = name ? supervisor_find(commands->supervisor, name) : NULL;
	if (name && !*ret_model) {
		control_fail(call,
		             config_find(supervisor_config(commands->supervisor), name)
		                     ? "model '%s' is unloaded: load it as moult-http(7) "
		                       "has it"
		                     : "there is no model '%s'; see moultctl status",
		             name);
		return false;
	}
	return true;
}

/* Answers @call at once or, with the argument wait, by @waiter. NULL: too many wait. */
static void commands_wait(struct control_call *call, const json_t *args,
                          struct commands_waiter *waiter)
{
	bool is_waiting = json_is_true(json_object_get(args, "wait"));

	if (!waiter && is_waiting) {
		control_fail(call,
		             "the reload was asked for, but too many are being waited "
		             "for: see moultctl receipts");
		return;
	}
	if (!is_waiting) {
		if (waiter && waiter->n_left == 0)
			commands_finish(waiter);
		control_done(call);
		return;
	}
	waiter->call = call;
	control_call_watch(call, commands_on_gone, waiter);
	if (waiter->n_left == 0)
		commands_finish(waiter);
}

static void commands_explain(struct commands *commands, struct control_call *call,
                             struct model *only)
{
	struct model *model;

	for (size_t i = 0; (model = supervisor_at(commands->supervisor, i)); i++)
		if (!only || model == only)
			control_reply(call, model_explain(model), false);
	control_done(call);
}

static void commands_on_reload(void *context, struct control_call *call,
                               const json_t *args)
{
	struct commands *commands = context;
	struct model *model;
	struct err err = ERR_NULL;

	if (json_is_true(json_object_get(args, "explain"))) {
		if (commands_get_model(commands, call, args, &model))
			commands_explain(commands, call, model);
		return;
	}
	/* The new configuration comes first: it may bring the model that is named. */
	if (supervisor_reload_config(commands->supervisor,
	                             json_object_get(args, "model")
	                                     ? SUPERVISOR_BY_COMMAND
	                                     : SUPERVISOR_BY_HAND,
	                             &err) < 0) {
		control_fail(call, "the configuration is refused, nothing changed: %s",
		             err.text);
		return;
	}
	if (commands_get_model(commands, call, args, &model))
		commands_wait(call, args,
		              commands_reload(commands, model, MODEL_CAUSE_MANUAL));
}

static void commands_on_rollback(void *context, struct control_call *call,
                                 const json_t *args)
{
	struct commands *commands = context;
	struct commands_waiter *waiter = NULL;
	struct model *model;
	struct err err = ERR_NULL;
	uint64_t number = 0;

	if (!commands_get_model(commands, call, args, &model))
		return;
	if (!model) {
		control_fail(call, "rollback needs the name of a model");
	} else if (model_rollback(model, &number, &err) < 0) {
		control_fail(call, "%s", err.text);
	} else {
		waiter = commands_new_waiter(commands);
		if (waiter)
			commands_add_goal(waiter, model, MODEL_CAUSE_ROLLBACK, number);
		commands_wait(call, args, waiter);
	}
}

static void commands_on_scale(void *context, struct control_call *call,
                              const json_t *args)
{
	json_int_t replicas = json_integer_value(json_object_get(args, "replicas"));
	struct commands *commands = context;
	struct model *model;
	struct err err = ERR_NULL;

	if (!commands_get_model(commands, call, args, &model))
		return;
	if (!model || replicas < 1 || replicas > INT_MAX)
		control_fail(call,
		             "scale needs the name of a model and a number of replicas");
	else if (model_scale(model, (unsigned int)replicas, &err) < 0)
		control_fail(call, "%s", err.text);
	else
		control_done(call);
}

/* @only: NULL for all. */
static json_t *commands_models(const struct commands *commands, const struct model *only)
{
	json_t *models = json_array();
	struct model *model;

	for (size_t i = 0; (model = supervisor_at(commands->supervisor, i)); i++)
		if (!only || model == only)
			(void)json_array_append_new(models, model_to_json(model));
	return models;
}

static void commands_on_status(void *context, struct control_call *call,
                               const json_t *args)
{
	struct commands *commands = context;
	struct model *only;

	if (commands_get_model(commands, call, args, &only))
		control_reply(call,
		              json_pack("{s:o,s:o}", "models",
		                        commands_models(commands, only), "supervisor",
		                        supervisor_to_json(commands->supervisor)),
		              true);
}

static void commands_on_receipts(void *context, struct control_call *call,
                                 const json_t *args)
{
	struct commands *commands = context;
	const char *name = json_string_value(json_object_get(args, "model"));
	json_int_t n = json_integer_value(json_object_get(args, "n"));
	json_t *receipts;
	json_t *receipt;
	size_t i;

	if (n <= 0 || n > COMMANDS_RECEIPTS_MAX)
		n = n <= 0 ? COMMANDS_RECEIPTS_DEFAULT : COMMANDS_RECEIPTS_MAX;
	receipts = receipt_read(supervisor_config(commands->supervisor)->state_dir, name,
	                        (size_t)n);
	/* Receipts outlive their model. */
	if (name && json_array_size(receipts) == 0 &&
	    !supervisor_find(commands->supervisor, name)) {
		json_decref(receipts);
		control_fail(call, "there is no model '%s', and no receipt of one", name);
		return;
	}
	json_array_foreach(receipts, i, receipt)
		control_reply(call, json_pack("{s:O}", "receipt", receipt), false);
	json_decref(receipts);
	control_done(call);
}

static void commands_on_show_config(void *context, struct control_call *call,
                                    const json_t *args)
{
	struct commands *commands = context;
	json_t *config = config_to_json(supervisor_config(commands->supervisor));

	(void)args;
	control_reply(call, json_pack("{s:o}", "config", config), true);
}

/* Says where golden requests lie, then shows requests as they are answered. */
static void commands_on_record(void *context, struct control_call *call,
                               const json_t *args)
{
	json_int_t count = json_integer_value(json_object_get(args, "n"));
	json_int_t timeout_s = json_integer_value(json_object_get(args, "timeout_s"));
	struct commands *commands = context;
	const char *directory;
	struct model *model;
	struct err err = ERR_NULL;

	if (!commands_get_model(commands, call, args, &model))
		return;
	if (!model || count < 1 || count > PROTO_GOLDEN_MAX || timeout_s < 1 ||
	    timeout_s > COMMANDS_RECORD_MAX_S) {
		control_fail(
			call,
			"record-golden needs a model, n of 1 to %d and timeout_s of 1 to "
			"%d",
			PROTO_GOLDEN_MAX, COMMANDS_RECORD_MAX_S);
		return;
	}
	directory = model_config(model)->golden;
	if (model_record(model, call, (unsigned int)count,
	                 (uint64_t)timeout_s * CLOCK_NS_PER_SEC, &err) < 0)
		control_fail(call, "%s", err.text);
	else
		control_reply(call,
		              json_pack("{s:{s:s?}}", "recording", "directory",
		                        directory),
		              false);
}

/* Everything that the supervisor believes, in one object. */
static void commands_on_dump(void *context, struct control_call *call, const json_t *args)
{
	struct commands *commands = context;
	json_t *config = config_to_json(supervisor_config(commands->supervisor));

	(void)args;
	control_reply(call,
	              json_pack("{s:o,s:o,s:o?}", "models",
	                        commands_models(commands, NULL), "supervisor",
	                        supervisor_to_json(commands->supervisor), "config",
	                        config),
	              true);
}

static void commands_on_log(void *context, struct control_call *call, const json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "level"));
	enum log_level level;

	(void)context;
	if (!name || log_level_from_name(name, &level) < 0) {
		control_fail(call, "level must be err, warning, notice, info or debug");
		return;
	}
	log_set_level(level);
	control_done(call);
}

static void commands_on_version(void *context, struct control_call *call,
                                const json_t *args)
{
	struct commands *commands = context;

	(void)args;
	control_reply(call,
	              json_pack("{s:o}", "supervisor",
	                        supervisor_to_json(commands->supervisor)),
	              true);
}

/* clang-format off */
const struct control_command commands_table[] = {
	{ "reload", commands_on_reload, false,
	  { { "model", CONTROL_TYPE_TEXT },
	    { "wait", CONTROL_TYPE_BOOL },
	    { "explain", CONTROL_TYPE_BOOL } } },
	{ "rollback", commands_on_rollback, false,
	  { { "model", CONTROL_TYPE_TEXT }, { "wait", CONTROL_TYPE_BOOL } } },
	{ "scale", commands_on_scale, false,
	  { { "model", CONTROL_TYPE_TEXT }, { "replicas", CONTROL_TYPE_NATURAL } } },
	{ "status", commands_on_status, true, { { "model", CONTROL_TYPE_TEXT } } },
	{ "receipts", commands_on_receipts, true,
	  { { "model", CONTROL_TYPE_TEXT }, { "n", CONTROL_TYPE_NATURAL } } },
	/* Not read-only, so that the log has it: clients' requests are handed out. */
	{ "record-golden", commands_on_record, false,
	  { { "model", CONTROL_TYPE_TEXT },
	    { "n", CONTROL_TYPE_NATURAL },
	    { "timeout_s", CONTROL_TYPE_NATURAL } } },
	{ "show-config", commands_on_show_config, true, { { 0 } } },
	{ "dump", commands_on_dump, true, { { 0 } } },
	{ "log", commands_on_log, false, { { "level", CONTROL_TYPE_TEXT } } },
	{ "version", commands_on_version, true, { { 0 } } },
	{ 0 },
};
/* clang-format on */
