/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What served well, kept for the next start: STATE_DIR/good/MODEL/ holds
 *
 *	manifest-SHA256   JSON: the section as text, the digests of the other two
 *	weights-SHA256    a hard link to the model file
 *	secrets-SHA256    only when asked for
 *
 * Each file is named by the SHA-256 of its content (a manifest's also covers the others), so
 * that one which a power cut tore is known for what it is. That, and keeping the last two
 * manifests, stands in for fsync(), for which the supervisor has no time.
 */

#include <stdbool.h>

#include "supervisor/inputs.h"

enum {
	_MANIFEST_E_SUCCESS,
	MANIFEST_E_NONE, /* nothing was kept, or nothing that could still be built from */
};

/* Keeps @inputs, which a loader has served with. 0 or -errno with a sentence: nothing that
 * was kept before is lost then. */
int manifest_save(const char *state_dir, const struct inputs *inputs, bool with_secrets,
                  struct err *err);

/* The newest of @model that holds together, with loader and engines as @like has them. 0
 * and a new reference, or an outcome, with a sentence when something was kept in vain. */
int manifest_load(struct inputs **ret_inputs, const char *state_dir, const char *model,
                  const struct config *like, struct err *err);

/* Drops what is kept of models that @config does not have. */
void manifest_prune(const char *state_dir, const struct config *config);
