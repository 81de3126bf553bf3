/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The tensors of a model as its loader has told them, where the configuration leaves them out.
 * They are shown to clients, and nothing else depends on them: a loader that lies deceives the
 * clients of its own model alone.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "shared/tensor.h"
#include "supervisor/config/config.h"

struct declared {
	struct tensor_spec inputs[CONFIG_TENSORS_MAX];
	size_t n_inputs; /* 0: not told */
	struct tensor_spec outputs[CONFIG_TENSORS_MAX];
	size_t n_outputs;
};

/* A model's tensors, borrowed from a section or from struct declared. */
struct declared_view {
	const struct tensor_spec *inputs;
	size_t n_inputs;
	const struct tensor_spec *outputs;
	size_t n_outputs;
};

/* Reads READY's payload, which may be anything. 0, or -EINVAL with a sentence. */
int declared_read(struct declared *declared, const json_t *ready, struct err *err);

/* The tensors of @section, and those of @told that it leaves out. False: some are not known; a
 * model that has routes has none, and that is known. */
bool declared_look(const struct config_model *section, const struct declared *told,
                   struct declared_view *ret_view);
