/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Values of keys: text into a member, a member into text, comparison and release, by the
 * type that the key's row names. Printing a value and setting it again gives an equal
 * one.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "supervisor/config/keys.h"

/* A line "name = text" of a file. */
struct config_setting {
	const char *name; /* as written, prefix of options included */
	const char *text;
	const char *dir; /* absolute folder that relative paths start from */
};

/* Sets the member of @object that @key describes; the old value is released. 0, -ENOMEM,
 * or -EINVAL with a sentence that says what is allowed and does not name the key. */
int config_value_set(const struct config_key *key, void *object,
                     const struct config_setting *setting, struct err *err);
/* Releases what the member owns and leaves it empty. */
void config_value_fini(const struct config_key *key, void *object);

/* Makes the member of @to equal to that of @from; for texts and numbers only. 0 or
 * -ENOMEM. */
int config_value_copy(const struct config_key *key, void *to, const void *from);

bool config_value_equal(const struct config_key *key, const void *a, const void *b);

/* Value as JSON, a new reference: null (not set), a boolean, a number, text in the
 * file's own form, or an array of such texts for a key that may be repeated. Not for
 * CONFIG_TYPE_OPTION. NULL: out of memory. */
json_t *config_value_to_json(const struct config_key *key, const void *object);

/* Prints the allowed values for people, as "1 to 65536 connections". Returns @text. */
const char *config_value_allowed(const struct config_key *key, char *text, size_t size);
