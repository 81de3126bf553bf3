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

#include "supervisor/loaders/generation.h"

/* Defined in generation.c. */
void generation_fail(struct generation *generation, enum generation_event event,
                     const char *text);

/* True: the loader was a spare and has not said yet that it is this generation's. */
bool generation_is_untried(const struct generation *generation);

void generation_patience_init(struct generation *generation,
                              const struct config_model *section);
/* A process has come: watch it. */
void generation_patience_watch(struct generation *generation);
/* The generation has entered its state: start the deadline. */
void generation_patience_begin(struct generation *generation);
/* The loader has got a request. */
void generation_patience_on_lease(struct generation *generation);
void generation_patience_end(struct generation *generation);
