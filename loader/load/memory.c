/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"

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

void memory_offer(const char *score_adj)
{
	CLOSE_FD int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, score_adj, strlen(score_adj)) < 0)
		return;
}
