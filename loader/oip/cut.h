/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Lists of numbers cut out of the JSON of an infer request.
 *
 * `inputs[i].data` is nearly all of a large request. What stands there as a list of nothing
 * but numbers, true and false is left in its text, for scan.h; the JSON library parses
 * the rest, with null in its place. A list that was cut out is no valid JSON before
 * oip_scan() has said so.
 */

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "loader/engine.h"

/* @text with its brackets: `data` of element @input of `inputs`. */
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

/* That of element @input of `inputs`, or NULL. */
const struct oip_cut *oip_cut_of(const struct oip_cuts *cuts, size_t input);

/* What is left of @text, parsed: a new reference, or NULL. */
json_t *oip_cut_parse(const struct oip_cuts *cuts, const char *text, size_t bytes);

/* The bytes of @text that are left. */
size_t oip_cut_rest(const struct oip_cuts *cuts, size_t bytes);
