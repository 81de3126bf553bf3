/* SPDX-License-Identifier: Apache-2.0 */

/* Finds rows of a table by name, or by a name that comes close. */

#include <string.h>

#include "shared/nearest.h"
#include "supervisor/config/keys.h"

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

const struct config_key *config_table_nearest(const struct config_table *table,
                                              const char *name)
{
	const struct config_key *nearest = NULL;
	size_t best = nearest_limit(name);

	for (size_t i = 0; i < table->n_keys; i++) {
		size_t distance = nearest_distance(name, table->keys[i].name);

		if (distance < best) {
			best = distance;
			nearest = &table->keys[i];
		}
	}
	return nearest;
}
