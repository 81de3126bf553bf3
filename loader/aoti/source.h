/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the source of a wrapper, which a package has beside the compiled code, says of inputs. Only
 * text is read, and nothing of it is compiled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/tensor.h"

struct source_input {
	bool is_known; /* all that follows is */
	int32_t dtype; /* enum aoti_dtype */
	struct tensor_shape shape;
	int64_t least[TENSOR_RANK_MAX];
	int64_t most[TENSOR_RANK_MAX]; /* 0: any */
};

/* Reads @text into @inputs, of which there are @n, zeroed. */
void source_read(struct source_input *inputs, size_t n, const char *text, size_t bytes);
