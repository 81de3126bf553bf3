/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finds who is to blame when a loader dies.
 *
 * A request that a loader was working on when it crashed is under suspicion, and no
 * other: the loader itself says how far it had come. All requests go back to the queue
 * for the successor. Suspects come first and go one at a time, with nothing else leased
 * beside them, so the loader that dies then leaves no doubt. If a suspect's client does
 * not wait for that, the body stays under suspicion. So a crash costs an innocent request
 * one restart, and one more for each culprit among the suspects. Other requests wait for
 * no more than one inference per member of the batch that crashed.
 */

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/model/model_state.h"
#include "supervisor/traffic/parameters.h"

/* One SIGKILL by somebody else says nothing about a request; so many of them do. */
#define MODEL_KILLS_MAX 4
/* A loader's word on how far it had come is believed this often: whatever made it crash
 * may have written over that. */
#define MODEL_CRASHES_MAX 3

/* Telling */

/* Words the refusal for a client, now and again while the body is remembered. */
static void model_explain_poison(const struct model *model,
                                 const struct poison_print *print, uint64_t left_ns,
                                 char text[ERR_TEXT_MAX])
{
	char hex[2 * POISON_DIGEST_BYTES + 1];

	const char *death = model->death.text;
	struct err why;

	poison_print_hex(print, hex);
	(void)err_set(&why, 0,
	              "a request with this body was in flight at two crashes of the "
	              "loader of model '%s', the second time alone%s%s, and is given "
	              "to no other for %.0f s (poison_memory): sha256=%s bytes=%llu "
	              "shape=%s; send another input, or repair the model and reload it",
	              model->name, *death ? ": " : "", death, (double)left_ns / 1e9, hex,
	              (unsigned long long)print->bytes, print->shape);
	memcpy(text, why.text, ERR_TEXT_MAX);
}

static void model_poison_request(struct model *model, struct request *request,
                                 const struct poison_print *print)
{
	char hex[2 * POISON_DIGEST_BYTES + 1];
	char reason[ERR_TEXT_MAX];

	poison_print_hex(print, hex);
	log_event(LOG_LEVEL_ERR, "request_poison",
	          "model=%s sha256=%s bytes=%llu shape=%s encoded=%s remembered_s=%.0f",
	          model->name, hex, (unsigned long long)print->bytes, print->shape,
	          request->is_encoded ? "yes" : "no",
	          (double)model->section->poison_memory_ns / 1e9);
	model_explain_poison(model, print, model->section->poison_memory_ns, reason);
	model_fail_request(request, REQUEST_FAILURE_POISON, 500, reason);
}

/* Fails the held requests with the same body: trying them is needless. */
static void model_poison_list(struct model *model, struct request_list *list,
                              const struct poison_print *print)
{
	struct request *request = TAILQ_FIRST(list);

	while (request) {
		struct request *next = TAILQ_NEXT(request, link);

		if (poison_print_matches(print, queue_body(&model->queue, request),
		                         request->body_bytes)) {
			queue_take(&model->queue, request);
			queue_set_suspect(request, false);
			model_poison_request(model, request, print);
		}
		request = next;
	}
}

static void model_convict(struct model *model, struct request *request)
{
	struct poison_print print;

	poison_print_of(&print, queue_body(&model->queue, request), request->body_bytes);
	if (!request->is_encoded)
		parameters_read_shape(print.shape, sizeof(print.shape),
		                      queue_body(&model->queue, request),
		                      queue_json_bytes(request));
	if (model->section->poison_memory_ns > 0)
		poison_add(&model->poison, &print, clock_now_ns());
	evidence_note(model->trial.evidence, EVIDENCE_ENDED, request);
	/* The end of this suspect says nothing new. */
	queue_set_suspect(request, false);
	model_poison_request(model, request, &print);
	model_poison_list(model, &model->queue.suspects, &print);
	for (size_t i = 0; i < QUEUE_LEVELS; i++)
		model_poison_list(model, &model->queue.levels[i], &print);
}

int model_refuse_poison(struct model *model, const struct request *request,
                        struct request_refusal *refusal)
{
	uint64_t memory_ns = model->section->poison_memory_ns;
	const struct poison_entry *entry;
	char reason[ERR_TEXT_MAX];

