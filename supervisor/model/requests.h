/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model's requests: to a loader, back from it, and what becomes of those that no loader
 * answers.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "supervisor/loaders/generation.h"
#include "supervisor/model/model.h"
#include "supervisor/traffic/request.h"

/* queue.c: dispatch, and the account of pauses */

void model_dispatch(struct model *model);
void model_on_answers(void *context, struct generation *generation);
json_t *model_hold_to_json(struct model *model);
/* Keeps the account of pauses: @generation, which may have led, is in another state. */
void model_note_state(struct model *model, const struct generation *generation);

/* fail.c: those that cannot wait any longer */

/* Until another loader is started. */
uint64_t model_backoff_ns(struct model *model);
/* Answers everything that is held with 503. */
void model_fail_held(struct model *model, const char *reason);
/* Ends @request, which is in no list, and answers an owner who still waits. May free
 * @request. */
void model_fail_request(struct request *request, enum request_failure failure,
                        unsigned int status, const char *reason);
/* Rounds up to seconds, as Retry-After has it. */
unsigned int model_retry_after_s(uint64_t left_ns);
/* When a client is to come again, while nothing is expected to serve soon. */
unsigned int model_down_retry_s(struct model *model);

/* blame.c: whose fault it is that a loader died */

/* True: somebody else ended the loader, and not the kernel for want of memory: its death
 * blames neither inputs nor requests. */
bool model_was_killed(const struct generation *dead);
/* True: @request must not be tried any more. Otherwise it may become a suspect. */
bool model_judge(const struct generation *dead, struct request *request);

/* poison.c: bodies over which loaders die */

void model_on_lease_lost(void *context, struct generation *generation,
                         struct request *request);
/* 0, or a refusal: @request's body is remembered. */
int model_refuse_poison(struct model *model, const struct request *request,
                        struct request_refusal *refusal);
/* Forgets all bodies: a generation built from anything new may cope with them. */
void model_forget_poison(struct model *model);
/* For `moultctl status`: a new reference. */
json_t *model_poison_to_json(struct model *model);
