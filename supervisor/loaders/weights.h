/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the weights of a generation come from and what becomes of them, for generation.c:
 * the descriptors of LOAD and COMMIT, and what the loader says of its copy (protocol:
 * shared/proto.h).
 */

#include "supervisor/loaders/generation.h"

/* Makes the text of LOAD. 0 or -ENOMEM. */
int generation_weights_init(struct generation *generation,
                            const struct generation_start *start);
/* Sends LOAD. False: the loader does not read its channel; the same below. */
bool generation_weights_load(struct generation *generation);
/* Sends COMMIT, with the chunks to write over, if there are any. */
bool generation_weights_commit(struct generation *generation);
/* The generation serves with its copy. */
void generation_weights_serve(struct generation *generation);
/* Settles what became of the shared copy when @event came with @message. False, with a
 * sentence: the copy is not what it should be. */
bool generation_weights_settle(struct generation *generation, enum generation_event event,
                               struct chan_message *message, struct err *err);
/* The generation lets go of its copy. */
void generation_weights_drop(struct generation *generation);
void generation_weights_fini(struct generation *generation);
