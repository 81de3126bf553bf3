/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The requests of one model: the arena that they lie in, the counters, and those that are
 * held, first in first out. It outlives every generation.
 */

#include <ev.h>

#include "shared/arena.h"
#include "shared/memfd.h"
#include "supervisor/pulse.h"
#include "supervisor/request.h"

struct recorder;

TAILQ_HEAD(request_list, request);

struct queue {
	const char *model; /* name, for messages; borrowed */
	struct ev_loop *loop;
	struct memfd memory; /* the request arena: loaders can only read it */
	struct arena arena;
	uint64_t max_body_bytes;
	struct request_counts counts;
	struct pulse pulse; /* of the serving generation */
	struct request_list held;
	struct recorder *recorder; /* is shown what is answered; mostly NULL */
};

/* 0 or -errno. */
int queue_init(struct queue *queue, struct ev_loop *loop, const char *model,
               size_t arena_bytes, uint64_t max_body_bytes);
/* No request may be left. */
void queue_fini(struct queue *queue);
