/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Shows a client of the control socket the next requests of a model that are answered
 * with 200, and their answers. Requests and answers go nowhere else: not to disk, not
 * into a log.
 *
 * Nothing is kept for a client that reads too slowly: what its queue has no room for is
 * passed over. So is what is too large for one line, and an answer in several parts.
 */

#include <stdint.h>

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/control/control.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/request.h"

struct recorder;

/* Shows @count requests of @queue within @timeout_ns, each as a line {"sample": ...},
 * then ends @call, in any case. 0; -EBUSY with a sentence: the queue has a recorder
 * already; or -errno with a sentence. On failure @call is the caller's to end. The
 * recorder belongs to @queue and frees itself. */
int recorder_start(struct queue *queue, struct control_call *call, unsigned int count,
                   uint64_t timeout_ns, struct err *err);
/* Ends the call with @reason and frees. Accepts NULL. */
void recorder_end(struct recorder *recorder, const char *reason);

/* Called by request_collect(), before @part is handed on. */
void recorder_take(struct recorder *recorder, const struct request *request,
                   const struct proto_answer *answer, const unsigned char *head,
                   const struct request_part *part);
