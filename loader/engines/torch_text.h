/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What libtorch says in an exception, for engine torch: the cause for an operator, and whose
 * fault an exception of forward is, as far as can be told.
 *
 * The interpreter turns every exception into a runtime_error with a text, libtorch's own
 * kinds (c10::IndexError, c10::ValueError) among them, so the last line of the text decides:
 *
 * - the model raised ValueError, IndexError or KeyError itself, which is how it refuses an input;
 * - an index into a tensor is out of range. The request brings indices, and warming up has
 *   computed with valid ones. An index into a Python list of the model's own does not count;
 * - shapes do not go together, and the configuration leaves open, behind the batch, a dim
 *   that the request has filled in. Where all dims are declared the decoder has checked
 *   them, and the model is wrong.
 *
 * The texts are those of libtorch 1.13 and 2.x. A text that changes one day counts as the
 * model's fault, as all did without this file.
 */

#include <stdbool.h>

#include "loader/engine.h"
#include "shared/err.h"

/* Writes @prefix and the cause in @what, an exception's text. @err may be NULL. Returns
 * @outcome. */
int torch_text_set(struct err *err, int outcome, const char *prefix, const char *what);
/* Makes an outcome of @what: @memory_outcome when it tells of a lack of memory, else @outcome. */
int torch_text_fail(struct err *err, int outcome, int memory_outcome, const char *what);
/* True when @what, an exception of forward, is the request's fault. */
bool torch_text_blames_request(const struct engine_config *config, const char *what);
