/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/nearest.h"

#include <stdint.h>
#include <string.h>

#define NEAREST_BYTES_MAX 40

size_t nearest_distance(const char *a, const char *b)
{
	size_t row[NEAREST_BYTES_MAX];
	size_t n_b = strlen(b);

	if (n_b >= NEAREST_BYTES_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= n_b; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n_b; j++) {
			size_t above = row[j + 1];
			size_t best = diagonal + (a[i] == b[j] ? 0 : 1);

			if (above + 1 < best)
				best = above + 1;
			if (row[j] + 1 < best)
				best = row[j] + 1;
			row[j + 1] = best;
			diagonal = above;
		}
	}
	return row[n_b];
}

size_t nearest_limit(const char *name)
{
	return strlen(name) / 2 + 1;
}
