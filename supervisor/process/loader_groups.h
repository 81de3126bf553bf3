/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A control group (cgroups(7), version 2) for each loader, where moultd may make any: below its
 * own, moultd.PID-TICKS-NAMESPACE/NUMBER. All that is in it is killed at once when the loader has
 * ended, whatever session or environment it has given itself and however fast it forks; and by
 * the next moultd if this one could not.
 *
 * The loader enters its group by itself, because that waits for all processors of the machine
 * (5 to 20 ms). No controller is enabled, so that moultd may stay where it is. The group of a
 * moultd that lives is locked (flock(2)), which holds in every namespace: others leave it alone.
 */

#include <ev.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

/* Room for NUMBER and the name of a file in the group. */
#define LOADER_GROUPS_PATH_MAX (PATH_MAX - 64)

struct loader_groups;

/* Of a process that is in group @own, where @line of /proc/PID/mountinfo is version 2 and shows
 * that group: its folder. */
bool loader_groups_locate(const char *line, const char *own, char *path, size_t size);

/* What an earlier moultd left in its group beside ours is killed, logged, and waited for, two
 * seconds at the most. 0, or -errno with a sentence: there are to be no groups. */
int loader_groups_new(struct loader_groups **ret_groups, struct ev_loop *loop,
                      struct err *err);
/* Kills what is left in them, waits for its end likewise, and removes them. Accepts NULL. */
void loader_groups_free(struct loader_groups *groups);

/* Of them all. */
const char *loader_groups_path(const struct loader_groups *groups);
/* A new one; its folder into @path. Its number, or 0: it could not be made, which is logged. */
unsigned int loader_groups_add(struct loader_groups *groups, char *path, size_t size);
/* Kills what is in it. It is removed as soon as it is empty. */
void loader_groups_end(struct loader_groups *groups, unsigned int number);
