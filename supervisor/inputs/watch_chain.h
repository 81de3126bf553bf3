/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The directories that have to be watched for one path, part of watch.c.
 *
 * Directories only: a watch on a file dies with the first rename over it. A chain is
 * the walk of a path from the root. The directory that holds a symlink, the last name,
 * or the first missing name, is watched for that name; a directory in between for its
 * own move or removal; a directory at the end for any name, and its symlinks are
 * followed one by one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/inotify.h>
#include <sys/queue.h>

/* Most entries of a directory that are looked at. */
#define WATCH_ENTRIES_MAX 1024

struct watch_dir;

/* An inotify instance and its watches, shared by all chains. */
struct watch_table {
	int fd;            /* owned; -1: no inotify, every chain is empty */
	bool is_exhausted; /* the kernel gave no more watches, which has been logged */
	LIST_HEAD(watch_dirs, watch_dir) dirs;
};

struct watch_link {
	struct watch_dir *dir;
	char *name; /* NULL: none, only the directory itself; "": any */
};

struct watch_chain {
	struct watch_link *links;
	size_t n_links;
	size_t n_allocated;
	bool is_partial; /* the kernel or memory refused some: worth another try */
};

void watch_table_init(struct watch_table *table);
/* Closes the table. Every chain must be empty. */
void watch_table_fini(struct watch_table *table);
/* Opens the inotify instance. 0 or -errno; nothing is logged. */
int watch_table_open(struct watch_table *table);
/* Closes the instance. The chains are dead then and have to be resolved again. */
void watch_table_close(struct watch_table *table);
/* Notes that the kernel has dropped @wd (IN_IGNORED). */
void watch_table_forget(struct watch_table *table, int wd);
size_t watch_table_count(const struct watch_table *table);

/* Walks @path and watches what it meets, until two walks agree: every change after the
 * return is reported then. */
void watch_chain_resolve(struct watch_chain *chain, struct watch_table *table,
                         const char *path);
/* True: @event may concern the path of @chain. */
bool watch_chain_wants(const struct watch_chain *chain,
                       const struct inotify_event *event);
void watch_chain_fini(struct watch_chain *chain, struct watch_table *table);
