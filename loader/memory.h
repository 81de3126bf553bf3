/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What this process holds of the host's memory, measured by itself: the walk over its
 * pages costs the loader, not the supervisor.
 */

#include <stdint.h>

struct memory_use {
	uint64_t rss_bytes;
	uint64_t anon_bytes; /* private for certain: what ends with the process */
	uint64_t pss_bytes;  /* shared pages divided by those who share them */
};

/* From /proc/self/smaps_rollup; zeros where that is not readable. */
void memory_measure(struct memory_use *ret_use);
