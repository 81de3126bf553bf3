/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Remembers which shapes did not fit into the memory for computing. A request that is as large
 * or larger in every dim of every input is taken not to fit either, for FIT_KEEP_NS; then such
 * a request is tried again. A shape that fitted not long ago did not fail for its size, but for
 * its content or for a shortage at that moment: such a failure is not remembered.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"
#include "shared/clock.h"
#include "shared/err.h"

#define FIT_KNOWN_MAX 16
#define FIT_GOOD_MAX  16
#define FIT_KEEP_NS   (60 * CLOCK_NS_PER_SEC)
/* Shapes that fitted are forgotten, too: a card's memory may have become less for good. */
#define FIT_GOOD_NS (600 * CLOCK_NS_PER_SEC)

struct fit_known {
	struct tensor_shape shapes[ENGINE_TENSORS_MAX];
	struct engine_use use;
	uint64_t learned_ns;
};

/* A shape that fitted: no larger one can fail for its size. */
struct fit_good {
	struct tensor_shape shapes[ENGINE_TENSORS_MAX];
	uint64_t seen_ns;
};

struct fit {
	size_t n_inputs; /* of the model */
	size_t n_known;
	size_t n_good;
	size_t latest; /* of good: the one that was noted last */
	struct fit_known known[FIT_KNOWN_MAX];
	struct fit_good good[FIT_GOOD_MAX];
};

void fit_init(struct fit *fit, size_t n_inputs);

/* @inputs did fit. */
void fit_note(struct fit *fit, const struct engine_tensor *inputs, uint64_t now_ns);

/* @inputs did not fit; @use has the figures. Learns nothing when as large a shape fitted not long
 * ago. */
void fit_learn(struct fit *fit, const struct engine_tensor *inputs,
               const struct engine_use *use, uint64_t now_ns);

/* True when nothing was ever refused: nobody need ask fit_refuses(). */
static inline bool fit_is_empty(const struct fit *fit)
{
	return fit->n_known == 0;
}

/* Returns the figures of a shape no larger than @inputs that did not fit; NULL: @inputs may fit.
 * A @rows that is not 0 takes the place of the first dims. The figures are borrowed until
 * fit_learn(). */
const struct engine_use *fit_refuses(const struct fit *fit,
                                     const struct engine_tensor *inputs, uint64_t rows,
                                     uint64_t now_ns);

/* Writes the sentence for the client. Returns ENGINE_E_MEMORY. */
int fit_explain(const struct engine_use *use, struct err *err);
