/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A folder is made, locked, and then marked: who sweeps wants the mark first and then the lock, and
 * never meets a folder that is only half made. The mark goes last when the folder is removed, so
 * that a sweep which is killed halfway is finished by the next one.
 */
#include "shared/server_folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define FOLDER_PREFIX "moult-server-"
/* So many characters behind the prefix are mkdtemp()'s. */
#define FOLDER_RANDOM "XXXXXX"
#define FOLDER_MARK   ".moult-server-folder"
#define FOLDER_BASES  3
/* Descriptors that the removal of a folder may use. */
#define FOLDER_FDS 8

/* Returns a folder in which the folders may lie, with names of @most bytes; NULL: not there. The
 * first one is in memory. */
static const char *folder_base(size_t i, size_t most)
{
	const char *bases[FOLDER_BASES] = { "/dev/shm", getenv("TMPDIR"), "/tmp" };
	const char *base = bases[i];
	struct statfs status;

	if (!base || *base != '/' ||
	    strlen(base) + sizeof("/" FOLDER_PREFIX FOLDER_RANDOM) > most)
		return NULL;
	if (i == 0 && (statfs(base, &status) < 0 || status.f_type != TMPFS_MAGIC))
		return NULL;
	return base;
}

static int folder_remove_one(const char *path, const struct stat *status, int kind,
                             struct FTW *where)
{
	(void)status;
	(void)kind;
	if (where->level == 0 ||
	    (where->level == 1 && strcmp(path + where->base, FOLDER_MARK) == 0))
		return 0;
	(void)remove(path);
	return 0;
}

void server_folder_remove(const char *path)
{
	char mark[SERVER_FOLDER_MAX + sizeof("/" FOLDER_MARK)];
	CLOSE_FD int fd = -1;

	(void)nftw(path, folder_remove_one, FOLDER_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	(void)snprintf(mark, sizeof(mark), "%s/" FOLDER_MARK, path);
	(void)unlink(mark);
	/* A loader inside its walls may not remove it: EACCES. Who sweeps wants the mark. */
	if (rmdir(path) == 0 || (errno != ENOTEMPTY && errno != EACCES))
		return;
	fd = open(mark, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0400);
}

/* Opens a folder of the user's own that nobody else can enter. -1: it is none. */
static int folder_open(const char *path)
{
	CLOSE_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0 || status.st_uid != geteuid() ||
	    (status.st_mode & ALLPERMS) != S_IRWXU)
		return -1;
	return take_fd(&fd);
}

static bool folder_is_marked(int fd)
{
	struct stat status;

	return fstatat(fd, FOLDER_MARK, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(status.st_mode) && status.st_uid == geteuid();
}

static bool folder_has_name(const char *name)
{
	const size_t prefix = strlen(FOLDER_PREFIX);

	if (strncmp(name, FOLDER_PREFIX, prefix) != 0 ||
	    strlen(name) != prefix + strlen(FOLDER_RANDOM))
		return false;
	for (name += prefix; *name != '\0'; name++)
		if (!isalnum((unsigned char)*name))
			return false;
	return true;
}

static void folder_sweep_base(const char *base, size_t most)
{
	DIR *dir = opendir(base);
	const struct dirent *entry;

	while (dir && most-- > 0 && (entry = readdir(dir))) {
		char path[SERVER_FOLDER_MAX];
		CLOSE_FD int fd = -1;

		if (!folder_has_name(entry->d_name))
			continue;
		(void)snprintf(path, sizeof(path), "%s/%.*s", base,
		               (int)sizeof(FOLDER_PREFIX FOLDER_RANDOM) - 1,
		               entry->d_name);
		fd = folder_open(path);
		if (fd >= 0 && folder_is_marked(fd) && flock(fd, LOCK_EX | LOCK_NB) == 0)
			server_folder_remove(path);
	}
	if (dir)
		(void)closedir(dir);
}

void server_folder_sweep(size_t most)
{
	for (size_t i = 0; i < FOLDER_BASES; i++) {
		const char *base = folder_base(i, SERVER_FOLDER_MAX);

		if (base)
			folder_sweep_base(base, most);
	}
}

/* Returns the descriptor with the lock, or -1. The mark comes behind the lock: without it nobody
 * sweeps the folder. */
static int folder_make_in(char path[SERVER_FOLDER_MAX], const char *base)
{
	CLOSE_FD int fd = -1;
	CLOSE_FD int mark = -1;

	(void)snprintf(path, SERVER_FOLDER_MAX, "%s/" FOLDER_PREFIX FOLDER_RANDOM, base);
	if (!mkdtemp(path))
		return -1;
	fd = folder_open(path);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		mark = openat(fd, FOLDER_MARK,
		              O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (mark >= 0)
		return take_fd(&fd);
	(void)rmdir(path);
	return -1;
}

int server_folder_make(enum server_folder_use use, char path[SERVER_FOLDER_MAX],
                       int *ret_fd)
{
	const size_t most = use == SERVER_FOLDER_SECRET ? SERVER_FOLDER_SECRET_MAX
	                                                : SERVER_FOLDER_MAX;

	server_folder_sweep(SIZE_MAX);
	errno = ENOENT;
	*ret_fd = -1;
	for (size_t i = use == SERVER_FOLDER_LARGE; i < FOLDER_BASES; i++) {
		const char *base = folder_base(i, most);

		*ret_fd = base ? folder_make_in(path, base) : -1;
		if (*ret_fd >= 0)
			return 0;
	}
	*path = '\0';
	return errno ? -errno : -EACCES;
}
