/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Children of the loader's first thread. Some of them the model has started itself, and may wait
 * for. Others are orphans from farther down, which the loader inherits as the nearest
 * subreaper: nobody else waits for those, and dead ones would fill the table of processes.
 *
 * The kernel does not tell one kind from the other. So CHILDREN_KEPT children are left to the
 * model; of more the oldest dead ones are reaped, between two calls of the engine only.
 */

#include <stdint.h>

#define CHILDREN_KEPT 64

/* The time between two looks. */
#define CHILDREN_LOOK_NS (UINT64_C(5) * 1000 * 1000 * 1000)

/* Reaps dead children beyond CHILDREN_KEPT. Only from the first thread; never blocks. */
void children_reap(void);
