/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two small tables of shapes: known (failed) and good (fitted), filled from the front. A shape
 * covers another one when it is as large in every dim of every input; the rank must be the same.
 * A new failure replaces the larger ones, a new success one that is no larger, so that the
 * tables keep the border between the two. A full table loses its oldest row. While every request
 * fits the second table has a row or two, and the first one none.
 */
#include "loader/serve/fit.h"

#include <stdio.h>

#define FIT_MIB 1048576.0

void fit_init(struct fit *fit, size_t n_inputs)
{
	fit->n_inputs = n_inputs;
	fit->n_known = fit->n_good = fit->latest = 0;
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

/* True when @inputs are as large as @shapes or larger. A @rows that is not 0 takes the place of
 * the inputs' first dims. */
static bool fit_reaches(const struct fit *fit, const struct engine_tensor *inputs,
                        const struct tensor_shape *shapes, uint64_t rows)
{
	for (size_t i = 0; i < fit->n_inputs; i++)
		if (!fit_is_within(&shapes[i], &inputs[i].shape, rows))
			return false;
	return true;
}

/* True when @shapes are as large as @inputs or larger. */
static bool fit_covers(const struct fit *fit, const struct tensor_shape *shapes,
                       const struct engine_tensor *inputs)
{
	for (size_t i = 0; i < fit->n_inputs; i++)
		if (!fit_is_within(&inputs[i].shape, &shapes[i], 0))
			return false;
	return true;
}

static void fit_copy(const struct fit *fit, struct tensor_shape *shapes,
                     const struct engine_tensor *inputs)
{
	for (size_t i = 0; i < fit->n_inputs; i++)
		shapes[i] = inputs[i].shape;
}

/* Forgets failures of shapes as large as @inputs or larger: the failure of @inputs says more. */
static void fit_forget_larger(struct fit *fit, const struct engine_tensor *inputs)
{
	for (size_t i = fit->n_known; i-- > 0;)
		if (fit_covers(fit, fit->known[i].shapes, inputs))
			fit->known[i] = fit->known[--fit->n_known];
}

/* Finds a shape as large as @inputs that fitted not long ago; or NULL. */
static struct fit_good *fit_find_good(struct fit *fit, const struct engine_tensor *inputs,
                                      uint64_t now_ns)
{
	for (size_t i = 0; i < fit->n_good; i++)
		if (fit_covers(fit, fit->good[i].shapes, inputs) &&
		    now_ns - fit->good[i].seen_ns < FIT_GOOD_NS)
			return &fit->good[i];
	return NULL;
}

/* Finds the place for @inputs: that of a shape no larger than them, a free one, or the oldest. */
static struct fit_good *fit_good_place(struct fit *fit,
                                       const struct engine_tensor *inputs)
{
	struct fit_good *place = &fit->good[0];

	for (size_t i = 0; i < fit->n_good; i++) {
		if (fit_reaches(fit, inputs, fit->good[i].shapes, 0))
			return &fit->good[i];
		if (fit->good[i].seen_ns < place->seen_ns)
			place = &fit->good[i];
	}
	return fit->n_good < FIT_GOOD_MAX ? &fit->good[fit->n_good++] : place;
}

static bool fit_is_latest(const struct fit *fit, const struct engine_tensor *inputs)
{
	const struct tensor_shape *shapes = fit->good[fit->latest].shapes;

	if (fit->n_good == 0)
		return false;
	for (size_t i = 0; i < fit->n_inputs; i++) {
		if (shapes[i].rank != inputs[i].shape.rank)
			return false;
		for (uint32_t j = 0; j < shapes[i].rank; j++)
			if (shapes[i].dims[j] != inputs[i].shape.dims[j])
				return false;
	}
	return true;
}

void fit_note(struct fit *fit, const struct engine_tensor *inputs, uint64_t now_ns)
{
	struct fit_good *good;

	/* Most requests are as large as the one before. */
	if (fit_is_latest(fit, inputs)) {
		fit->good[fit->latest].seen_ns = now_ns;
		return;
	}
	good = fit_find_good(fit, inputs, now_ns);
	if (!good) {
		good = fit_good_place(fit, inputs);
		fit_copy(fit, good->shapes, inputs);
	} else if (!fit_reaches(fit, inputs, good->shapes, 0)) {
		return; /* a larger one is there, whose time this does not renew */
	}
	good->seen_ns = now_ns;
	fit->latest = (size_t)(good - fit->good);
}

void fit_learn(struct fit *fit, const struct engine_tensor *inputs,
               const struct engine_use *use, uint64_t now_ns)
{
	struct fit_known *place = &fit->known[0];

	if (fit_find_good(fit, inputs, now_ns))
		return;
	fit_forget_larger(fit, inputs);
	for (size_t i = 1; i < fit->n_known; i++)
		if (fit->known[i].learned_ns < place->learned_ns)
			place = &fit->known[i];
	if (fit->n_known < FIT_KNOWN_MAX)
		place = &fit->known[fit->n_known++];
	fit_copy(fit, place->shapes, inputs);
	place->use = *use;
	place->learned_ns = now_ns;
}

const struct engine_use *fit_refuses(const struct fit *fit,
                                     const struct engine_tensor *inputs, uint64_t rows,
                                     uint64_t now_ns)
{
	for (size_t i = 0; i < fit->n_known; i++)
		if (now_ns - fit->known[i].learned_ns < FIT_KEEP_NS &&
		    fit_reaches(fit, inputs, fit->known[i].shapes, rows))
			return &fit->known[i].use;
	return NULL;
}

/* As "4.9 MiB", or in bytes where that would be "0.0 MiB". */
static const char *fit_size(char *text, size_t size, uint64_t bytes)
{
	if (bytes < FIT_MIB / 10)
		(void)snprintf(text, size, "%llu bytes", (unsigned long long)bytes);
	else
		(void)snprintf(text, size, "%.1f MiB", (double)bytes / FIT_MIB);
	return text;
}

int fit_explain(const struct engine_use *use, struct err *err)
{
	char wanted[32];
	char available[32];

	(void)fit_size(wanted, sizeof(wanted), use->wanted_bytes);
	if (use->wanted_bytes == 0)
		return err_set(err, ENGINE_E_MEMORY,
		               "a request of this size does not fit into the memory of "
		               "the device: send less at once");
	if (use->available_bytes == 0)
		return err_set(err, ENGINE_E_MEMORY,
		               "a request of this size needs at least %s to be "
		               "computed, and the device does not have them free: send "
		               "less at once",
		               wanted);
	return err_set(err, ENGINE_E_MEMORY,
	               "a request of this size needs at least %s to be computed, "
	               "and %s are available: send less at once, or raise "
	               "working_memory",
	               wanted,
	               fit_size(available, sizeof(available), use->available_bytes));
}
