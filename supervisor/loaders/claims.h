/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a generation holds of main memory and of its GPU, and what is claimed for it there
 * while it is built, so that others do not count on the same bytes. claims.c alone writes
 * to `use`, `gpu_use` and `gpu_weights_bytes` of struct generation. The device measures
 * the rest (devices/device.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "supervisor/devices/strategy.h"

struct generation;

/* Where a loader counts, and what is claimed for it there. */
struct generation_place {
	struct device *device;
	uint64_t claim_bytes;
	struct device *gpu; /* or NULL */
	uint64_t gpu_claim_bytes;
	/* The part of it for shared weights that the loader is to bring. */
	uint64_t gpu_weights_bytes;
};

/* The process of @generation counts from now on. */
void generation_claims_begin(struct generation *generation,
                             const struct generation_place *place);
/* The process counts no more. Returns where it did. */
struct generation_place generation_claims_end(struct generation *generation);

/* Claims @bytes of main memory until it is ACTIVE. */
void generation_claim(struct generation *generation, uint64_t bytes);
/* The same of its GPU; @weights_bytes of @bytes are for shared weights that it is to
 * bring. */
void generation_claim_gpu(struct generation *generation, uint64_t bytes,
                          uint64_t weights_bytes);
/* A generation that goes keeps the place of the one that comes after it, as far as
 * @candidate (or NULL) does not claim that itself. @facts and @gpu_facts are those that
 * the reload was decided by. */
void generation_keep_place(struct generation *generation,
                           const struct generation *candidate,
                           const struct strategy_facts *facts,
                           const struct strategy_facts *gpu_facts);

/* The weights are shared: @bytes, of which the loader made @made_bytes. @has_brought:
 * the claim for weights that it was to bring passes to them. */
void generation_claims_note_mapped(struct generation *generation, uint64_t bytes,
                                   uint64_t made_bytes, bool has_brought);
/* The loader is ACTIVE and has all that it is to have. */
void generation_claims_note_active(struct generation *generation);
