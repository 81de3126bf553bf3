/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The configuration that served, kept in STATE_DIR/good/.config (keep.h) for a start at
 * which the files cannot be read: one text for [supervisor] and [device host], and the
 * section that each model serves with.
 */

#include "supervisor/config/config.h"

/* The configuration to be kept; everything is borrowed. */
struct config_kept {
	const struct config *config;
	const struct config_model *sections[CONFIG_MODELS_MAX];
	size_t n_sections;
};

/* The configuration as text, which the caller frees. NULL: out of memory. */
char *config_kept_print(const struct config_kept *kept);
/* Keeps @text; with "" removes what was kept. Blocks on the disk: for a writer process
 * (keeper.h). 0 or -errno with a sentence. */
int config_kept_save(const char *state_dir, const char *text, uint64_t number,
                     struct err *err);

/* Loads what was kept of a run that read @file, too. Until a configuration can be read
 * nobody knows state_dir, so places are tried in turn, up to the first where something is
 * kept of @file: what @file says, whatever else is wrong there, then $STATE_DIRECTORY,
 * then the default. 0 and a new reference, or -errno with a sentence; -ENOENT: there is
 * none. */
int config_kept_load(struct config **ret_config, const char *file, struct err *err);
