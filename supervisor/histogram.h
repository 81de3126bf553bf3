/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How often amounts of memory came up: cumulative, as Prometheus wants it. */

#include <stdint.h>

#define HISTOGRAM_BUCKETS 10

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS]; /* not cumulative here */
	uint64_t count;                     /* of all, those beyond the last bucket too */
	uint64_t sum_bytes;
};

/* Inclusive upper bound of a bucket: 1 MiB, then four times as much each time. */
uint64_t histogram_bound(unsigned int bucket);
/* 0 says that it is not known, and is not counted. */
void histogram_note(struct histogram *histogram, uint64_t bytes);
