/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The JSON of a request: parsed under a bound, and read as lenient as the protocol is. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

#define OIP_JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

/* True when JSON of so many bytes takes little memory, whatever is in it. */
bool oip_json_is_small(size_t bytes, size_t max_body_bytes);

/* Parses @text into *ret_json, which the caller owns. 0; with a sentence 400 (no JSON; says
 * where), or 413 (the tree would take far more memory than @max_body_bytes). */
int oip_json_parse(const unsigned char *text, size_t bytes, size_t max_body_bytes,
                   json_t **ret_json, struct err *err);

/* Returns a member of an object, borrowed; NULL when it is absent or null. Both mean the same:
 * clients that dump whole records send null for a member that was not set. */
const json_t *oip_json_get(const json_t *object, const char *key);

/* Returns a string's text, borrowed; NULL for other values, and for a text with a NUL inside. */
const char *oip_json_text(const json_t *json);
