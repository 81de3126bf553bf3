/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Models that clients have unloaded, and who waits for one to be loaded or gone
 * (supervisor_repository.c). A model that was unloaded is one that the configuration has and
 * supervisor_add_missing() passes over. A load is over with the model's receipt, an unload when the
 * model is freed, which is after its processes' memory came back.
 */

#include "supervisor/supervisor_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/parts/receipt.h"

/* Time beyond a section's own timeouts: others' turns to be built. */
#define CALLS_PATIENCE_S 60.

struct repository_call {
	LIST_ENTRY(repository_call) link;
	struct supervisor *supervisor;
	struct repository_ask ask;
	char name[CONFIG_NAME_MAX];
	const struct model *model; /* to tell it from a namesake */
	uint64_t number;           /* LOAD: the first receipt that answers */
	ev_timer deadline;
};

/* Names */

static size_t calls_find(const struct supervisor_calls *calls, const char *name)
{
	size_t i = 0;

	while (i < calls->n_unloaded && strcmp(calls->unloaded[i], name) != 0)
		i++;
	return i;
}

bool supervisor_is_unloaded(const struct supervisor *supervisor, const char *name)
{
	const struct supervisor_calls *calls = &supervisor->calls;

	return calls_find(calls, name) < calls->n_unloaded;
}

json_t *supervisor_unloaded_to_json(const struct supervisor *supervisor)
{
	const struct supervisor_calls *calls = &supervisor->calls;
	json_t *names = json_array();

	for (size_t i = 0; i < calls->n_unloaded; i++)
		(void)json_array_append_new(names, json_string(calls->unloaded[i]));
	return names;
}

static void calls_forget(struct supervisor_calls *calls, size_t i)
{
	if (i >= calls->n_unloaded)
		return;
	calls->n_unloaded--;
	memmove(calls->unloaded[i], calls->unloaded[i + 1],
	        (calls->n_unloaded - i) * sizeof(calls->unloaded[0]));
}

/* There is room: each is a model of the configuration. */
void supervisor_calls_remember(struct supervisor *supervisor, const char *name)
{
	struct supervisor_calls *calls = &supervisor->calls;

	if (calls_find(calls, name) < CONFIG_MODELS_MAX &&
	    calls_find(calls, name) == calls->n_unloaded)
		(void)snprintf(calls->unloaded[calls->n_unloaded++], CONFIG_NAME_MAX,
		               "%s", name);
}

void supervisor_calls_forget(struct supervisor *supervisor, const char *name)
{
	struct supervisor_calls *calls = &supervisor->calls;

	calls_forget(calls, calls_find(calls, name));
}

void supervisor_calls_on_config(struct supervisor *supervisor)
{
	struct supervisor_calls *calls = &supervisor->calls;

	for (size_t i = calls->n_unloaded; i-- > 0;)
		if (!config_find(supervisor->config, calls->unloaded[i]))
			calls_forget(calls, i);
}

struct model *supervisor_calls_leaving(const struct supervisor *supervisor,
                                       const char *name)
{
	for (size_t i = supervisor->n_leaving; i-- > 0;)
		if (strcmp(model_name(supervisor->leaving[i]), name) == 0)
			return supervisor->leaving[i];
	return NULL;
}

bool supervisor_calls_unloaded(void *context, size_t i,
                               struct repository_unloaded *ret_one)
{
	const struct supervisor *supervisor = context;
	const struct supervisor_calls *calls = &supervisor->calls;

	if (i >= calls->n_unloaded)
		return false;
	*ret_one = (struct repository_unloaded){
		.section = config_find(supervisor->config, calls->unloaded[i]),
		.is_leaving = supervisor_calls_leaving(supervisor, calls->unloaded[i]),
	};
	return true;
}

/* Calls */

void supervisor_calls_drop(struct repository_call *call)
{
	struct supervisor_calls *calls = &call->supervisor->calls;

	ev_timer_stop(call->supervisor->loop, &call->deadline);
	LIST_REMOVE(call, link);
	calls->n_waiting--;
	free(call);
}

static void calls_end(struct repository_call *call, const struct request_refusal *refusal)
{
	const struct repository_ask ask = call->ask;

	supervisor_calls_drop(call);
	ask.on_done(ask.context, refusal);
}

