/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A folder of a harness's own, in memory where there is such a file system; gone at the end. */

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fuzz_folder[64];

/* Removes all that is in the folder @name of @dir_fd. */
static inline void fuzz_folder_clear(int dir_fd, const char *name)
{
	DIR *dir = fdopendir(openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *entry;

	assert(dir);
	while ((entry = readdir(dir))) {
		const char *inner = entry->d_name;

		if (strcmp(inner, ".") == 0 || strcmp(inner, "..") == 0 ||
		    unlinkat(dirfd(dir), inner, 0) == 0)
			continue;
		fuzz_folder_clear(dirfd(dir), inner);
		assert(unlinkat(dirfd(dir), inner, AT_REMOVEDIR) == 0);
	}
	(void)closedir(dir);
}

static inline void fuzz_folder_leave(void)
{
	fuzz_folder_clear(AT_FDCWD, fuzz_folder);
	(void)rmdir(fuzz_folder);
}

/* Makes the folder. Returns its path. */
static inline const char *fuzz_folder_enter(void)
{
	(void)snprintf(fuzz_folder, sizeof(fuzz_folder), "%s/moult-fuzz-XXXXXX",
	               access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert(mkdtemp(fuzz_folder));
	(void)atexit(fuzz_folder_leave);
	return fuzz_folder;
}

static inline void fuzz_folder_write_at(int dir_fd, const char *name, const void *data,
                                        size_t bytes, mode_t mode)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert(fd >= 0 && fchmod(fd, mode) == 0);
	assert(write(fd, data, bytes) == (ssize_t)bytes);
	(void)close(fd);
}

/* The number that the next descriptor gets: the same as before where none was left open. */
static inline int fuzz_next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	assert(fd >= 0 && close(fd) == 0);
	return fd;
}
