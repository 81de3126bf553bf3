/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The host memory that this process holds, with all processes below it, and its place in the
 * order in which the kernel kills. The process measures itself, so that the walk over its pages
 * costs the loader and not the supervisor.
 */

#include <stdint.h>

struct memory_use {
	uint64_t rss_bytes;
	uint64_t anon_bytes; /* private for certain: ends with the processes */
	uint64_t pss_bytes;  /* shared pages divided by those who share them */
};

/* From smaps_rollup of proc(5); zeros where that is not readable. */
void memory_measure(struct memory_use *ret_use);

/* Values of /proc/self/oom_score_adj: when memory runs out a spare goes first, then loaders,
 * then the supervisor, which can start all of them again. */
#define MEMORY_OFFER_LOADER "500"
#define MEMORY_OFFER_SPARE  "1000"

/* Sets the process' place in that order. Best effort: a failure only makes the order worse. */
void memory_offer(const char *score_adj);
