/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The body of a request or of an answer in a golden file: its JSON itself. A body that is not
 * plain JSON is written as the bytes that went over the wire, with the headers that describe
 * them:
 *
 *	{"headers": {"inference-header-content-length": "71"}, "base64": "eyJpbn..."}
 */

#include <jansson.h>
#include <stddef.h>

#include "shared/err.h"

#define GOLDEN_JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)
#define GOLDEN_LENGTH     "inference-header-content-length"
#define GOLDEN_ENCODING   "content-encoding"

struct golden_body {
	unsigned char *data;
	size_t bytes;
	/* Borrowed from the file's JSON. */
	const char *length; /* header: bytes of JSON before tensors; NULL: all is JSON */
	const char *encoding; /* header content-encoding; NULL: none */
};

/* Refuses keys that are not in @known (ended by NULL): a misspelt key would silently not count.
 * Accepts a NULL @object. 0, or ENGINE_E_CONFIG with a sentence. */
int golden_check_keys(json_t *object, const char *what, const char *const *known,
                      struct err *err);

/* Reads the body from @json, which must outlive it; @what names it in a sentence. 0,
 * ENGINE_E_CONFIG or ENGINE_E_FAILED with a sentence. */
int golden_body_init(struct golden_body *ret_body, json_t *json, const char *what,
                     struct err *err);
void golden_body_fini(struct golden_body *body);

/* Undoes content-encoding; at most @max_bytes may come out. */
int golden_body_inflate(struct golden_body *body, size_t max_bytes, struct err *err);
/* Bytes of the JSON before the tensors. 0, or ENGINE_E_CONFIG when the header is no such number. */
int golden_body_json_bytes(const struct golden_body *body, size_t *ret_bytes,
                           struct err *err);
