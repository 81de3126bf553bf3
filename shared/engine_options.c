/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/engine_options.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shared/nearest.h"

/* A literal of the mark in this file would get into every engine's file, and be found there. */
static const size_t engine_options_mark_bytes = sizeof(ENGINE_OPTIONS_MARK) - 1;

#define ENGINE_OPTIONS_NAME_MAX 64

/* Takes the next name off *@list. False: there is none. */
static bool engine_options_next(const char **list, char name[ENGINE_OPTIONS_NAME_MAX])
{
	size_t bytes;

	*list += strspn(*list, " ");
	bytes = strcspn(*list, ",");
	if (bytes == 0)
		return false;
	(void)snprintf(name, ENGINE_OPTIONS_NAME_MAX, "%.*s", (int)bytes, *list);
	*list += bytes + ((*list)[bytes] == ',');
	return true;
}

struct engine_options_search {
	const char *name;
	bool is_found;
	size_t best;
	char nearest[ENGINE_OPTIONS_NAME_MAX]; /* "": nothing is near */
};

static void engine_options_look(struct engine_options_search *search, const char *list)
{
	char name[ENGINE_OPTIONS_NAME_MAX];
	size_t distance;

	while (engine_options_next(&list, name)) {
		search->is_found = search->is_found || strcmp(name, search->name) == 0;
		distance = nearest_distance(search->name, name);
		if (distance >= search->best)
			continue;
		search->best = distance;
		memcpy(search->nearest, name, sizeof(name));
	}
}

int engine_options_check(const char *engine, const char *options, const char *name,
                         struct err *err)
{
	const char *list = options + engine_options_mark_bytes;
	struct engine_options_search search = { .name = name,
		                                .best = nearest_limit(name) };
	char guess[ENGINE_OPTIONS_NAME_MAX + 32] = "";

	engine_options_look(&search, list);
	engine_options_look(&search, ENGINE_OPTIONS_OF_ALL);
	if (search.is_found)
		return 0;
	if (*search.nearest)
		(void)snprintf(guess, sizeof(guess), ": did you mean %s?",
		               search.nearest);
	return err_set(err, ENGINE_OPTIONS_E_UNKNOWN,
	               "engine %s has no option '%.64s'%s %s has %.280s%s%s", engine,
	               name, *guess ? guess : ";", *guess ? "It" : "it", list,
	               *list ? ", " : "", ENGINE_OPTIONS_OF_ALL);
}

const char *engine_options_find(const void *file, size_t bytes)
{
	char mark[sizeof(ENGINE_OPTIONS_MARK)];
	const char *found;
	size_t left;

	/* The mark is built here, so that no literal of it is in an engine's file. */
	(void)snprintf(mark, sizeof(mark), "%s%s", "moult-engine-", "options:");
	found = memmem(file, bytes, mark, engine_options_mark_bytes);
	if (!found)
		return NULL;
	left = bytes - (size_t)(found - (const char *)file);
	if (left > ENGINE_OPTIONS_BYTES_MAX)
		left = ENGINE_OPTIONS_BYTES_MAX;
	return memchr(found, '\0', left) &&
	                       found[strspn(found, "abcdefghijklmnopqrstuvwxyz"
	                                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                                           "0123456789_.,:- ")] == '\0'
	               ? found
	               : NULL;
}
