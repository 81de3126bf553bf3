/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Tells that something under a path may have changed.
 *
 * inotify gives speed; the owner's content check gives truth. A watch is on one path (a
 * file or a directory that may be missing, a symlink farm, a Kubernetes volume): every
 * directory of its resolved chain is watched, or the nearest ancestor that exists.
 * Events are debounced: on_change comes settle after the last event, at the latest
 * settle_cap after the first. An overflow or a file system that goes away rebuilds
 * everything and reports every path. A slow poll calls on_change, too, when stat
 * differs, or when the last change is so young that another may hide behind the same
 * time stamp, so inotify may fail silently without harm.
 *
 * Spurious reports are allowed and must cost the owner nothing.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct watch;
struct watch_path;

struct watch_config {
	uint64_t settle_ns;
	uint64_t settle_cap_ns;
	uint64_t poll_ns;
};

/* Starts watching, with no path yet. 0 or -errno. Without inotify (EMFILE, ENOSYS) it
 * polls only, logs so once, and tries again with each poll. */
int watch_new(struct watch **ret_watch, struct ev_loop *loop,
              const struct watch_config *config);
void watch_free(struct watch *watch);

/* Sets new timings, from the next event on. */
void watch_set_config(struct watch *watch, const struct watch_config *config);

/* Watches the absolute @path (copied). Arms first, so that a read after this call
 * misses nothing. An earlier read may: so on_change comes once without any change,
 * settle after the call. An owner that removes and adds the same path in its on_change
 * never rests: watch_move() is for that. on_change runs from the loop, never from
 * inside a call of this module; it may add and remove watches. 0 or -errno. */
int watch_add(struct watch *watch, const char *path,
              void (*on_change)(void *context, const char *path), void *context,
              struct watch_path **ret_path);
void watch_remove(struct watch_path *path);
/* Makes *@slot watch @path (NULL: nothing). A watch on that path already stays, and
 * with it a change that it has seen and not reported yet. 0 or -errno. */
int watch_move(struct watch *watch, const char *path,
               void (*on_change)(void *context, const char *path), void *context,
               struct watch_path **slot);

/* True: every change that was seen has been reported. False for NULL, which sees
 * nothing. */
bool watch_is_settled(const struct watch_path *path);

/* Number of watched directories, for status and tests. */
size_t watch_count(const struct watch *watch);
