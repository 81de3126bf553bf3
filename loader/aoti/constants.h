/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The constants of a compiled model, which are its weights: tensors over the package's bytes, or
 * over a copy of them where those bytes do not last.
 */

#include <stdbool.h>
#include <stddef.h>

#include "loader/aoti/code.h"
#include "loader/aoti/package.h"
#include "loader/aoti/shim.h"
#include "shared/err.h"

struct constants {
	struct aoti_pair *pairs;
	size_t n_pairs;
	void *copy; /* of all of them; NULL: they lie in the package */
	size_t copy_bytes;
};

/* 0; ENGINE_E_PRIVATE with a sentence: torch copies the weights of @package. */
int constants_check_shared(const struct package *package, const struct code *code,
                           struct err *err);
/* Gives @code its constants. @is_lasting: the package's bytes stay as long as the process. Outcomes
 * of stage. */
int constants_place(struct constants *constants, const struct package *package,
                    const struct code *code, const struct shim *shim, bool is_lasting,
                    struct err *err);
/* After the container is freed, which borrows the tensors. */
void constants_fini(struct constants *constants, const struct shim *shim);
