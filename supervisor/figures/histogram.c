/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/figures/histogram.h"

#define US        UINT64_C(1000)
#define MS        UINT64_C(1000000)
#define S         UINT64_C(1000000000)
#define MIB       (UINT64_C(1) << 20)
#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

struct histogram_bound {
	uint64_t value;
	const char *text;
};

static const struct histogram_bound histogram_ns[] = {
	{ 100 * US, "0.0001" }, { 250 * US, "0.00025" }, { 500 * US, "0.0005" },
	{ 1 * MS, "0.001" },    { 2500 * US, "0.0025" }, { 5 * MS, "0.005" },
	{ 10 * MS, "0.01" },    { 25 * MS, "0.025" },    { 50 * MS, "0.05" },
	{ 100 * MS, "0.1" },    { 250 * MS, "0.25" },    { 500 * MS, "0.5" },
	{ 1 * S, "1.0" },       { 2500 * MS, "2.5" },    { 5 * S, "5.0" },
	{ 10 * S, "10.0" },     { 30 * S, "30.0" },      { 60 * S, "60.0" },
};

static const struct histogram_bound histogram_rows[] = {
	{ 1, "1.0" },     { 2, "2.0" },     { 4, "4.0" },       { 8, "8.0" },
	{ 16, "16.0" },   { 32, "32.0" },   { 64, "64.0" },     { 128, "128.0" },
	{ 256, "256.0" }, { 512, "512.0" }, { 1024, "1024.0" },
};

static const struct histogram_bound histogram_bytes[] = {
	{ MIB, "1.048576e+06" },           { MIB << 2, "4.194304e+06" },
	{ MIB << 4, "1.6777216e+07" },     { MIB << 6, "6.7108864e+07" },
	{ MIB << 8, "2.68435456e+08" },    { MIB << 10, "1.073741824e+09" },
	{ MIB << 12, "4.294967296e+09" },  { MIB << 14, "1.7179869184e+10" },
	{ MIB << 16, "6.8719476736e+10" }, { MIB << 18, "2.74877906944e+11" },
};

static const struct {
	const struct histogram_bound *bounds;
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
	return histogram_kinds[kind].bounds[bucket].value;
}

const char *histogram_bound_text(enum histogram_kind kind, unsigned int bucket)
{
	return histogram_kinds[kind].bounds[bucket].text;
}

json_t *histogram_counts_to_json(const struct histogram *histogram,
                                 enum histogram_kind kind)
{
	uint64_t beyond = histogram->count;
	json_t *array = json_array();

	for (unsigned int i = 0; i < histogram_buckets(kind); i++) {
		beyond -= histogram->counts[i];
		(void)json_array_append_new(array, json_integer((json_int_t)histogram
		                                                        ->counts[i]));
	}
	(void)json_array_append_new(array, json_integer((json_int_t)beyond));
	return array;
}

json_t *histogram_bounds_to_json(void)
{
	json_t *array = json_array();

	for (unsigned int i = 0; i < histogram_buckets(HISTOGRAM_NS); i++)
		(void)json_array_append_new(
			array, json_real((double)histogram_bound(HISTOGRAM_NS, i) / 1e6));
	return array;
}

void histogram_note(struct histogram *histogram, enum histogram_kind kind, uint64_t value)
{
	const struct histogram_bound *bounds = histogram_kinds[kind].bounds;
	unsigned int n = histogram_kinds[kind].n;
	unsigned int bucket = 0;

	while (bucket < n && value > bounds[bucket].value)
		bucket++;
	if (bucket < n)
		histogram->counts[bucket]++;
	histogram->count++;
	histogram->sum += value;
}
