/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A control group (cgroups(7), version 2) for each loader, where moultd may make any:
 * below its own group, moultd.PID-TICKS-NAMESPACE/NUMBER. All processes in it are
 * killed at once when the loader has ended, whatever session or environment they have
 * and however fast they fork; and by the next moultd if this one could not.
 *
 * The loader enters its group by itself, because entering waits for all processors of
 * the machine (5 to 20 ms). Without limits no controller is enabled, and moultd stays where
 * it is. With some, a group that has processes gives no controllers to those below it, so
 * moultd steps aside into moultd-PID-TICKS-NAMESPACE beside them. A living moultd holds a lock on its group (flock(2)), which counts in every
 * namespace: others leave the group alone.
 */

#include <ev.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"

/* Room for NUMBER and the name of a file in the group. */
#define LOADER_GROUPS_PATH_MAX (PATH_MAX - 64)

struct loader_groups;

/* Folder of group @own, read from a @line of /proc/PID/mountinfo, into @path. False:
 * the line is no mount of version 2 that shows the group, or the path does not fit. */
bool loader_groups_locate(const char *line, const char *own, char *path, size_t size);

/* Makes the group of this moultd. First kills, logs, and waits for, two seconds at
 * most, the processes that an earlier moultd left beside it. @has_limits: groups are to
 * keep limits, where the kernel and who delegated the group allow it. 0, or -errno with a
 * sentence: no groups can be had. */
int loader_groups_new(struct loader_groups **ret_groups, struct ev_loop *loop,
                      bool has_limits, struct err *err);
/* Kills all processes in the groups, waits two seconds at most for their end, and
 * removes the groups. Accepts NULL. */
void loader_groups_free(struct loader_groups *groups);

/* Folder that holds all groups. */
const char *loader_groups_path(const struct loader_groups *groups);
/* Makes a group; its folder into @path. Returns its number, or 0: none could be made,
 * which is logged once. */
unsigned int loader_groups_add(struct loader_groups *groups, char *path, size_t size);
/* Which limits the groups can keep, of enum config_limit. */
unsigned int loader_groups_limits(const struct loader_groups *groups);
/* Limits a group to so many processes and bytes; 0: to any number. Failures are logged. */
void loader_groups_limit(const struct loader_groups *groups, unsigned int number,
                         uint64_t max_processes, uint64_t max_bytes);
/* Whether the kernel has killed a process in a group, out of memory. */
bool loader_groups_had_oom(const struct loader_groups *groups, unsigned int number);
/* Kills all processes in a group, which is removed as soon as it is empty. */
void loader_groups_end(struct loader_groups *groups, unsigned int number);
