/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Counts of values of one kind, in buckets that never change: a series that goes on
 * over years, and over versions, is worth more than one that fits. Noting a value costs
 * a walk along a small table and three additions.
 *
 *	ns     100 us to 60 s, three steps in ten: a model in memory takes a tenth of a
 *	       millisecond, and request_timeout is 60 s where nobody says otherwise.
 *	rows   1 to 1024, doubling: what batches are made of.
 *	bytes  1 MiB to 256 GiB, four times as much each: from a small model's working
 *	       memory to more than a GPU has.
 */

#include <jansson.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS_MAX 18

enum histogram_kind {
	HISTOGRAM_NS,
	HISTOGRAM_ROWS,
	HISTOGRAM_BYTES,
	HISTOGRAM_KIND_COUNT
};

struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS_MAX]; /* not cumulative here */
	uint64_t count;                         /* of all values, unbounded ones too */
	uint64_t sum;
};

/* Number of buckets without the last one, which has no bound. */
unsigned int histogram_buckets(enum histogram_kind kind);
/* Inclusive upper bound of a bucket, in the unit of @kind. */
uint64_t histogram_bound(enum histogram_kind kind, unsigned int bucket);
/* The same bound as Prometheus' label le has it, ns in seconds: in the one spelling
 * that OpenMetrics allows, since another spelling is another series. */
const char *histogram_bound_text(enum histogram_kind kind, unsigned int bucket);
/* Counts of all buckets, that without a bound at the end: a new reference. */
json_t *histogram_counts_to_json(const struct histogram *histogram,
                                 enum histogram_kind kind);
/* The bounds of the buckets of HISTOGRAM_NS in milliseconds: a new reference. */
json_t *histogram_bounds_to_json(void);
void histogram_note(struct histogram *histogram, enum histogram_kind kind,
                    uint64_t value);
