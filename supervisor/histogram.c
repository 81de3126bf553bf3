/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/histogram.h"

#define HISTOGRAM_FIRST_BYTES (UINT64_C(1) << 20)

uint64_t histogram_bound(unsigned int bucket)
{
	return HISTOGRAM_FIRST_BYTES << (2 * bucket);
}

void histogram_note(struct histogram *histogram, uint64_t bytes)
{
	unsigned int bucket = 0;

	if (bytes == 0)
		return;
	while (bucket < HISTOGRAM_BUCKETS && bytes > histogram_bound(bucket))
		bucket++;
	if (bucket < HISTOGRAM_BUCKETS)
		histogram->counts[bucket]++;
	histogram->count++;
	histogram->sum_bytes += bytes;
}
