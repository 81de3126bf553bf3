/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/load/priority.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

struct priority_warden {
	uint64_t limit_ns;
	pid_t thread; /* the one to make idle */
	/* When one of both is readable the helper restores and ends. */
	int end_fd;
	int hurry_fd;
};

static int priority_set(pid_t thread, int policy)
{
	static const struct sched_param param = { .sched_priority = 0 };

	return sched_setscheduler(thread, policy, &param);
}

/* Threads that were started in idle time are idle themselves; SCHED_RESET_ON_FORK does
 * not cover this policy. */
static void priority_restore_all(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;

	if (!tasks)
		return;
	while ((entry = readdir(tasks))) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		if (thread > 0 && sched_getscheduler(thread) == SCHED_IDLE)
			(void)priority_set(thread, SCHED_OTHER);
	}
	(void)closedir(tasks);
}

static void *priority_watch(void *context)
{
	struct priority_warden *warden = context;
	struct pollfd pollfds[] = {
		{ .fd = warden->end_fd, .events = POLLIN },
		{ .fd = warden->hurry_fd, .events = POLLIN },
	};

	/* The end may have been told already: poll() returns at once then. */
	if (priority_set(0, SCHED_IDLE) == 0 && priority_set(0, SCHED_OTHER) == 0 &&
	    priority_set(warden->thread, SCHED_IDLE) == 0) {
		/* The walls interrupt each thread once: loader/walls/landlock.c. */
		while (poll(pollfds, 2, (int)(warden->limit_ns / CLOCK_NS_PER_MS)) < 0 &&
		       errno == EINTR)
			;
		priority_restore_all();
	}
	close_fd(&warden->end_fd);
	close_fd(&warden->hurry_fd);
	free(warden);
	return NULL;
}

void priority_lower(struct priority *priority, uint64_t limit_ns, int hurry_fd)
{
	FREE struct priority_warden *warden = malloc(sizeof(*warden));
	CLOSE_FD int end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CLOSE_FD int warden_end_fd = -1;
	CLOSE_FD int warden_hurry_fd = -1;
	pthread_t thread;

	priority->end_fd = -1;
	if (!warden || end_fd < 0)
		return;
	warden_end_fd = fcntl(end_fd, F_DUPFD_CLOEXEC, 0);
	warden_hurry_fd = fcntl(hurry_fd, F_DUPFD_CLOEXEC, 0);
	if (warden_end_fd < 0 || warden_hurry_fd < 0)
		return;
	*warden = (struct priority_warden){
		.limit_ns = limit_ns,
		.thread = gettid(),
		.end_fd = warden_end_fd,
		.hurry_fd = warden_hurry_fd,
	};
	if (pthread_create(&thread, NULL, priority_watch, warden) != 0)
		return;
	(void)pthread_detach(thread);
	(void)take_fd(&warden_end_fd);
	(void)take_fd(&warden_hurry_fd);
	(void)take_ptr(&warden);
	priority->end_fd = take_fd(&end_fd);
}

void priority_restore(struct priority *priority)
{
	const uint64_t one = 1;

	if (priority->end_fd < 0)
		return;
	/* The write cannot fail: nobody else writes this eventfd. */
	(void)!write(priority->end_fd, &one, sizeof(one));
	close_fd(&priority->end_fd);
	priority_restore_all();
}
