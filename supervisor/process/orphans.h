/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Processes that a loader started and that are still there when it is not. They may hold
 * all the memory that its end was to give back, so they end with it.
 *
 * A loader is the subreaper of what it starts, and moultd is the loader's (prctl(2),
 * PR_SET_CHILD_SUBREAPER): what outlives its parents stays below the loader, and comes to
 * moultd when the loader dies, whatever group, session or environment it has given itself.
 * So a child of moultd that moultd did not start is an orphan. It is named, killed with
 * everything below it, and reaped.
 *
 * moultd may have children that somebody else left to it: of the shell that executed it, or
 * as process 1 of a container. Then an orphan is only what shows that it came from a loader:
 * by its session, by its parents, or by a variable in its environment.
 *
 * There is one for each loop, which leads to it (ev_userdata()); without one nothing here
 * does anything.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#define ORPHANS_WHO_MAX 240

/* What a process of ours left behind. */
struct orphans_left {
	unsigned int n;
	unsigned int n_alive;
	uint64_t bytes;            /* anonymous memory, when they were found */
	char who[ORPHANS_WHO_MAX]; /* "sleep (pid 12, 0.2 MiB), ..." */
};

/* A process of ours. Zeroed until it is added. */
struct orphans_kin {
	LIST_ENTRY(orphans_kin) link;
	pid_t pid;          /* 0: not in the list */
	bool is_running;    /* not reaped */
	unsigned int group; /* its control group's number; 0: none */
	struct orphans_left left;
};

struct orphans;

/* -ENOMEM, or 0: @loop looks after orphans from now on. */
int orphans_new(struct orphans **ret_orphans, struct ev_loop *loop);
/* Kills what is left and waits a moment for its end. Nobody of ours is watched over then, and
 * who still lives goes on. Accepts NULL. */
void orphans_free(struct orphans *orphans);

/* Ends what an earlier moultd left, and makes control groups from now on if it may
 * (loader_groups.h). For the start, as the user that everything is started as. */
void orphans_begin(struct orphans *orphans);
/* Where these groups are; NULL: nowhere, and *@ret_why says why not. */
const char *orphans_groups(const struct orphans *orphans, const char **ret_why);

/* "NAME=VALUE", for the environment of everything that is started; NULL: none. */
const char *orphans_mark(struct ev_loop *loop);

/* Makes the control group of what is about to be started; its folder into @path. False: there is
 * none. */
bool orphans_prepare(struct ev_loop *loop, struct orphans_kin *kin, char *path,
                     size_t size);
/* It could not be started. */
void orphans_cancel(struct ev_loop *loop, struct orphans_kin *kin);
/* @pid was started by moultd itself, just now. */
void orphans_add(struct ev_loop *loop, struct orphans_kin *kin, pid_t pid);
/* It has ended and is about to be reaped: what it left is found, and killed with all that is in its
 * control group. */
void orphans_on_end(struct ev_loop *loop, struct orphans_kin *kin);
/* Nobody wants to know any more. What it left is killed all the same. */
void orphans_remove(struct orphans_kin *kin);
void orphans_move(struct orphans_kin *to, struct orphans_kin *from);

/* Everything that @kin left is gone, as far as it is known to be @kin's; and whatever may
 * be. */
bool orphans_are_gone(struct ev_loop *loop, const struct orphans_kin *kin);
/* Adds @more to @left. */
void orphans_sum(struct orphans_left *left, const struct orphans_left *more);
