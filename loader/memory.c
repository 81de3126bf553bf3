/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/memory.h"

#include <stdio.h>

void memory_measure(struct memory_use *ret_use)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "re");
	unsigned long long kib;
	char line[256];

	*ret_use = (struct memory_use){ 0 };
	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Rss: %llu", &kib) == 1)
			ret_use->rss_bytes = kib * 1024;
		else if (sscanf(line, "Pss: %llu", &kib) == 1)
			ret_use->pss_bytes = kib * 1024;
		else if (sscanf(line, "Anonymous: %llu", &kib) == 1)
			ret_use->anon_bytes = kib * 1024;
	}
	(void)fclose(file);
}
