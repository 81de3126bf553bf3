/* SPDX-License-Identifier: Apache-2.0 */

/* Finds rows of a table by name, or by what a name may have been meant to be. */

#include <string.h>

#include "supervisor/config_keys.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const struct config_key *config_table_find(const struct config_table *table,
                                           const char *name)
{
	for (size_t i = 0; i < table->n_keys; i++) {
		const struct config_key *key = &table->keys[i];
		size_t bytes = strlen(key->name);

		if (strcmp(key->name, name) == 0 && key->type != CONFIG_TYPE_OPTION)
			return key;
		if (key->type == CONFIG_TYPE_OPTION &&
		    strncmp(key->name, name, bytes) == 0)
			return key;
	}
	return NULL;
}

/* Letters to insert, delete or replace to make one of the other. Names are shorter than
 * the row, or as different as can be. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[40];
	size_t n_b = strlen(b);

	if (n_b >= COUNT_OF(row))
		return SIZE_MAX;
	for (size_t j = 0; j <= n_b; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n_b; j++) {
			size_t above = row[j + 1];
			size_t best = diagonal + (a[i] == b[j] ? 0 : 1);

			if (above + 1 < best)
				best = above + 1;
			if (row[j] + 1 < best)
				best = row[j] + 1;
			row[j + 1] = best;
			diagonal = above;
		}
	}
	return row[n_b];
}

const struct config_key *config_table_nearest(const struct config_table *table,
                                              const char *name)
{
	const struct config_key *nearest = NULL;
	/* Half of the letters right, or it is not what was meant. */
	size_t best = strlen(name) / 2 + 1;

	for (size_t i = 0; i < table->n_keys; i++) {
		size_t distance = edit_distance(name, table->keys[i].name);

		if (distance < best) {
			best = distance;
			nearest = &table->keys[i];
		}
	}
	return nearest;
}
