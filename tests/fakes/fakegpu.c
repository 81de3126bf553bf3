/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fakes/fakegpu.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAKEGPU_MEMORY_MAX 1024

/* The allocations that were counted already. */
struct fakegpu_seen {
	ino_t all[FAKEGPU_MEMORY_MAX];
	unsigned int n_all;
	unsigned int n_before; /* seen in other processes */
};

static bool fakegpu_note(struct fakegpu_seen *seen, unsigned int from, ino_t inode)
{
	for (unsigned int i = from; i < seen->n_all; i++)
		if (seen->all[i] == inode)
			return false;
	return true;
}

/* Counts one descriptor or mapping. */
static void fakegpu_look(const char *path, const char *name, struct fakegpu_seen *seen,
                         struct fakegpu_use *use, uint64_t *ret_process_bytes)
{
	char target[64];
	struct stat status;
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	bool is_new_here;
	bool is_new;

	if (n < 0)
		return;
	target[n] = '\0';
	if (strncmp(target, name, strlen(name)) != 0 || stat(path, &status) < 0)
		return;
	is_new = fakegpu_note(seen, 0, status.st_ino);
	is_new_here = fakegpu_note(seen, seen->n_before, status.st_ino);
	if (is_new)
		use->bytes += (uint64_t)status.st_size;
	if (is_new_here)
		*ret_process_bytes += (uint64_t)status.st_size;
	if (is_new_here && seen->n_all < FAKEGPU_MEMORY_MAX)
		seen->all[seen->n_all++] = status.st_ino;
}

static uint64_t fakegpu_look_at_fds(int pid, const char *name, struct fakegpu_seen *seen,
                                    struct fakegpu_use *use)
{
	char path[300];
	uint64_t bytes = 0;
	DIR *entries;
	struct dirent *entry;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	entries = opendir(path);
	while (entries && (entry = readdir(entries))) {
		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, entry->d_name);
		fakegpu_look(path, name, seen, use, &bytes);
	}
	if (entries)
		(void)closedir(entries);
	return bytes;
}

/* Counts mapped memory that has no descriptor left. */
static uint64_t fakegpu_look_at_maps(int pid, const char *name, struct fakegpu_seen *seen,
                                     struct fakegpu_use *use)
{
	char path[128];
	char line[512];
	uint64_t bytes = 0;
	FILE *maps;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		if (!strstr(line, name))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/map_files/%.*s", pid,
		               (int)strcspn(line, " "), line);
		fakegpu_look(path, name, seen, use, &bytes);
	}
	if (maps)
		(void)fclose(maps);
	return bytes;
}

static void fakegpu_look_at(int pid, bool is_listed, const char *name,
                            struct fakegpu_seen *seen, struct fakegpu_use *use)
{
	uint64_t bytes;

	seen->n_before = seen->n_all;
	bytes = fakegpu_look_at_fds(pid, name, seen, use);
	bytes += fakegpu_look_at_maps(pid, name, seen, use);
	if (is_listed && bytes > 0 && use->n_held < FAKEGPU_HELD_MAX)
		use->held[use->n_held++] =
			(struct fakegpu_held){ .pid = pid, .bytes = bytes };
}

/* moultd holds descriptors and has no context: no driver lists it. */
enum fakegpu_kind { FAKEGPU_ALIEN, FAKEGPU_HOLDER, FAKEGPU_USER };

static enum fakegpu_kind fakegpu_kind(int pid)
{
	char path[64];
	char name[32] = "";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return FAKEGPU_ALIEN;
	if (!fgets(name, sizeof(name), file))
		name[0] = '\0';
	(void)fclose(file);
	if (strcmp(name, "moultd\n") == 0)
		return FAKEGPU_HOLDER;
	return strncmp(name, "moult", 5) == 0 ? FAKEGPU_USER : FAKEGPU_ALIEN;
}

void fakegpu_name(unsigned int card, char *ret_name, size_t size)
{
	const char *machine = getenv("NVIDIA_FAKE_MACHINE");

	(void)snprintf(ret_name, size, FAKEGPU_NAME "%.16s-%u", machine ? machine : "0",
	               card);
}

void fakegpu_count(unsigned int card, struct fakegpu_use *ret_use)
{
	struct fakegpu_seen seen = { 0 };
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	char memory[40];
	char name[64];

	*ret_use = (struct fakegpu_use){ 0 };
	fakegpu_name(card, memory, sizeof(memory));
	(void)snprintf(name, sizeof(name), "/memfd:%s ", memory);
	while (processes && (entry = readdir(processes))) {
		int pid = (int)strtol(entry->d_name, NULL, 10);
		enum fakegpu_kind kind = pid > 0 ? fakegpu_kind(pid) : FAKEGPU_ALIEN;

		if (kind != FAKEGPU_ALIEN)
			fakegpu_look_at(pid, kind == FAKEGPU_USER, name, &seen, ret_use);
	}
	if (processes)
		(void)closedir(processes);
}
