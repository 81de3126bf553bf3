/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/descendants.h"

#include <dirent.h>
#include <stdio.h>

/* Appends the children of one thread. Returns how many there are in @pids then. */
static size_t descendants_add(const char *path, pid_t *pids, size_t n, size_t max)
{
	FILE *file = fopen(path, "re");
	int pid;

	while (file && n < max && fscanf(file, "%d", &pid) == 1)
		pids[n++] = (pid_t)pid;
	if (file)
		(void)fclose(file);
	return n;
}

/* Appends the children of all threads of @process. */
static size_t descendants_add_all(const char *process, pid_t *pids, size_t n, size_t max)
{
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%s/task", process);
	dir = opendir(path);
	while (dir && n < max && (entry = readdir(dir))) {
		char file[sizeof(path) + sizeof(entry->d_name) + 16];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(file, sizeof(file), "%s/%s/children", path, entry->d_name);
		n = descendants_add(file, pids, n, max);
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

size_t descendants_list(pid_t *ret_pids, size_t max)
{
	size_t n = descendants_add_all("self", ret_pids, 0, max);

	/* Each child is behind its parent, so that the list grows while it is gone through. */
	for (size_t i = 0; i < n; i++) {
		char number[16];

		(void)snprintf(number, sizeof(number), "%d", (int)ret_pids[i]);
		n = descendants_add_all(number, ret_pids, n, max);
	}
	return n;
}
