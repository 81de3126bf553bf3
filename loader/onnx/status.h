/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What ONNX Runtime says of a failure, for engine onnx: a sentence for an operator, and whose
 * fault a failed run is, as far as can be told.
 *
 * Most failures of a kernel come with one code, so the text decides:
 *
 * - the runtime's own check of an input against the model's declaration failed: the request is
 *   to blame;
 * - an index into a tensor is out of range. The request brings indices, and warming up has
 *   computed with valid ones;
 * - shapes do not go together, and the configuration leaves open, behind the batch, a dim that the
 *   request has filled in. Where all dims are declared the decoder has checked them, and the
 *   model is wrong.
 *
 * The texts are those of ONNX Runtime 1.17 to 1.32. A text that changes one day counts as the
 * model's fault.
 */

#include "loader/engine.h"
#include "loader/onnx/ort.h"
#include "shared/err.h"

/* Writes @prefix and what @status says, and releases it. Returns @outcome; ENGINE_E_FAILED,
 * or ENGINE_E_MEMORY for a device, if it tells of a lack of memory. */
int status_fail(const struct ort_api *api, struct ort_status *status,
                const struct engine_config *config, int outcome, const char *prefix,
                struct err *err);
/* Makes an outcome of infer out of a failed run's status, which it releases. */
int status_of_run(const struct ort_api *api, struct ort_status *status,
                  const struct engine_config *config, struct err *err);
/* What @code with @text is for infer, unless that lacks memory. */
int status_judge(enum ort_code code, const char *text,
                 const struct engine_config *config);
/* True when @text tells of a lack of memory. */
bool status_lacks_memory(const char *text);