static void calls_on_deadline(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct repository_call *call = timer->data;
	struct request_refusal refusal = { .status = 0 };

	(void)loop;
	(void)revents;
	(void)request_refuse(
		&refusal, 504, 0,
		"model '%s' takes longer to be %s than its timeouts allow; it "
		"goes on: the index tells how it is",
		call->name, call->ask.verb == REPOSITORY_LOAD ? "loaded" : "unloaded");
	calls_end(call, &refusal);
}

static double calls_patience_s(const struct config_model *section,
                               enum repository_verb verb)
{
	uint64_t ns = section->drain_timeout_ns + section->stop_timeout_ns +
	              section->reclaim_timeout_ns;

	if (verb == REPOSITORY_LOAD)
		ns += section->stage_timeout_ns + section->commit_timeout_ns +
		      section->warmup_timeout_ns;
	return (double)ns / 1e9 + CALLS_PATIENCE_S;
}

int supervisor_calls_wait(struct supervisor *supervisor, const struct repository_ask *ask,
                          const struct model *model, uint64_t number,
                          struct repository_call **ret_call,
                          struct request_refusal *refusal)
{
	struct supervisor_calls *calls = &supervisor->calls;
	struct repository_call *call = calloc(1, sizeof(*call));

	if (!call)
		return request_refuse(refusal, 503, 1, "out of memory");
	call->supervisor = supervisor;
	call->ask = *ask;
	(void)snprintf(call->name, sizeof(call->name), "%s", model_name(model));
	call->ask.model = call->name;
	call->model = model;
	call->number = number;
	ev_timer_init(&call->deadline, calls_on_deadline,
	              calls_patience_s(model_config(model), ask->verb), 0.);
	call->deadline.data = call;
	ev_timer_start(supervisor->loop, &call->deadline);
	LIST_INSERT_HEAD(&calls->waiting, call, link);
	calls->n_waiting++;
	*ret_call = call;
	return 0;
}

/* Events */

/* Ends the calls of @verb that wait for @model, from receipt @number on. */
static void calls_end_all(struct supervisor *supervisor, const struct model *model,
                          enum repository_verb verb, uint64_t number,
                          const struct request_refusal *refusal)
{
	struct repository_call *call = LIST_FIRST(&supervisor->calls.waiting);

	while (call) {
		struct repository_call *next = LIST_NEXT(call, link);

		if (call->model == model && call->ask.verb == verb &&
		    call->number <= number)
			calls_end(call, refusal);
		call = next;
	}
}

void supervisor_calls_on_receipt(struct supervisor *supervisor, const struct model *model,
                                 const struct receipt *receipt)
{
	struct request_refusal refusal = { .status = 0 };

	if (strcmp(receipt->cause, model_cause_name(MODEL_CAUSE_ROLLBACK)) == 0)
		return;
	if (receipt->outcome == RECEIPT_FAILED)
		(void)request_refuse(&refusal, 400, 0, "failed to load '%s': %.400s%s",
		                     receipt->model, receipt->reason.text,
		                     model_is_ready(model) ? "; the one before serves on"
		                                           : "");
	calls_end_all(supervisor, model, REPOSITORY_LOAD, receipt->number,
	              refusal.status ? &refusal : NULL);
}

void supervisor_calls_on_removed(struct supervisor *supervisor, const struct model *model)
{
	struct request_refusal refusal = { .status = 0 };

	(void)request_refuse(&refusal, 503, 0, "model '%s' is taken out of service",
	                     model_name(model));
	calls_end_all(supervisor, model, REPOSITORY_LOAD, UINT64_MAX, &refusal);
}

void supervisor_calls_on_freed(struct supervisor *supervisor, const struct model *model)
{
	calls_end_all(supervisor, model, REPOSITORY_UNLOAD, UINT64_MAX, NULL);
}

void supervisor_calls_stop(struct supervisor *supervisor)
{
	struct repository_call *call;
	struct request_refusal refusal = { .status = 0 };

	(void)request_refuse(&refusal, 503, 0, "moultd is stopping");
	while ((call = LIST_FIRST(&supervisor->calls.waiting)))
		calls_end(call, &refusal);
}
