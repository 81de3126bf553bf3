/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs and outputs that a model has, as its file declares them, and whether the
 * configuration says the same. They go together by name.
 */

#include "loader/engine.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

struct signature {
	struct tensor_spec inputs[ENGINE_TENSORS_MAX];
	size_t n_inputs;
	struct tensor_spec outputs[ENGINE_TENSORS_MAX];
	size_t n_outputs;
};

/* The element type of @dtype. */
enum ort_type signature_type(enum tensor_dtype dtype);
/* The datatype of @type. False: the protocol has none. */
bool signature_dtype(enum ort_type type, enum tensor_dtype *ret_dtype);

/* Reads it from @session. A dim that the model leaves open is TENSOR_DIM_ANY. 0;
 * ENGINE_E_MODEL with a sentence: the model takes or gives what the protocol cannot carry. */
int signature_read(const struct ort_api *api, const struct ort_session *session,
                   const struct engine_config *config, struct signature *ret_signature,
                   struct err *err);
/* Holds the configuration against it. 0, or ENGINE_E_MODEL with a sentence that names both. */
int signature_check(const struct signature *signature, const struct engine_config *config,
                    struct err *err);
