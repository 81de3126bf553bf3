/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Shows a client of the control socket the next requests of a model that are answered with
 * 200, and their answers. What was said goes nowhere else: not to disk, not into a log.
 *
 * Nothing is kept for a client that reads too slowly: what its queue has no room for is
 * passed over. So is what is too large for one line, and what came in several parts.
 */

#include <stdint.h>

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/control/control.h"
#include "supervisor/traffic/queue.h"
#include "supervisor/traffic/request.h"

struct recorder;

/* Shows @count requests of @queue within @timeout_ns, each as a line {"sample": ...}, then
 * ends @call, in any case. There is one recorder for a queue: -EBUSY. 0, or -errno with a
 * sentence; then @call is the caller's to end. The recorder frees itself; until then it is
 * @queue's. */
int recorder_start(struct queue *queue, struct control_call *call, unsigned int count,
                   uint64_t timeout_ns, struct err *err);
/* Ends the call with @reason and frees. Accepts NULL. */
void recorder_end(struct recorder *recorder, const char *reason);

/* For request_deliver(). @part must still be whole. */
void recorder_take(struct recorder *recorder, const struct request *request,
                   const struct proto_answer *answer, const unsigned char *head,
                   const struct request_part *part);
