/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/file.h"

#include <errno.h>
#include <unistd.h>

static bool file_is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Compares all but the time of change. */
static bool file_is_alike(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && file_is_same_time(&a->st_mtim, &b->st_mtim);
}

bool file_is_same(const struct stat *a, const struct stat *b)
{
	return file_is_alike(a, b) && file_is_same_time(&a->st_ctim, &b->st_ctim);
}

bool file_is_unwritten(const struct stat *before, const struct stat *now)
{
	return file_is_same(before, now) ||
	       (file_is_alike(before, now) && before->st_nlink != now->st_nlink);
}

ssize_t file_read_at(int fd, void *buffer, size_t bytes, uint64_t at)
{
	char *to = buffer;
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd, to + done, bytes - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}
