/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Watches on several paths for one owner, which has another set of them from time to time. A path
 * that stays keeps its watch, and with it a change that was seen and not reported yet.
 */

#include <stddef.h>

struct watch;
struct watch_path;

struct watch_set {
	struct watch_path **watches;
	char **paths; /* of these, both owned */
	size_t n;
};

/* Makes @set watch the absolute @paths (copied), as watch_add() does. 0 or -errno, and then some of
 * them are not watched. */
int watch_set_move(struct watch_set *set, struct watch *watch, char *const *paths,
                   size_t n, void (*on_change)(void *context, const char *path),
                   void *context);
void watch_set_fini(struct watch_set *set);
