/* SPDX-License-Identifier: Apache-2.0 */
#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch_directory[PATH_MAX];

const char *scratch_enter(void)
{
	const char *base = getenv("TMPDIR");
	char made[PATH_MAX];

	(void)snprintf(made, sizeof(made), "%s/moult-unit-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(made));
	assert_non_null(realpath(made, scratch_directory));
	assert_int_equal(chmod(scratch_directory, 0755), 0);
	assert_int_equal(chdir(scratch_directory), 0);
	return scratch_directory;
}

/* Opens a directory that a test has closed to everybody but root. */
static int scratch_open_one(const char *path, const struct stat *st, int type,
                            struct FTW *where)
{
	(void)st;
	(void)where;
	return type == FTW_DNR ? chmod(path, 0700) : 0;
}

static int scratch_remove_one(const char *path, const struct stat *st, int type,
                              struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

void scratch_remove(const char *path)
{
	assert_int_equal(nftw(path, scratch_open_one, 8, FTW_PHYS), 0);
	assert_int_equal(nftw(path, scratch_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void scratch_leave(void)
{
	assert_int_equal(chdir("/"), 0);
	scratch_remove(scratch_directory);
}

const char *scratch_path(const char *format, ...)
{
	static char paths[8][PATH_MAX];
	static size_t next;
	char *path = paths[next++ % 8];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(path, PATH_MAX, format, arguments);
	va_end(arguments);
	return path;
}

void scratch_write_bytes(const char *path, const void *data, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	assert_int_equal(close(fd), 0);
}

void scratch_write(const char *path, const char *text)
{
	scratch_write_bytes(path, text, strlen(text));
}

void scratch_replace(const char *path, const char *text)
{
	const char *fresh = scratch_path("%s.new", path);

	scratch_write(fresh, text);
	assert_int_equal(rename(fresh, path), 0);
}

void scratch_mkdir(const char *path)
{
	assert_int_equal(mkdir(path, 0755), 0);
}

void scratch_link(const char *target, const char *path)
{
	assert_int_equal(symlink(target, path), 0);
}

void scratch_swap(const char *directory, const char *stamp, const char *name,
                  const char *text)
{
	const char *data = scratch_path("%s/..data", directory);
	const char *fresh = scratch_path("%s/..data_tmp", directory);
	const char *visible = scratch_path("%s/%s", directory, name);
	char old[NAME_MAX + 1];
	ssize_t bytes = readlink(data, old, sizeof(old) - 1);
	struct stat st;

	scratch_mkdir(scratch_path("%s/..%s", directory, stamp));
	scratch_write(scratch_path("%s/..%s/%s", directory, stamp, name), text);
	scratch_link(scratch_path("..%s", stamp), fresh);
	assert_int_equal(rename(fresh, data), 0);
	if (lstat(visible, &st) < 0)
		scratch_link(scratch_path("..data/%s", name), visible);
	if (bytes > 0) {
		old[bytes] = '\0';
		scratch_remove(scratch_path("%s/%s", directory, old));
	}
}

size_t scratch_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	assert_int_equal(closedir(dir), 0);
	return n;
}
