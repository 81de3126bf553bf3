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

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/traffic/evidence.h"
#include "supervisor/model/members.h"
#include "supervisor/model/requests.h"
#include "supervisor/traffic/parameters.h"

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

/* A hosted request is not known again by its body, and nothing of it is remembered. */
static void model_convict_hosted(struct model *model, struct request *request)
{
	const char *death = model->death.text;
	struct err why;

	(void)err_set(&why, 0,
	              "the request was in flight at two crashes of the loader of model "
	              "'%s', the second time alone%s%s, and is given to no other: send "
	              "another one, or repair the application",
	              model->name, *death ? ": " : "", death);
	log_event(LOG_LEVEL_ERR, "request_poison", "model=%s reason=%s", model->name,
	          LOG_QUOTED(why.text));
	queue_set_suspect(request, false);
	model_fail_request(request, REQUEST_FAILURE_POISON, 500, why.text);
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

	/* The body alone does not tell one hosted request from another. */
	if (request->is_hosted)
		return 0;
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

/* Whether nothing speaks against asking @request again: the loader @dead had not begun it, it may
 * be repeated, or the section names its method, which begins its head, in replay. A loader that
 * lies about the first repeats only its own effects. */
static bool model_may_replay(const struct model *model, const struct generation *dead,
                             const struct request *request)
{
	const unsigned char *memory = model->queue.memory.base;
	const char *cursor = model->section->replay ? model->section->replay : "";
	struct proto_head head;
	const char *one;
	size_t bytes;

	if (request->may_replay || !lane_has_begun(dead->lane, request->lease))
		return true;
	if (proto_head_read(&head, memory + request->offset, request->head_bytes) < 0)
		return false;
	while (config_list_next(&cursor, &one, &bytes))
		if (bytes == head.method.bytes &&
		    memcmp(one, head.method.data, bytes) == 0)
			return true;
	return false;
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
		model_note_death(model, generation->failure.text);
		if (request->is_hosted)
			model_convict_hosted(model, request);
		else
			model_convict(model, request);
	} else if (is_lost) {
		(void)snprintf(reason, sizeof(reason),
		               "the loader died with the request (%.400s)",
		               model_public_death(model, generation));
		if (request->is_expired)
			failure = REQUEST_FAILURE_DEADLINE;
		else if (!request->has_owner)
			failure = REQUEST_FAILURE_LEFT;
		model_fail_request(request, failure, 500, reason);
	} else if (!model_may_replay(model, generation, request)) {
		(void)snprintf(
			reason, sizeof(reason),
			"the loader died with the request, which may have had its "
			"effect (%.300s): it is asked again only where replay names "
			"its method",
			model_public_death(model, generation));
		model_fail_request(request, failure, 502, reason);
	} else {
		queue_hold(&model->queue, request);
	}
}
