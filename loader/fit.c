/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/fit.h"

#include <string.h>

#define FIT_MIB 1048576.0

void fit_init(struct fit *fit, size_t n_inputs)
{
	memset(fit, 0, sizeof(*fit));
	fit->n_inputs = n_inputs;
}

static bool fit_is_within(const struct tensor_shape *small,
                          const struct tensor_shape *large, uint64_t rows)
{
	if (small->rank != large->rank)
		return false;
	for (uint32_t i = 0; i < small->rank; i++) {
		int64_t dim = i == 0 && rows > 0 ? (int64_t)rows : large->dims[i];

		if (small->dims[i] > dim)
			return false;
	}
	return true;
}

static bool fit_covers(const struct fit *fit, const struct fit_known *known,
                       const struct engine_tensor *inputs, uint64_t rows)
{
	for (size_t i = 0; i < fit->n_inputs; i++)
		if (!fit_is_within(&known->shapes[i], &inputs[i].shape, rows))
			return false;
	return true;
}

static bool fit_is_stale(const struct fit_known *known, uint64_t now_ns)
{
	return known->learned_ns == 0 || now_ns - known->learned_ns >= FIT_KEEP_NS;
}

/* What @inputs are a part of need not be known any more. */
static void fit_forget_larger(struct fit *fit, const struct engine_tensor *inputs)
{
	for (size_t i = 0; i < FIT_KNOWN_MAX; i++) {
		struct fit_known *known = &fit->known[i];
		bool is_larger = true;

		for (size_t j = 0; j < fit->n_inputs; j++)
			is_larger = is_larger &&
			            fit_is_within(&inputs[j].shape, &known->shapes[j], 0);
		if (is_larger)
			known->learned_ns = 0;
	}
}

void fit_learn(struct fit *fit, const struct engine_tensor *inputs,
               const struct engine_use *use, uint64_t now_ns)
{
	struct fit_known *place = &fit->known[0];

	fit_forget_larger(fit, inputs);
	for (size_t i = 1; i < FIT_KNOWN_MAX; i++)
		if (fit->known[i].learned_ns < place->learned_ns)
			place = &fit->known[i];
	for (size_t i = 0; i < fit->n_inputs; i++)
		place->shapes[i] = inputs[i].shape;
	place->use = *use;
	place->learned_ns = now_ns;
}

const struct engine_use *fit_refuses(const struct fit *fit,
                                     const struct engine_tensor *inputs, uint64_t rows,
                                     uint64_t now_ns)
{
	for (size_t i = 0; i < FIT_KNOWN_MAX; i++)
		if (!fit_is_stale(&fit->known[i], now_ns) &&
		    fit_covers(fit, &fit->known[i], inputs, rows))
			return &fit->known[i].use;
	return NULL;
}

int fit_explain(const struct engine_use *use, struct err *err)
{
	double wanted_mib = (double)use->wanted_bytes / FIT_MIB;

	if (use->wanted_bytes == 0)
		return err_set(err, ENGINE_E_MEMORY,
		               "a request of this size does not fit into the memory of "
		               "the device: send less at once");
	if (use->available_bytes == 0)
		return err_set(err, ENGINE_E_MEMORY,
		               "a request of this size needs at least %.1f MiB to be "
		               "computed, and the device does not have them free: send "
		               "less at once",
		               wanted_mib);
	return err_set(err, ENGINE_E_MEMORY,
	               "a request of this size needs at least %.1f MiB to be computed, "
	               "and %.1f MiB are available: send less at once, or raise "
	               "working_memory",
	               wanted_mib, (double)use->available_bytes / FIT_MIB);
}
