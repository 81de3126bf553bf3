/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loaders/claims.h"

#include "shared/saturate.h"
#include "supervisor/loaders/generation.h"

void generation_claims_begin(struct generation *generation,
                             const struct generation_place *place)
{
	device_add(place->device, &generation->use, generation->pid, place->claim_bytes);
	generation->gpu_weights_bytes = place->gpu_weights_bytes;
	if (place->gpu)
		device_add(place->gpu, &generation->gpu_use, generation->pid,
		           place->gpu_claim_bytes);
	/* What is hosted may be a server, or have workers. */
	if (generation->inputs->section->route) {
		device_add_tree(&generation->use);
		device_add_tree(&generation->gpu_use);
	}
}

struct generation_place generation_claims_end(struct generation *generation)
{
	struct generation_place place = {
		.device = generation->use.device,
		.claim_bytes = generation->use.claim_bytes,
		.gpu = generation->gpu_use.device,
		.gpu_claim_bytes = generation->gpu_use.claim_bytes,
		.gpu_weights_bytes = generation->gpu_weights_bytes,
	};

	device_remove(&generation->use);
	device_remove(&generation->gpu_use);
	return place;
}

void generation_claim(struct generation *generation, uint64_t bytes)
{
	device_claim(&generation->use, bytes);
}

void generation_claim_gpu(struct generation *generation, uint64_t bytes,
                          uint64_t weights_bytes)
{
	device_claim(&generation->gpu_use, bytes);
	generation->gpu_weights_bytes = weights_bytes;
}

void generation_keep_place(struct generation *generation,
                           const struct generation *candidate,
                           const struct strategy_facts *facts,
                           const struct strategy_facts *gpu_facts)
{
	strategy_keep_place(facts, &generation->use, candidate ? &candidate->use : NULL);
	strategy_keep_place(gpu_facts, &generation->gpu_use,
	                    candidate ? &candidate->gpu_use : NULL);
}

void generation_claims_note_mapped(struct generation *generation, uint64_t bytes,
                                   uint64_t made_bytes, bool has_brought)
{
	struct device_use *use = &generation->gpu_use;

	device_note_mapped(use, bytes, made_bytes);
	if (has_brought)
		device_claim(use, saturate_minus(use->claim_bytes,
		                                 generation->gpu_weights_bytes));
}

void generation_claims_note_active(struct generation *generation)
{
	device_claim(&generation->use, 0);
	device_serve(&generation->use, generation->report.anon_bytes);
	device_note_placed(&generation->gpu_use);
}
