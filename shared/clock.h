/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CLOCK_MONOTONIC in nanoseconds: the one clock for deadlines and durations, shared by
 * supervisor and loaders (the kernel's clock is the same in every process).
 */

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_MS  UINT64_C(1000000)
#define CLOCK_NS_PER_SEC UINT64_C(1000000000)
/* A deadline that never comes. */
#define CLOCK_NEVER UINT64_MAX

static inline uint64_t clock_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * CLOCK_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

/* Processor time of this thread: on a busy machine others' time counts for nothing. */
static inline uint64_t clock_spent_ns(void)
{
	struct timespec spent = { 0 };

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
	return (uint64_t)spent.tv_sec * CLOCK_NS_PER_SEC + (uint64_t)spent.tv_nsec;
}

/* Milliseconds since the Unix epoch, for records that people read. */
static inline uint64_t clock_unix_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / CLOCK_NS_PER_MS;
}

/* Rounds to the microsecond: a figure for people, or to be kept, says no more than is known. */
static inline double clock_ns_to_ms(uint64_t ns)
{
	return (double)((ns + 500) / 1000) / 1e3;
}
