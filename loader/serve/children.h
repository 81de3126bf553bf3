/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Children of the loader's first thread: what the model started there, and what it started
 * farther down and left without a parent, which the loader inherits as the nearest subreaper.
 * Nobody else waits for the latter, and their remains would fill the table of processes.
 *
 * The kernel does not tell one from the other. So the model keeps CHILDREN_KEPT of them to wait
 * for in its own time, and of more the oldest dead ones are reaped, between two calls of the
 * engine only.
 */

#include <stdint.h>

#define CHILDREN_KEPT 64

/* How long until the next look. */
#define CHILDREN_LOOK_NS (UINT64_C(5) * 1000 * 1000 * 1000)

void children_reap(void);
