/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How far the loading of a generation has come, for somebody who looks on: its phase, its time and
 * the bytes of its model file. Nothing is decided by it. The bytes are the loader's own word,
 * clamped to the size of the file as moultd has opened it.
 */

#include <jansson.h>
#include <stdint.h>

#include "supervisor/loaders/table.h"

struct generation;

/* The word for what a loader in @state does with a file of which @passed of @total bytes are gone
 * through: "spawn", "read", "stage", "wait" (for the old one), "place", "commit", "warm-up",
 * "swap" or "ending". @total 0: there is no file. */
const char *load_phase(enum generation_state state, uint64_t passed, uint64_t total);

/* {"generation","phase","elapsed_ms","read_bytes","total_bytes","percent"}: a new reference.
 * What is about bytes is null where there is no file, or its engine reads it by itself. */
json_t *load_to_json(const struct generation *candidate);
/* The same of generation @number, which serves and is in its watch window since @elapsed_ms, out of
 * @window_ms. */
json_t *load_trial_to_json(uint64_t number, double elapsed_ms, double window_ms);
