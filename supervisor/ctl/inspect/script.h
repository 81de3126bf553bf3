/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a TorchScript archive says of its method forward. The archive holds the source of its
 * classes; data.pkl names the class of the model. Nothing of it is run, and nothing trusted.
 */

#include "shared/model_format.h"

/* The arguments of forward but for the module itself, as "x: Tensor, mask: Tensor"; the caller
 * frees them. NULL: nothing can be told. */
char *script_read_forward(const struct model_file *file);

/* The same from the source text: of the class whose name is @name. */
char *script_find_forward(const char *source, const char *name);
