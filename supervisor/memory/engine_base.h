/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an engine takes of main memory by itself, in bytes of RssAnon, before it has seen a
 * model: its libraries' relocations above all. A model that was never measured is reckoned
 * with that and its file.
 *
 * Each loader says what its engine takes (engine_anon_bytes of STAGED), and the last word
 * counts: an engine may be replaced. Until the first one has spoken a figure stands in.
 */

#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/config.h"

/* As many as there may be models; more engines than that take the oldest ones' places. */
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
	size_t n_learnt; /* so far, also those whose places were taken */
};

uint64_t engine_base_bytes(const struct engine_bases *bases, const char *engine);
/* A loader of @engine has measured @bytes; 0: it could not. */
void engine_base_learn(struct engine_bases *bases, const char *engine, uint64_t bytes);
