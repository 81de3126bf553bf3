/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where the weights of a generation come from and what becomes of them, for generation.c: the
 * descriptors of LOAD and COMMIT, and what the loader says of its copy.
 */

#include "supervisor/loaders/generation.h"

/* generation.c */
void generation_send(struct generation *generation, enum proto_type type,
                     const char *payload, const int *fds, size_t n_fds);

/* Sends LOAD. */
void generation_weights_load(struct generation *generation);
/* Sends COMMIT, with what is to be written over, if anything is. */
void generation_weights_commit(struct generation *generation);
/* @event came with @message: what became of the shared copy of the weights. False: it is not
 * what it should be, with a sentence. */
bool generation_weights_settle(struct generation *generation, enum generation_event event,
                               struct chan_message *message, struct err *err);
/* It has none any more. */
void generation_weights_drop(struct generation *generation);
