/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fakes/fakegpu.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAKEGPU_MEMORY_MAX 1024

/* Allocations that were seen already. */
struct fakegpu_seen {
	ino_t all[FAKEGPU_MEMORY_MAX];
	unsigned int n_all;
	unsigned int n_before; /* by other processes */
};

static bool fakegpu_note(struct fakegpu_seen *seen, unsigned int from, ino_t inode)
{
	for (unsigned int i = from; i < seen->n_all; i++)
		if (seen->all[i] == inode)
			return false;
	return true;
}

/* One descriptor or mapping. */
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

static uint64_t fakegpu_look_in(const char *directory, const char *name,
                                struct fakegpu_seen *seen, struct fakegpu_use *use)
{
	DIR *entries = opendir(directory);
	uint64_t bytes = 0;
	struct dirent *entry;
	char path[512];

	while (entries && (entry = readdir(entries))) {
		(void)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		fakegpu_look(path, name, seen, use, &bytes);
	}
	if (entries)
		(void)closedir(entries);
	return bytes;
}

static void fakegpu_look_at(int pid, const char *name, struct fakegpu_seen *seen,
                            struct fakegpu_use *use)
{
	static const char *const places[] = { "fd", "map_files" };
	uint64_t bytes = 0;
	char directory[64];

	seen->n_before = seen->n_all;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		(void)snprintf(directory, sizeof(directory), "/proc/%d/%s", pid,
		               places[i]);
		bytes += fakegpu_look_in(directory, name, seen, use);
	}
	if (bytes > 0 && use->n_held < FAKEGPU_HELD_MAX)
		use->held[use->n_held++] =
			(struct fakegpu_held){ .pid = pid, .bytes = bytes };
}

void fakegpu_count(unsigned int card, struct fakegpu_use *ret_use)
{
	struct fakegpu_seen seen = { 0 };
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	char name[40];

	*ret_use = (struct fakegpu_use){ 0 };
	(void)snprintf(name, sizeof(name), "/memfd:" FAKEGPU_NAME "%u ", card);
	while (processes && (entry = readdir(processes)))
		if (isdigit((unsigned char)entry->d_name[0]))
			fakegpu_look_at((int)strtol(entry->d_name, NULL, 10), name, &seen,
			                ret_use);
	if (processes)
		(void)closedir(processes);
}
