/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two small tables of shapes: known (failed) and good (fitted). A shape covers another one when
 * it is as large in every dim of every input; the rank must be the same. A new failure
 * replaces the larger ones, a new success one that is no larger, so that the tables keep the
 * border between the two. A full table loses its oldest row.
 */
#include "loader/serve/fit.h"

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

/* Forgets failures of shapes as large as @inputs or larger: the failure of @inputs says more. */
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

/* True when @good is as large as @inputs or larger; with @is_reverse when @inputs are. */
static bool fit_good_covers(const struct fit *fit, const struct fit_good *good,
                            const struct engine_tensor *inputs, bool is_reverse)
{
	for (size_t i = 0; i < fit->n_inputs; i++) {
		const struct tensor_shape *shape = &inputs[i].shape;

		if (!fit_is_within(is_reverse ? &good->shapes[i] : shape,
		                   is_reverse ? shape : &good->shapes[i], 0))
			return false;
	}
	return good->seen_ns != 0;
}

/* Finds a shape as large as @inputs that fitted not long ago; or NULL. */
static struct fit_good *fit_find_good(struct fit *fit, const struct engine_tensor *inputs,
                                      uint64_t now_ns)
{
	for (size_t i = 0; i < FIT_GOOD_MAX; i++)
		if (fit_good_covers(fit, &fit->good[i], inputs, false) &&
		    now_ns - fit->good[i].seen_ns < FIT_GOOD_NS)
			return &fit->good[i];
	return NULL;
}

/* Finds the place for @inputs: that of a shape no larger than them, or the oldest. */
static struct fit_good *fit_good_place(struct fit *fit,
                                       const struct engine_tensor *inputs)
{
	struct fit_good *place = &fit->good[0];

	for (size_t i = 0; i < FIT_GOOD_MAX; i++) {
		if (fit_good_covers(fit, &fit->good[i], inputs, true))
			return &fit->good[i];
		if (fit->good[i].seen_ns < place->seen_ns)
			place = &fit->good[i];
	}
	return place;
}

void fit_note(struct fit *fit, const struct engine_tensor *inputs, uint64_t now_ns)
{
	struct fit_good *good = fit_find_good(fit, inputs, now_ns);

	if (!good)
		good = fit_good_place(fit, inputs);
	else if (!fit_good_covers(fit, good, inputs, true))
		return; /* a larger one is there, whose time this does not renew */
	for (size_t i = 0; i < fit->n_inputs; i++)
		good->shapes[i] = inputs[i].shape;
	good->seen_ns = now_ns;
}

void fit_learn(struct fit *fit, const struct engine_tensor *inputs,
               const struct engine_use *use, uint64_t now_ns)
{
	struct fit_known *place = &fit->known[0];

	if (fit_find_good(fit, inputs, now_ns))
		return;
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
