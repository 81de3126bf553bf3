/* SPDX-License-Identifier: Apache-2.0 */

/* What a generation's life teaches of the inputs that it was built from. */

#include <stdio.h>

#include "supervisor/inputs/inputs.h"

void inputs_learn_load(struct inputs *inputs, const struct inputs *like,
                       const struct inputs_load *load)
{
	struct inputs_footprint *footprint = &inputs->footprint;

	if (like && footprint->peak_bytes == 0)
		*footprint = like->footprint;
	/* Measurements of the other way of having weights say nothing of this one. */
	if (footprint->is_private != load->is_private)
		footprint->staged_bytes = footprint->loading_bytes = 0;
	footprint->is_private = load->is_private;
	if (load->is_lean)
		footprint->staged_bytes = load->loading_bytes;
	else
		footprint->loading_bytes = load->loading_bytes;
	footprint->peak_bytes = load->anon_bytes;
	inputs_learn_hash(inputs, load->weights_sha256);
}

void inputs_learn_hash(struct inputs *inputs, const char *weights_sha256)
{
	(void)snprintf(inputs->weights_sha256, sizeof(inputs->weights_sha256), "%s",
	               weights_sha256);
}

void inputs_learn_peak(struct inputs *inputs, uint64_t bytes)
{
	if (bytes > inputs->footprint.peak_bytes)
		inputs->footprint.peak_bytes = bytes;
}

void inputs_learn_gpu_peak(struct inputs *inputs, uint64_t bytes, bool is_shared)
{
	struct inputs_footprint *footprint = &inputs->footprint;

	if (footprint->is_gpu_shared != is_shared || bytes > footprint->gpu_peak_bytes)
		footprint->gpu_peak_bytes = bytes;
	footprint->is_gpu_shared = is_shared;
}

void inputs_learn_private(struct inputs *inputs, const struct err *why, bool is_lasting)
{
	inputs->why_private = why ? *why : (struct err)ERR_NULL;
	inputs->is_private_lasting = why && is_lasting;
}

void inputs_learn_anew(struct inputs *inputs)
{
	inputs->is_private_lasting = false;
}

void inputs_learn_proven(struct inputs *inputs)
{
	inputs->is_proven = true;
}

void inputs_learn_tensors(struct inputs *inputs, const struct declared *told)
{
	inputs->told = *told;
}
