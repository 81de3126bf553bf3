/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How long a generation may take, for generation.c: the deadline of each state, and how
 * long its process may stand still in any of them. Configuration changes both at once.
 *
 * A process that holds requests stands still when it has not counted up its progress. A
 * process that holds none stands still when it is stopped (SIGSTOP): its other waits, for
 * a disk or a network included, are the business of the state's deadline. After
 * stall_timeout, and an eighth or two of that, standing still costs its life.
 *
 * Why not count what the kernel counts: processor time, bytes read, page faults? A loader
 * that spins counts up, so half of all hangs would be missed. A loader that does not
 * count up may be well: it waits for a licence or a database without a limit of its own,
 * for a download that has stalled, for another loader that fills the shared copy of the
 * weights, for a kernel on a GPU. From outside all of these are a thread asleep, as in a
 * deadlock, and ending them would refuse models that get ready. An operator who knows how
 * long a model may take says so in stage_timeout, commit_timeout and warmup_timeout.
 */

#include <ev.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/loaders/table.h"

struct generation;

struct generation_patience {
	ev_timer deadline; /* of the present state */
	ev_timer look;     /* looks whether the process moves, while there is one */
	uint64_t deadlines_ns[GENERATION_STATE_COUNT]; /* 0: none */
	uint64_t reclaim_timeout_ns;
	uint64_t stall_timeout_ns;
	uint64_t hurry_ns; /* limit for all of staging, whatever is configured; 0: none */
	uint64_t looked_ns;
	uint64_t still_ns; /* time that it was seen without progress */
	uint64_t progress; /* of the leases, as last seen */
};

/* Each callback gets its timer, whose data is @generation. */
void generation_patience_init(struct generation *generation,
                              const struct config_model *section,
                              void (*on_deadline)(struct ev_loop *, ev_timer *, int),
                              void (*on_look)(struct ev_loop *, ev_timer *, int));
/* A process has come: watch it. */
void generation_patience_watch(struct generation *generation);
/* The generation has entered its state: start the deadline. */
void generation_patience_begin(struct generation *generation);
/* Looks whether the process moves. Returns the event of one that has stood still for too
 * long, with a sentence, or COUNT. */
enum generation_event generation_patience_look(struct generation *generation,
                                               struct err *ret_why);
/* The loader has got a request. */
void generation_patience_on_lease(struct generation *generation);
/* The process is gone: only the deadline of a state is left. */
void generation_patience_end(struct generation *generation);
void generation_patience_fini(struct generation *generation);
