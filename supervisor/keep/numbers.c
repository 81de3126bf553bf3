/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/keep/numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/log.h"

#define NUMBERS_PATH_MAX      4096
#define NUMBERS_LOCK_TRIES    50
#define NUMBERS_LOCK_PAUSE_NS 20000000 /* 20 ms */
/* Numbers are of one width, so that a new one covers the old one. */
#define NUMBERS_FORMAT "%020llu\n"

/* Blocks for up to a second: only for the start. A process that moultd forked closes the
 * file at once, but when moultd was just killed it may still wait for its first turn. */
static bool numbers_lock(int fd)
{
	const struct timespec pause = { .tv_nsec = NUMBERS_LOCK_PAUSE_NS };

	for (unsigned int i = 0; i < NUMBERS_LOCK_TRIES; i++) {
		/* A file system without locks is no reason not to start. */
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

int numbers_init(struct numbers *numbers, const char *state_dir, uint64_t at_least,
                 struct err *err)
{
	char path[NUMBERS_PATH_MAX];
	char text[32] = "";
	unsigned long long last;

	*numbers = (struct numbers){ .last = at_least, .fd = -1 };
	(void)snprintf(path, sizeof(path), "%s/generation", state_dir);
	numbers->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (numbers->fd < 0 && errno == ENOTDIR)
		return err_set(err, -ENOTDIR, "state_dir %s: %s", state_dir,
		               strerror(errno));
	if (numbers->fd < 0) {
		log_event(LOG_LEVEL_WARNING, "state_dir", "path=%s error=%s", path,
		          LOG_QUOTED(access_why(&(struct err)ERR_NULL, path, R_OK | W_OK,
		                                errno)));
		return 0;
	}
	/* Two supervisors would give their loaders the same numbers. */
	if (!numbers_lock(numbers->fd)) {
		close_fd(&numbers->fd);
		return err_set(err, -EBUSY,
		               "state_dir %s: another moultd uses it: give each its own",
		               state_dir);
	}
	if (pread(numbers->fd, text, sizeof(text) - 1, 0) > 0) {
		last = strtoull(text, NULL, 10);
		/* A number that no run can have reached is none of ours. */
		if (last > numbers->last && last < INT64_MAX)
			numbers->last = last;
	}
	return 0;
}

void numbers_fini(struct numbers *numbers)
{
	close_fd(&numbers->fd);
}

uint64_t numbers_next(struct numbers *numbers)
{
	char text[32];
	int n = snprintf(text, sizeof(text), NUMBERS_FORMAT,
	                 (unsigned long long)++numbers->last);

	if (numbers->fd >= 0 && pwrite(numbers->fd, text, (size_t)n, 0) < 0)
		log_event(LOG_LEVEL_WARNING, "state_dir", "file=generation error=%s",
		          LOG_QUOTED(strerror(errno)));
	return numbers->last;
}
