/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The JSON of a request: parsed under a bound, and read as lenient as the protocol is. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

#define OIP_JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

/* JSON of that many bytes takes little memory whatever is in it. */
bool oip_json_is_small(size_t bytes, size_t max_body_bytes);

/* Parses @text into *ret_json, which the caller owns. 0; 400 with what is wrong and where;
 * 413 when it would take far more memory than @max_body_bytes. */
int oip_json_parse(const unsigned char *text, size_t bytes, size_t max_body_bytes,
                   json_t **ret_json, struct err *err);

/* A member of an object; NULL when it is absent or null, which mean the same: clients that
 * dump whole records send null for what was not set. */
const json_t *oip_json_get(const json_t *object, const char *key);

/* A text that C can hold: NULL for what is no string and for one with a NUL inside. */
const char *oip_json_text(const json_t *json);
