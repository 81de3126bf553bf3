/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The processes below this one, as proc(5) has them now. */

#include <stddef.h>
#include <sys/types.h>

/* A tree with more processes is seen in part. */
#define DESCENDANTS_MAX 4096

/* Lists the descendants of this process, parents before their children, dead ones included.
 * Returns how many, at most @max. 0 also where the kernel has no CONFIG_PROC_CHILDREN. */
size_t descendants_list(pid_t *ret_pids, size_t max);
