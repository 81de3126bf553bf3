/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Lists of numbers cut out of the JSON of an infer request.
 *
 * `inputs[i].data` is nearly all of a large request. A list of nothing but numbers, true and
 * false is cut out there and stays text, for oip/scan.h; the JSON library parses the rest, with
 * null in the list's place. Only oip_scan() tells whether the list is valid JSON.
 */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"

/* The `data` of element @input of `inputs`, with its brackets; borrowed. */
struct oip_cut {
	size_t input;
	const char *text;
	size_t bytes;
};

struct oip_cuts {
	struct oip_cut cuts[ENGINE_TENSORS_MAX];
	size_t n_cuts;
};

/* Finds the lists in @text. */
void oip_cut(struct oip_cuts *cuts, const char *text, size_t bytes);

/* Returns the cut of element @input of `inputs`, or NULL. */
const struct oip_cut *oip_cut_of(const struct oip_cuts *cuts, size_t input);

/* Parses the rest of @text. A new reference; NULL when the rest is no JSON or memory ran out. */
json_t *oip_cut_parse(const struct oip_cuts *cuts, const char *text, size_t bytes);

/* Returns the bytes of the rest: @bytes without the cuts. */
size_t oip_cut_rest(const struct oip_cuts *cuts, size_t bytes);
