/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Rows behind moult.conf: a row has everything that is true of one key, and reading,
 * checking, comparing, printing and documenting all walk the rows. A new key is a
 * member of struct config or struct config_model, and a row.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

/* Rows per table, at most. */
#define CONFIG_KEYS_MAX 96

enum config_type {
	CONFIG_TYPE_STRING,   /* char *; .check says what is allowed */
	CONFIG_TYPE_PATH,     /* char *; absolute once set */
	CONFIG_TYPE_UINT,     /* uint32_t or uint64_t */
	CONFIG_TYPE_SIZE,     /* the same, in bytes */
	CONFIG_TYPE_DURATION, /* uint64_t, in nanoseconds */
	CONFIG_TYPE_BOOL,
	CONFIG_TYPE_ENUM,   /* an enum; .words lists its values */
	CONFIG_TYPE_NAMES,  /* char *[], separated by commas in the file */
	CONFIG_TYPE_TENSOR, /* struct tensor_spec[]; the key may be repeated */
	CONFIG_TYPE_OPTION, /* struct config_option[]; .name is a prefix */
};

struct config_word {
	const char *text; /* NULL ends the list */
	int value;
};

struct config_key {
	const char *name;
	enum config_type type;
	enum config_class class;
	size_t offset;        /* of the member in struct config or struct config_model */
	size_t bytes;         /* of the member */
	size_t count_offset;  /* of its size_t count, for the array types */
	uint64_t min;         /* UINT, SIZE, DURATION: smallest and largest value */
	uint64_t max;         /* array types: how many fit */
	const char *fallback; /* the default as it would stand in the file, or NULL */
	const char *fallback_help; /* what holds without a default text: mdoc */
	bool is_required;          /* no model without it */
	const char *unit;          /* UINT: what is counted */
	const char *value;         /* STRING: form of the value, for people */
	/* STRING, PATH: 0, or -EINVAL with a sentence; NULL: anything goes. */
	int (*check)(const char *text, struct err *err);
	const struct config_word *words;
	const char *help; /* sentences, one a line: mdoc */
};

struct config_table {
	const struct config_key *keys;
	size_t n_keys;
};

/* Keys of struct config, struct config_device and struct config_model. */
extern const struct config_table config_supervisor_table;
extern const struct config_table config_device_table;
extern const struct config_table config_model_table;

/* Finds the row of @name; NULL: there is none. A row of CONFIG_TYPE_OPTION takes every
 * longer name. */
const struct config_key *config_table_find(const struct config_table *table,
                                           const char *name);

/* Finds the key whose name looks most like @name, or NULL when none looks like it. */
const struct config_key *config_table_nearest(const struct config_table *table,
                                              const char *name);

static inline bool config_key_may_repeat(const struct config_key *key)
{
	return key->type == CONFIG_TYPE_TENSOR || key->type == CONFIG_TYPE_OPTION;
}
