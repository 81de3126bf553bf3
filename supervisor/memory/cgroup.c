/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/memory/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/memory/memory.h"

#define CGROUP_ROOT    "/sys/fs/cgroup"
#define CGROUP_ROOT_V1 CGROUP_ROOT "/memory"
#define CGROUP_TEXT    8192

/* Version 1 says "no limit" with a number near this one, rounded to pages. */
#define CGROUP_V1_NO_LIMIT ((uint64_t)INT64_MAX / 2)

struct cgroup_files {
	const char *root;
	const char *limit;
	const char *usage;
	const char *cache; /* name in memory.stat of what can be taken back at once */
	const char *events;
};

static const struct cgroup_files cgroup_v1 = {
	.root = CGROUP_ROOT_V1,
	.limit = "memory.limit_in_bytes",
	.usage = "memory.usage_in_bytes",
	.cache = "total_inactive_file",
	.events = "memory.oom_control",
};

static const struct cgroup_files cgroup_v2 = {
	.root = CGROUP_ROOT,
	.limit = "memory.max",
	.usage = "memory.current",
	.cache = "inactive_file",
	.events = "memory.events",
};

static bool cgroup_read(const char *dir, const char *name, char *text)
{
	char path[PATH_MAX + 64];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return memory_read_file(path, text, CGROUP_TEXT);
}

/* Finds "NAME 123" on a line of its own. */
static bool cgroup_find(const char *text, const char *name, uint64_t *ret_number)
{
	size_t bytes = strlen(name);

	for (const char *line = text; *line;) {
		const char *next = strchr(line, '\n');

		if (strncmp(line, name, bytes) == 0 && line[bytes] == ' ') {
			*ret_number = strtoull(line + bytes + 1, NULL, 10);
			return true;
		}
		if (!next)
			break;
		line = next + 1;
	}
	return false;
}

static bool cgroup_has_controller(const char *list, size_t bytes, const char *name)
{
	size_t wanted = strlen(name);

	for (const char *word = list; word < list + bytes;) {
		size_t length = strcspn(word, ",:");

		if (length == wanted && strncmp(word, name, wanted) == 0)
			return true;
		word += length + 1;
	}
	return false;
}

/* Puts the group's folder into @dir (PATH_MAX bytes), from a line "4:memory:/path" or
 * "0::/path". A namespace may hide part of the path: the nearest level above is taken
 * then. */
static const struct cgroup_files *cgroup_locate(char *dir)
{
	const struct cgroup_files *files = NULL;
	char text[CGROUP_TEXT];
	char *save = NULL;

	if (!memory_read_file("/proc/self/cgroup", text, sizeof(text)))
		return NULL;
	for (char *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':');
		char *path = list ? strchr(list + 1, ':') : NULL;

		if (!path)
			continue;
		if (cgroup_has_controller(list + 1, (size_t)(path - list - 1), "memory"))
			files = &cgroup_v1;
		else if (!files && strncmp(line, "0::", 3) == 0)
			files = &cgroup_v2;
		else
			continue;
		(void)snprintf(dir, PATH_MAX, "%s%s", files->root, path + 1);
	}
	while (files && strlen(dir) > strlen(files->root) && access(dir, R_OK) < 0)
		*strrchr(dir, '/') = '\0';
	return files;
}

/* Lowers what is free in @memory if the level @dir leaves less. */
static void cgroup_apply_level(const struct cgroup_files *files, const char *dir,
                               struct cgroup_memory *memory)
{
	char text[CGROUP_TEXT];
	uint64_t limit;
	uint64_t usage;
	uint64_t cache = 0;

	if (!cgroup_read(dir, files->limit, text) || strncmp(text, "max", 3) == 0)
		return;
	limit = strtoull(text, NULL, 10);
	if (limit >= CGROUP_V1_NO_LIMIT || !cgroup_read(dir, files->usage, text))
		return;
	usage = strtoull(text, NULL, 10);
	if (cgroup_read(dir, "memory.stat", text))
		(void)cgroup_find(text, files->cache, &cache);
	usage -= cache < usage ? cache : usage;
	if (usage > limit)
		usage = limit;
	if (limit - usage < memory->free_bytes)
		memory->free_bytes = limit - usage;
}

struct cgroup_memory cgroup_memory_read(void)
{
	struct cgroup_memory memory = { .free_bytes = UINT64_MAX };
	char text[CGROUP_TEXT];
	char dir[PATH_MAX] = "";
	const struct cgroup_files *files = cgroup_locate(dir);

	if (!files || !cgroup_read(dir, files->events, text) ||
	    !cgroup_find(text, "oom_kill", &memory.oom_kills))
		if (memory_read_file("/proc/vmstat", text, sizeof(text)))
			(void)cgroup_find(text, "oom_kill", &memory.oom_kills);
	while (files && strlen(dir) >= strlen(files->root)) {
		cgroup_apply_level(files, dir, &memory);
		if (strlen(dir) == strlen(files->root))
			break;
		*strrchr(dir, '/') = '\0';
	}
	return memory;
}
