/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The tensors of one computation as values of ONNX Runtime: inputs over the loader's memory,
 * outputs where the runtime has put them. Texts have a form of their own there, so those are
 * copied both ways.
 */

#include "loader/engine.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

struct values {
	const struct ort_api *api;
	const struct engine_config *config;
	const struct ort_memory *memory; /* of the host */
	struct ort_value *inputs[ENGINE_TENSORS_MAX];
	struct ort_value *outputs[ENGINE_TENSORS_MAX];
	void *texts[ENGINE_TENSORS_MAX]; /* of outputs that are texts */
};

/* Makes the inputs of @tensors. Outcomes of infer, with a sentence. */
int values_put(struct values *values, const struct engine_tensor *tensors,
               struct err *err);
/* Describes the outputs, which stay as they are until values_drop(). Outcomes of infer. */
int values_take(struct values *values, struct engine_tensor *ret_tensors,
                struct err *err);
/* Releases inputs. */
void values_drop_inputs(struct values *values);
/* Releases everything. */
void values_drop(struct values *values);
