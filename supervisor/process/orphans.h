/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Processes that a loader started and that are still there when it is not. They may
 * hold all the memory that its end was to give back, so they end with it.
 *
 * A loader is the subreaper of its descendants, and moultd is the loader's (prctl(2),
 * PR_SET_CHILD_SUBREAPER): a process that outlives its parents stays below the loader,
 * and comes to moultd when the loader dies, whatever group, session or environment it
 * has given itself. So a child of moultd that moultd did not start is an orphan. It is
 * named, killed with everything below it, and reaped.
 *
 * moultd may have children that others left to it: of the shell that executed it, or as
 * process 1 of a container. Then an orphan is only a process that shows that it came
 * from a loader: by its session, by its parents, or by a variable in its environment.
 *
 * Each loop has one struct orphans (ev_userdata()); without one nothing here does
 * anything.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "supervisor/config/config.h"

#define ORPHANS_WHO_MAX 240

/* Processes that one child of moultd left behind. */
struct orphans_left {
	unsigned int n;
	unsigned int n_alive;
	uint64_t bytes;            /* anonymous memory, when found */
	char who[ORPHANS_WHO_MAX]; /* "sleep (pid 12, 0.2 MiB), ..." */
};

/* A child that moultd started. Zeroed until it is added. */
struct orphans_kin {
	LIST_ENTRY(orphans_kin) link;
	pid_t pid;          /* 0: not in the list */
	bool is_running;    /* not reaped */
	bool leaves_none;   /* runs moultd's own code alone */
	unsigned int group; /* its control group's number; 0: none */
	bool is_oom_victim; /* the kernel has killed in that group, for want of memory */
	struct orphans_left left;
};

struct config;
struct orphans;

/* Looks after the orphans of @loop from now on. 0 or -ENOMEM. */
int orphans_new(struct orphans **ret_orphans, struct ev_loop *loop);
/* Kills all orphans and waits two seconds at most for their end. Children of moultd are
 * not watched any more; those that live go on. Accepts NULL. */
void orphans_free(struct orphans *orphans);

/* Ends the processes that an earlier moultd left, and makes control groups from now on
 * if it may (loader_groups.h). For the start, when moultd already is the user that it
 * will be. */
void orphans_begin(struct orphans *orphans, const struct config *config);
/* Folder of these groups; NULL: there are none, and *@ret_why says why. */
const char *orphans_groups(const struct orphans *orphans, const char **ret_why);

/* "NAME=VALUE" for the environment of every child; NULL: none. Borrowed. */
const char *orphans_mark(struct ev_loop *loop);

/* Makes the control group for a child about to be started; its folder into @path.
 * False: there is none. */
bool orphans_prepare(struct ev_loop *loop, struct orphans_kin *kin, char *path,
                     size_t size);
/* The child could not be started: takes its control group away. */
void orphans_cancel(struct ev_loop *loop, struct orphans_kin *kin);
/* Which limits control groups of children can keep, of enum config_limit. */
unsigned int orphans_limits(struct ev_loop *loop);
/* Limits the child of @kin, and all that it starts, as @section says, where they can. */
void orphans_limit(struct ev_loop *loop, const struct orphans_kin *kin,
                   const struct config_model *section);
/* Registers @pid, which moultd itself has just started. */
void orphans_add(struct ev_loop *loop, struct orphans_kin *kin, pid_t pid);
/* The same for one that runs moultd's own code alone, and so leaves none behind. */
void orphans_add_own(struct ev_loop *loop, struct orphans_kin *kin, pid_t pid);
/* The child has ended and is about to be reaped: finds the processes that it left, and
 * kills them with all that is in its control group. */
void orphans_on_end(struct ev_loop *loop, struct orphans_kin *kin);
/* Forgets @kin; the processes that it left are killed all the same. */
void orphans_remove(struct orphans_kin *kin);
void orphans_move(struct orphans_kin *to, struct orphans_kin *from);

/* True: all orphans known to be of @kin are gone, and all that may be. */
bool orphans_are_gone(struct ev_loop *loop, const struct orphans_kin *kin);
/* Adds @more to @left, names included. */
void orphans_sum(struct orphans_left *left, const struct orphans_left *more);
