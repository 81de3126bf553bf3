/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/inputs/watch_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/inputs/watch.h"

/* Takes the watch on @path out of @set; NULL: there is none. Paths come in the same order again, so
 * that the search begins behind the last one, at *@next. */
static struct watch_path *watch_set_take(struct watch_set *set, const char *path,
                                         size_t *next)
{
	for (size_t i = 0; i < set->n; i++) {
		size_t at = (*next + i) % set->n;
		struct watch_path *taken = set->watches[at];

		if (!taken || strcmp(set->paths[at], path) != 0)
			continue;
		set->watches[at] = NULL;
		*next = at + 1;
		return taken;
	}
	return NULL;
}

/* Adds a watch on @path, which may have been one of @old. */
static int watch_set_add(struct watch_set *set, struct watch *watch, const char *path,
                         struct watch_path *old,
                         void (*on_change)(void *context, const char *path),
                         void *context)
{
	char *copy = strdup(path);
	int r = 0;

	if (!copy) {
		watch_remove(old);
		return -ENOMEM;
	}
	if (!old)
		r = watch_add(watch, path, on_change, context, &old);
	if (r < 0) {
		free(copy);
		return r;
	}
	set->paths[set->n] = copy;
	set->watches[set->n++] = old;
	return 0;
}

int watch_set_move(struct watch_set *set, struct watch *watch, char *const *paths,
                   size_t n, void (*on_change)(void *context, const char *path),
                   void *context)
{
	struct watch_set fresh = {
		.watches = calloc(n + 1, sizeof(*fresh.watches)),
		.paths = calloc(n + 1, sizeof(*fresh.paths)),
	};
	size_t next = 0;
	int r = 0;

	if (!fresh.watches || !fresh.paths) {
		free(fresh.watches);
		free(fresh.paths);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		struct watch_path *old = watch_set_take(set, paths[i], &next);
		int added =
			watch_set_add(&fresh, watch, paths[i], old, on_change, context);

		r = r < 0 ? r : added;
	}
	watch_set_fini(set);
	*set = fresh;
	return r;
}

void watch_set_fini(struct watch_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		watch_remove(set->watches[i]);
		free(set->paths[i]);
	}
	free(set->watches);
	free(set->paths);
	*set = (struct watch_set){ .n = 0 };
}
