/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An engine's libraries may have started threads when they were opened (OpenBLAS does, and the
 * warden of priority.c is one), and code that breaks out of the engine could run in one of them. So
 * each thread is made to call by a signal, as glibc does it for setuid() and libpsx for others.
 */
#include "loader/walls/threads.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define THREADS_MAX        1024
#define THREADS_SIGNAL     (SIGRTMAX - 1)
#define THREADS_LOOK_MS    10
#define THREADS_LOOKS      1000 /* until one thread has called: 10 s */
#define THREADS_DEAF_LOOKS 50
#define THREADS_ROUNDS     16

/* A handler has no context but this. Written by threads_run() alone, before any signal. */
static struct {
	int (*call)(const void *context);
	const void *context;
	int told; /* a pipe that each thread writes its errno to */
} threads_what;

static void threads_on_signal(int number)
{
	int saved = errno;
	int error = threads_what.call(threads_what.context);

	(void)number;
	(void)!write(threads_what.told, &error, sizeof(error));
	errno = saved;
}

/* True: @thread sleeps and blocks the signal, and so may never call. One that wants to run may be
 * about to begin or to end, when the C library blocks signals: on a busy machine, a thread of idle
 * priority gets to that after seconds. */
static bool threads_is_deaf(pid_t thread)
{
	char path[64];
	char text[4096];
	CLOSE_FD int fd = -1;
	const char *blocked = NULL;
	const char *state = NULL;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	if (n > 0) {
		text[n] = '\0';
		blocked = strstr(text, "SigBlk:\t");
		state = strstr(text, "State:\t");
	}
	if (!blocked || !state || state[strlen("State:\t")] == 'R')
		return false;
	return strtoull(blocked + strlen("SigBlk:\t"), NULL, 16) >> (THREADS_SIGNAL - 1) &
	       1;
}

/* Waits for the answer of @thread. 0, or -ETIMEDOUT; -ESRCH: it has ended without one. A signal that
 * comes while a thread ends is taken by nobody, and no error says so. */
static int threads_wait(pid_t thread, int answer)
{
	struct pollfd pollfd = { .fd = answer, .events = POLLIN };
	int n_deaf = 0;

	for (int i = 0; i < THREADS_LOOKS; i++) {
		if (poll(&pollfd, 1, THREADS_LOOK_MS) > 0)
			return 0;
		if (syscall(SYS_tgkill, getpid(), thread, 0) < 0)
			return poll(&pollfd, 1, 0) > 0 ? 0 : -ESRCH;
		n_deaf = threads_is_deaf(thread) ? n_deaf + 1 : 0;
		if (n_deaf >= THREADS_DEAF_LOOKS)
			return -EBUSY;
	}
	return -ETIMEDOUT;
}

/* 0 or -errno; -ESRCH: the thread has ended. */
static int threads_run_one(pid_t thread, int answer)
{
	int error = 0;
	int r;

	if (syscall(SYS_tgkill, getpid(), thread, THREADS_SIGNAL) < 0)
		return -errno;
	r = threads_wait(thread, answer);
	if (r < 0)
		return r;
	return read(answer, &error, sizeof(error)) == sizeof(error) ? -error : -EIO;
}

/* Has @thread call, unless it is in @done already, which ends with 0. 1: it has; 0: it had; or
 * -errno. */
static int threads_run_new(pid_t thread, int answer, pid_t done[THREADS_MAX])
{
	size_t i = 0;
	int r;

	while (i < THREADS_MAX && done[i] != 0 && done[i] != thread)
		i++;
	if (i == THREADS_MAX)
		return -E2BIG;
	if (done[i] == thread)
		return 0;
	done[i] = thread;
	r = threads_run_one(thread, answer);
	return r == 0 || r == -ESRCH ? 1 : r;
}

/* Has each other thread call that has not. Returns how many they were, or -errno. */
static int threads_run_round(int answer, pid_t done[THREADS_MAX])
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;
	int n = 0;
	int r = tasks ? 0 : -errno;

	while (tasks && r >= 0 && (entry = readdir(tasks))) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		if (thread <= 0 || thread == gettid())
			continue;
		r = threads_run_new(thread, answer, done);
		n += r > 0;
	}
	if (tasks)
		(void)closedir(tasks);
	return r < 0 ? r : n;
}

int threads_run(int (*call)(const void *context), const void *context)
{
	struct sigaction action = { .sa_handler = threads_on_signal,
		                    .sa_flags = SA_RESTART };
	struct sigaction before;
	pid_t done[THREADS_MAX] = { 0 };
	CLOSE_FD int answer = -1;
	CLOSE_FD int told = -1;
	int fds[2];
	int r = 1;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	answer = fds[0];
	told = fds[1];
	threads_what.call = call;
	threads_what.context = context;
	threads_what.told = told;
	if (sigaction(THREADS_SIGNAL, &action, &before) < 0)
		return -errno;
	/* A thread that had not called yet may have started another one. */
	for (int i = 0; i < THREADS_ROUNDS && r > 0; i++)
		r = threads_run_round(answer, done);
	if (r) {
		/* A thread may take its signal later: it calls then, and tells nobody. */
		threads_what.told = -1;
		return r > 0 ? -EAGAIN : r;
	}
	(void)sigaction(THREADS_SIGNAL, &before, NULL);
	return -call(context);
}
