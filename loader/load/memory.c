/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/memory.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/descendants.h"

/* Adds what one process holds. @is_alone: its anonymous pages are nobody else's, and are counted
 * without a share for others. */
static void memory_add(struct memory_use *use, const char *path, bool is_alone)
{
	FILE *file = fopen(path, "re");
	unsigned long long kib;
	char line[256];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Rss: %llu", &kib) == 1)
			use->rss_bytes += kib * 1024;
		else if (sscanf(line, "Pss: %llu", &kib) == 1)
			use->pss_bytes += kib * 1024;
		else if (sscanf(line, is_alone ? "Anonymous: %llu" : "Pss_Anon: %llu",
		                &kib) == 1)
			use->anon_bytes += kib * 1024;
	}
	(void)fclose(file);
}

void memory_measure(struct memory_use *ret_use)
{
	pid_t pids[DESCENDANTS_MAX];
	size_t n = descendants_list(pids, DESCENDANTS_MAX);
	char path[64];

	*ret_use = (struct memory_use){ 0 };
	memory_add(ret_use, "/proc/self/smaps_rollup", n == 0);
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pids[i]);
		memory_add(ret_use, path, false);
	}
}

void memory_offer(const char *score_adj)
{
	CLOSE_FD int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, score_adj, strlen(score_adj)) < 0)
		return;
}
