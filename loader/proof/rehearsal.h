/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A request that a generation asks itself before it serves. It goes the way of a client's
 * request, from bytes to tensors and back to bytes.
 */

#include <stddef.h>
#include <stdint.h>

#include "loader/serve/compute.h"
#include "loader/engine.h"
#include "loader/oip/oip.h"
#include "shared/err.h"
#include "shared/proto.h"

#define REHEARSAL_HEAD_MAX 256

/* A request as it would lie in the arena, in memory that this process cannot write: an engine
 * that writes to its input is found out now. Zeroed before use. */
struct rehearsal {
	unsigned char *body; /* a mapping; written by the owner until it is sealed */
	size_t body_bytes;
	unsigned char head[REHEARSAL_HEAD_MAX];
	size_t head_bytes;
};

/* Makes room for a body of @bytes, at least 1. 0, or ENGINE_E_FAILED with a sentence. */
int rehearsal_alloc(struct rehearsal *rehearsal, size_t bytes, struct err *err);
void rehearsal_fini(struct rehearsal *rehearsal);

/* Called when the body is whole: writes the head from @fields and makes the body read-only. 0, or
 * -E2BIG when the fields are too long. */
int rehearsal_seal(struct rehearsal *rehearsal, const struct proto_field *fields,
                   size_t n_fields);

/* Runs the request once. @ret_outputs are good until @compute is used again. 0, or an outcome for
 * the generation with a sentence. The same would happen again: ENGINE_E_CONFIG (no request for
 * this model), ENGINE_E_MODEL (the model cannot compute it, or its answer cannot be encoded).
 * Another process might do better: ENGINE_E_DEVICE (a broken device), ENGINE_E_MEMORY (too little
 * memory of the device), ENGINE_E_FAILED. */
int rehearsal_run(const struct rehearsal *rehearsal, struct compute *compute,
                  struct oip_request *request, uint64_t generation,
                  struct engine_tensor ret_outputs[ENGINE_TENSORS_MAX], struct err *err);

/* Runs the request once to learn which outputs come: compute->model has none yet. 0 or an outcome
 * likewise; what the answer holds is not looked at. */
int rehearsal_ask(const struct rehearsal *rehearsal, struct compute *compute,
                  struct oip_request *request, struct engine_declared *ret_declared,
                  struct err *err);
