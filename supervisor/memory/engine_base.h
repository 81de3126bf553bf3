/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Main memory that an engine takes by itself, in bytes of RssAnon, before it has seen a
 * model: its libraries' relocations above all. The need of a model that was never
 * measured is reckoned as that and its file.
 *
 * Each loader reports the figure (engine_anon_bytes of STAGED), and the last report
 * counts: an engine may be replaced. Until the first report a constant stands in.
 */

#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/config.h"

/* A row for each model that there may be; further engines take the oldest rows. */
#define ENGINE_BASES_MAX CONFIG_MODELS_MAX

/* Measured on x86-64: libtorch 1.13.0 for processors takes 57 MiB, engine identity 0.4. */
#define ENGINE_BASE_TORCH_BYTES (UINT64_C(64) << 20)
#define ENGINE_BASE_BYTES       (UINT64_C(1) << 20)

struct engine_base {
	char engine[CONFIG_NAME_MAX];
	uint64_t bytes;
};

struct engine_bases {
	struct engine_base rows[ENGINE_BASES_MAX];
	size_t n_learnt; /* so far, overwritten rows included */
};

uint64_t engine_base_bytes(const struct engine_bases *bases, const char *engine);
/* Notes that a loader of @engine measured @bytes; 0: could not measure. */
void engine_base_learn(struct engine_bases *bases, const char *engine, uint64_t bytes);
