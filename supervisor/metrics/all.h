/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The parts of /metrics, a file for each noun. Each function writes whole families;
 * @models ends with NULL.
 */

#include "supervisor/model/model.h"
#include "supervisor/metrics/metrics.h"

/* Kept from one page to the next, by the caller; all 0 at first. */
struct metrics_state {
	size_t next_look;    /* the model whose loaders are looked at first */
	uint64_t started_ns; /* moultd, since the epoch; 0: not asked for yet */
};

/* model.c */
void metrics_add_models(struct metrics *metrics, const struct model *const *models,
                        struct metrics_state *state);
/* reload.c */
void metrics_add_reloads(struct metrics *metrics, const struct model *const *models);
/* process.c: of moultd itself. */
void metrics_add_build(struct metrics *metrics);
void metrics_add_process(struct metrics *metrics, struct metrics_state *state);
