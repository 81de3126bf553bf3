/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the weights of a generation come from and what becomes of them, for generation.c:
 * the descriptors of LOAD and COMMIT, and what the loader says of its copy (protocol:
 * shared/proto.h).
 */

#include "supervisor/loaders/generation.h"

/* Defined in generation.c. */
void generation_send(struct generation *generation, enum proto_type type,
                     const char *payload, const int *fds, size_t n_fds);

/* Sends LOAD. */
void generation_weights_load(struct generation *generation);
/* Sends COMMIT, with the chunks to write over, if there are any. */
void generation_weights_commit(struct generation *generation);
/* Settles what became of the shared copy when @event came with @message. False, with a
 * sentence: the copy is not what it should be. */
bool generation_weights_settle(struct generation *generation, enum generation_event event,
                               struct chan_message *message, struct err *err);
/* The generation lets go of its copy. */
void generation_weights_drop(struct generation *generation);