	entry = poison_find(&model->poison, queue_body(&model->queue, request),
	                    request->body_bytes, request->accepted_ns, memory_ns);
	if (!entry)
		return 0;
	model->poison_refused++;
	model_explain_poison(model, &entry->print,
	                     entry->since_ns + memory_ns - request->accepted_ns, reason);
	return request_refuse(refusal, 500, 0, "%s", reason);
}

void model_forget_poison(struct model *model)
{
	poison_clear(&model->poison);
	poison_clear(&model->queue.suspicion);
}

json_t *model_poison_to_json(struct model *model)
{
	uint32_t n = poison_count(&model->poison, clock_now_ns(),
	                          model->section->poison_memory_ns);

	return json_pack("{s:i,s:I}", "remembered", (int)n, "refused",
	                 (json_int_t)model->poison_refused);
}

/* A loader is dead */

enum model_blame {
	MODEL_BLAME_NOBODY, /* moultd ended it */
	MODEL_BLAME_KILL,   /* somebody else did */
	MODEL_BLAME_CRASH, /* it crashed, stalled, broke the protocol or ate all memory */
};

static enum model_blame model_blame_of(const struct generation *dead)
{
	int status = dead->exit_status;

	if (dead->entered_ns[GENERATION_STOPPING])
		return MODEL_BLAME_NOBODY;
	/* A kill without a request to stop: a stall or a violation. And a request may
	 * well be what makes a loader run out of memory. */
	if (dead->entered_ns[GENERATION_KILLING] || dead->entered_ns[GENERATION_FAILED] ||
	    dead->was_oom_victim || !WIFSIGNALED(status))
		return MODEL_BLAME_CRASH;
	switch (WTERMSIG(status)) {
	case SIGKILL:
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
		return MODEL_BLAME_KILL;
	default:
		return MODEL_BLAME_CRASH;
	}
}

bool model_was_killed(const struct generation *dead)
{
	return model_blame_of(dead) == MODEL_BLAME_KILL;
}

/* True: @request must not be tried any more. Otherwise it may become a suspect. */
static bool model_judge(const struct generation *dead, struct request *request)
{
	enum model_blame blame = model_blame_of(dead);
	bool has_begun = lane_has_begun(dead->lane, request->lease);

	if (blame == MODEL_BLAME_KILL && has_begun && request->kills < MODEL_KILLS_MAX)
		request->kills++;
	if (blame == MODEL_BLAME_NOBODY ||
	    (blame == MODEL_BLAME_KILL && request->kills < MODEL_KILLS_MAX))
		return false;
	request->crashes++;
	if (!has_begun && request->crashes < MODEL_CRASHES_MAX)
		return false;
	if (request->is_suspect)
		return true;
	queue_set_suspect(request, true);
	return false;
}

/* Why @dead failed, in words that anybody may know. */
static const char *model_public_failure(struct model *model,
                                        const struct generation *dead)
{
	if (model->section->error_detail == CONFIG_DETAIL_FULL)
		return dead->failure.text;
	(void)snprintf(model->public_error, sizeof(model->public_error),
	               "reference: generation %llu", (unsigned long long)dead->number);
	return model->public_error;
}

void model_on_lease_lost(void *context, struct generation *generation,
                         struct request *request)
{
	struct model *model = context;
	bool is_lost = !request->has_owner || request->is_answering || model->is_stopping;
	enum request_failure failure = REQUEST_FAILURE_CRASH;
	char reason[ERR_TEXT_MAX];
	bool is_guilty;

	if (request->is_case) {
		arbiter_on_lease_lost(model, generation, request);
		return;
	}
	is_guilty = !model->is_stopping && model_judge(generation, request);
	if (is_guilty) {
		generation_note_culprit(generation);
		model->death = generation->failure;
		model_convict(model, request);
	} else if (is_lost) {
		(void)snprintf(reason, sizeof(reason),
		               "the loader died with the request (%.400s)",
		               model_public_failure(model, generation));
		if (request->is_expired)
			failure = REQUEST_FAILURE_DEADLINE;
		else if (!request->has_owner)
			failure = REQUEST_FAILURE_LEFT;
		model_fail_request(request, failure, 500, reason);
	} else {
		queue_hold(&model->queue, request);
	}
}
