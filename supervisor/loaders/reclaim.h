/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * RECLAIMING: the loader is reaped, and is gone only when its device says so, too. A dead
 * process is not yet free memory: the driver may finish with it after the kernel has, and
 * processes that it started may still be there. Each step is waited for and timed:
 * reaped, orphans gone, left the driver's list, bytes back at the baseline that was taken
 * when the loader came.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/process/orphans.h"

enum reclaim_verdict {
	RECLAIM_NONE,     /* no device to ask, and no orphan was left */
	RECLAIM_FREED,    /* proven to be back */
	RECLAIM_RESIDUAL, /* not back at the deadline */
	RECLAIM_UNKNOWN,  /* the driver could not be asked */
};

struct generation;

struct generation_reclaim {
	ev_timer poll;
	enum reclaim_verdict verdict;
	uint64_t reaped_ns;   /* 0: not yet; the same below */
	uint64_t unlisted_ns; /* off the driver's list */
	uint64_t freed_ns;    /* the bytes were back */
	uint64_t residual_bytes;
	unsigned int xid; /* critical error of the card before its death; 0: none */
	struct orphans_left orphans; /* processes that it left behind, killed */
	struct err residue;          /* who holds what; "" when all is well */
};

const char *reclaim_verdict_name(enum reclaim_verdict verdict);

/* @on_poll is called when generation_reclaim_look() is due, with a timer whose data is
 * @generation. */
void generation_reclaim_init(struct generation *generation,
                             void (*on_poll)(struct ev_loop *, ev_timer *, int));
/* The process is reaped: looks for the first time. */
bool generation_reclaim_begin(struct generation *generation);
/* True: all is back, or will not come back. False: on_poll() follows. */
bool generation_reclaim_look(struct generation *generation);
void generation_reclaim_fini(struct generation *generation);

/* Removes folders that ended loaders of @model have left, @most of each place: those of moultd's
 * user, and all of the model's own. */
void reclaim_sweep(const struct config *config, const char *model, size_t most);
