/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/histogram.h"

#define US        UINT64_C(1000)
#define MS        UINT64_C(1000000)
#define S         UINT64_C(1000000000)
#define MIB       (UINT64_C(1) << 20)
#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static const uint64_t histogram_ns[] = {
	100 * US, 250 * US,  500 * US, 1 * MS,   5 * MS / 2, 5 * MS,
	10 * MS,  25 * MS,   50 * MS,  100 * MS, 250 * MS,   500 * MS,
	1 * S,    5 * S / 2, 5 * S,    10 * S,   30 * S,     60 * S,
};
static const uint64_t histogram_rows[] = { 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024 };
static const uint64_t histogram_bytes[] = {
	MIB,       MIB << 2,  MIB << 4,  MIB << 6,  MIB << 8,
	MIB << 10, MIB << 12, MIB << 14, MIB << 16, MIB << 18,
};

static const struct {
	const uint64_t *bounds;
	unsigned int n;
} histogram_kinds[] = {
	[HISTOGRAM_NS] = { histogram_ns, LENGTH(histogram_ns) },
	[HISTOGRAM_ROWS] = { histogram_rows, LENGTH(histogram_rows) },
	[HISTOGRAM_BYTES] = { histogram_bytes, LENGTH(histogram_bytes) },
};

_Static_assert(LENGTH(histogram_kinds) == HISTOGRAM_KIND_COUNT, "one table per kind");
_Static_assert(LENGTH(histogram_ns) <= HISTOGRAM_BUCKETS_MAX &&
                       LENGTH(histogram_rows) <= HISTOGRAM_BUCKETS_MAX &&
                       LENGTH(histogram_bytes) <= HISTOGRAM_BUCKETS_MAX,
               "a place for each bucket");

unsigned int histogram_buckets(enum histogram_kind kind)
{
	return histogram_kinds[kind].n;
}

uint64_t histogram_bound(enum histogram_kind kind, unsigned int bucket)
{
	return histogram_kinds[kind].bounds[bucket];
}

void histogram_note(struct histogram *histogram, enum histogram_kind kind, uint64_t value)
{
	const uint64_t *bounds = histogram_kinds[kind].bounds;
	unsigned int n = histogram_kinds[kind].n;
	unsigned int bucket = 0;

	while (bucket < n && value > bounds[bucket])
		bucket++;
	if (bucket < n)
		histogram->counts[bucket]++;
	histogram->count++;
	histogram->sum += value;
}
