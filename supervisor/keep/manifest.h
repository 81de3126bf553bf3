/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs that a model served well with, kept for the next start in the folder
 * STATE_DIR/good/MODEL (keep.h):
 *
 *	manifest-NUMBER-SHA256  JSON: the section as text, the digests of the other two
 *	weights-SHA256          a hard link to the model file
 *	secrets-SHA256          only when asked for
 */

#include <stdbool.h>

#include "supervisor/inputs/inputs.h"

enum {
	_MANIFEST_E_SUCCESS,
	MANIFEST_E_NONE, /* nothing was kept that could still be built from */
};

/* Makes the link alone, and returns what stat(2) says of the file before and after:
 * everybody who compares that must be told. Does not wait for the disk; manifest_save()
 * is to follow. 0 or -errno. */
int manifest_link(const char *state_dir, const struct inputs *inputs,
                  struct stat *ret_before, struct stat *ret_after);

/* Keeps @inputs, which a loader has served with; the highest @number is the newest.
 * Blocks on the disk: for a writer process (keeper.h). 0, or -errno with a sentence: what
 * was kept before is still there. */
int manifest_save(const char *state_dir, const struct inputs *inputs, bool with_secrets,
                  uint64_t number, struct err *err);

/* Loads the newest inputs of @model that hold together, with loader and engines of @like.
 * 0 and a new reference, or MANIFEST_E_NONE, with a sentence when something was kept in
 * vain. */
int manifest_load(struct inputs **ret_inputs, const char *state_dir, const char *model,
                  const struct config *like, struct err *err);

/* Drops what is kept of models that @config does not have. */
void manifest_prune(const char *state_dir, const struct config *config);
