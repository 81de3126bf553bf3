/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What this process holds of the host's memory, measured by itself: the walk over its
 * pages costs the loader, not the supervisor. And when it is to give that back first.
 */

#include <stdint.h>

struct memory_use {
	uint64_t rss_bytes;
	uint64_t anon_bytes; /* private for certain: what ends with the process */
	uint64_t pss_bytes;  /* shared pages divided by those who share them */
};

/* From /proc/self/smaps_rollup; zeros where that is not readable. */
void memory_measure(struct memory_use *ret_use);

/* Under memory pressure a spare goes first, then loaders, then the supervisor, which can
 * start all of them again. */
#define MEMORY_OFFER_LOADER "500"
#define MEMORY_OFFER_SPARE  "1000"

/* Offers the process to the kernel for the case that memory runs out. Best effort: without
 * it only the order of dying is worse. */
void memory_offer(const char *score_adj);
