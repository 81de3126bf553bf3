/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which shapes do not fit into the memory that there is for computing, as far as was seen.
 * What is as large or larger in every dim of every input is taken not to fit either, for a
 * while; after that it is tried again. A shape that has fitted not long ago did not fail for
 * its size, but for what a client put into it or for what was short just then: that says
 * nothing of other requests and is not remembered.
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
/* Memory of a card that others share may have become less for good. */
#define FIT_GOOD_NS (600 * CLOCK_NS_PER_SEC)

struct fit_known {
	struct tensor_shape shapes[ENGINE_TENSORS_MAX];
	struct engine_use use;
	uint64_t learned_ns; /* 0: free */
};

/* Computed with what there was: so is what is no larger. */
struct fit_good {
	struct tensor_shape shapes[ENGINE_TENSORS_MAX];
	uint64_t seen_ns; /* 0: free */
};

struct fit {
	struct fit_known known[FIT_KNOWN_MAX];
	struct fit_good good[FIT_GOOD_MAX];
	size_t n_inputs; /* of the model */
};

void fit_init(struct fit *fit, size_t n_inputs);

/* @inputs did fit. */
void fit_note(struct fit *fit, const struct engine_tensor *inputs, uint64_t now_ns);

/* @inputs did not fit: @use has the figures. Where as much has fitted not long ago
 * it is not their size: nothing is learned. */
void fit_learn(struct fit *fit, const struct engine_tensor *inputs,
               const struct engine_use *use, uint64_t now_ns);

/* The figures of something no larger that did not fit; NULL: it may fit. @rows takes the
 * place of the first dims when it is not 0. */
const struct engine_use *fit_refuses(const struct fit *fit,
                                     const struct engine_tensor *inputs, uint64_t rows,
                                     uint64_t now_ns);

/* The sentence for people. Returns ENGINE_E_MEMORY. */
int fit_explain(const struct engine_use *use, struct err *err);
