/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAVE_S 100

static void leave_fill(unsigned long bytes)
{
	char *memory = malloc(bytes);

	if (memory)
		memset(memory, 1, bytes);
	__asm__ volatile("" : : "g"(memory) : "memory");
}

/* Reports through @ready_fd that the process is there, and stays. */
_Noreturn static void leave_stay(int ready_fd)
{
	(void)alarm(LEAVE_S);
	(void)close(ready_fd);
	for (;;)
		(void)pause();
}

_Noreturn static void leave_sleep(pid_t supervisor, char *const environment[])
{
	char name[] = "sleep";
	char time[32];
	char *argv[] = { name, time, NULL };

	/* "100.04711": the fraction is the supervisor's pid. */
	(void)snprintf(time, sizeof(time), "%d.0%d", LEAVE_S, (int)supervisor);
	(void)execve("/bin/sleep", argv, environment);
	_exit(1);
}

/* Forks twice; returns in the grandchild. */
static void leave_daemonise(void)
{
	if (fork() != 0)
		_exit(0);
	(void)setsid();
	if (fork() != 0)
		_exit(0);
}

_Noreturn static void leave_chain(int ready_fd)
{
	const struct timespec pause = { .tv_nsec = 2000000 };
	time_t end = time(NULL) + LEAVE_S;

	(void)setsid();
	(void)close(ready_fd);
	while (time(NULL) < end) {
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		if (fork() != 0)
			_exit(0);
	}
	_exit(0);
}

_Noreturn static void leave_tree(int ready_fd)
{
	for (int i = 0; i < 2; i++) {
		(void)setsid();
		if (fork() != 0)
			leave_stay(ready_fd);
	}
	(void)setsid();
	leave_stay(ready_fd);
}

static void *leave_thread(void *ready_fd)
{
	leave_stay(*(int *)ready_fd);
}

_Noreturn static void leave_headless(int ready_fd)
{
	static int fd;
	pthread_t thread;

	fd = ready_fd;
	if (pthread_create(&thread, NULL, leave_thread, &fd) == 0)
		pthread_exit(NULL);
	_exit(1);
}

_Noreturn static void leave_become(const char *kind, unsigned long bytes, int ready_fd)
{
	if (strcmp(kind, "daemon") == 0) {
		leave_daemonise();
		leave_fill(bytes);
	} else if (strcmp(kind, "deaf") == 0) {
		for (int number = 1; number < NSIG; number++)
			if (number != SIGALRM)
				(void)signal(number, SIG_IGN);
	} else if (strcmp(kind, "chain") == 0) {
		leave_chain(ready_fd);
	} else if (strcmp(kind, "tree") == 0) {
		leave_tree(ready_fd);
	} else if (strcmp(kind, "headless") == 0) {
		leave_headless(ready_fd);
	}
	leave_stay(ready_fd);
}

static int leave_crowd(void)
{
	for (int i = 0; i < LEAVE_CROWD; i++) {
		pid_t between = fork();

		if (between == 0) {
			(void)!fork();
			_exit(0);
		}
		if (between < 0 || waitpid(between, NULL, 0) != between)
			return -1;
	}
	return 0;
}

int fault_leave(const char *kind, unsigned long bytes)
{
	static const char *const kinds[] = { "child", "daemon", "bare",    "deaf",
		                             "chain", "tree",   "headless" };
	extern char **environ;
	char *nothing[] = { NULL };
	pid_t supervisor = getppid();
	size_t i = 0;
	int fds[2];
	char byte;

	if (strcmp(kind, "crowd") == 0)
		return leave_crowd();
	while (i < sizeof(kinds) / sizeof(kinds[0]) && strcmp(kinds[i], kind) != 0)
		i++;
	if (i == sizeof(kinds) / sizeof(kinds[0]) || pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	if (fork() == 0) {
		(void)close(fds[0]);
		if (strcmp(kind, "bare") == 0)
			leave_daemonise();
		if (strcmp(kind, "bare") == 0 || strcmp(kind, "child") == 0)
			leave_sleep(supervisor,
			            strcmp(kind, "bare") == 0 ? nothing : environ);
		leave_become(kind, bytes, fds[1]);
	}
	/* All processes with the other end have closed it. */
	(void)close(fds[1]);
	(void)!read(fds[0], &byte, 1);
	(void)close(fds[0]);
	return 0;
}
