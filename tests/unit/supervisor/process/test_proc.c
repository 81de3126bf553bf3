/* SPDX-License-Identifier: Apache-2.0 */

/* The kernel's data about processes: real ones, with names and threads as they come. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/process/proc.h"

#define CROWD 20

/* Runs @body in a child, which then waits to be killed. The child is ready on return. */
static pid_t fork_one(void (*body)(void))
{
	int fds[2];
	char byte;
	pid_t pid;

	assert_return_code(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)alarm(60);
		(void)close(fds[0]);
		body();
		(void)close(fds[1]);
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	(void)close(fds[1]);
	/* The pipe's end, which nobody writes to, says that the child is ready. */
	assert_int_equal(read(fds[0], &byte, 1), 0);
	(void)close(fds[0]);
	return pid;
}

static void end_one(pid_t pid)
{
	assert_return_code(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void wait_state(pid_t pid, char state)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	struct proc proc = { 0 };

	for (int i = 0; i < 60000 && proc.state != state; i++) {
		assert_true(proc_read(pid, &proc));
		(void)nanosleep(&pause, NULL);
	}
	assert_int_equal(proc.state, state);
}

static const char *name_now;

static void do_nothing(void)
{
}

static void take_name(void)
{
	(void)prctl(PR_SET_NAME, name_now);
}

static void test_names_are_read_as_they_are(void **state)
{
	static const char *const names[] = {
		"plain", "two words",       ") R 1 1 1", "(((",
		"a)b",   "123456789012345", ")",         "\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct proc proc;
		pid_t pid;

		name_now = names[i];
		pid = fork_one(take_name);
		assert_true(proc_read(pid, &proc));
		assert_string_equal(proc.comm, names[i]);
		assert_int_equal(proc.pid, pid);
		assert_int_equal(proc.parent, getpid());
		assert_int_equal(proc.group, getpgrp());
		assert_int_equal(proc.session, getsid(0));
		assert_int_equal(proc.threads, 1);
		end_one(pid);
		assert_false(proc_read(pid, &proc));
	}
}

static void lead_session(void)
{
	(void)setsid();
}

static void test_sessions_and_starts(void **state)
{
	struct proc self;
	struct proc proc;
	pid_t pid;

	(void)state;
	assert_true(proc_read(getpid(), &self));
	pid = fork_one(lead_session);
	assert_true(proc_read(pid, &proc));
	assert_int_equal(proc.session, pid);
	assert_int_equal(proc.group, pid);
	assert_true(proc.start_ticks >= self.start_ticks);
	end_one(pid);
}

static void *stay(void *unused)
{
	(void)unused;
	for (;;)
		(void)pause();
	return NULL;
}

static void lose_head(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, stay, NULL) != 0)
		_exit(1);
}

/* The first thread of this child ends; the pipe would stay open then, so the child waits
 * itself. */
static pid_t fork_headless(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)alarm(60);
		lose_head();
		pthread_exit(NULL);
	}
	assert_true(pid > 0);
	wait_state(pid, 'Z');
	return pid;
}

static void test_the_dead_and_those_who_seem_so(void **state)
{
	struct proc proc;
	pid_t pid;

	(void)state;
	pid = fork_one(do_nothing);
	assert_true(proc_read(pid, &proc));
	assert_false(proc_is_dead(&proc));
	assert_return_code(kill(pid, SIGSTOP), 0);
	wait_state(pid, 'T');
	assert_true(proc_read(pid, &proc));
	assert_false(proc_is_dead(&proc));
	assert_return_code(kill(pid, SIGKILL), 0);
	wait_state(pid, 'Z');
	assert_true(proc_read(pid, &proc));
	assert_true(proc_is_dead(&proc));
	assert_int_equal(waitpid(pid, NULL, 0), pid);

	pid = fork_headless();
	assert_true(proc_read(pid, &proc));
	assert_false(proc_is_dead(&proc));
	end_one(pid);
}

static void *fork_more(void *pids)
{
	for (size_t i = 0; i < CROWD; i++)
		((pid_t *)pids)[i] = fork_one(do_nothing);
	(void)stay(NULL);
	return NULL;
}

/* A child is its thread's, and each thread has a list of its own. */
static void test_children_of_all_threads(void **state)
{
	pid_t pids[CROWD + 1] = { 0 };
	pid_t found[2 * CROWD];
	pid_t own = fork_one(do_nothing);
	pthread_t thread;
	size_t n;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, fork_more, pids), 0);
	while ((n = proc_children(getpid(), found, 2 * CROWD)) < CROWD + 1)
		(void)sched_yield();
	assert_int_equal(n, CROWD + 1);
	for (size_t i = 0; i < n; i++)
		assert_true(found[i] > 0);
	assert_int_equal(proc_children(getpid(), found, 3), 3);
	assert_int_equal(proc_children(getpid(), found, 0), 0);
	assert_int_equal(proc_children(own, found, 1), 0);
	for (n = proc_children(getpid(), found, 2 * CROWD); n > 0; n--)
		end_one(found[n - 1]);
	assert_int_equal(proc_children(getpid(), found, 1), 0);
}

/* sleep(1) with an environment of its own. */
static pid_t fork_with(char *const environment[])
{
	char name[] = "sleep";
	char time[] = "60";
	char *argv[] = { name, time, NULL };
	pid_t pid = fork();
	struct proc proc;

	if (pid == 0) {
		(void)execve("/bin/sleep", argv, environment);
		_exit(1);
	}
	assert_true(pid > 0);
	do
		assert_true(proc_read(pid, &proc));
	while (strcmp(proc.comm, "sleep") != 0);
	wait_state(pid, 'S');
	return pid;
}

static void test_variables(void **state)
{
	static char first[] = "FIRST=1";
	static char longer[] = "FIRST_AND_MORE=2";
	static char empty[] = "EMPTY=";
	static char twice[] = "TWICE=a=b";
	char *environment[] = { longer, first, empty, twice, NULL };
	char *nothing[] = { NULL };
	static const struct {
		const char *name;
		const char *value; /* NULL: not there */
	} rows[] = {
		{ "FIRST", "1" },   { "FIRST_AND_MORE", "2" }, { "EMPTY", "" },
		{ "TWICE", "a=b" }, { "FIRS", NULL },          { "", NULL },
		{ "PATH", NULL },   { "TWICE=a", "b" },
	};
	pid_t pid = fork_with(environment);
	pid_t bare = fork_with(nothing);
	char value[8];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool is_there =
			proc_get_variable(pid, rows[i].name, value, sizeof(value));

		assert_int_equal(is_there, rows[i].value != NULL);
		if (is_there)
			assert_string_equal(value, rows[i].value);
		assert_false(proc_get_variable(bare, rows[i].name, value, sizeof(value)));
	}
	assert_true(proc_has_variable(pid, "FIRST=1"));
	assert_true(proc_has_variable(pid, "EMPTY="));
	assert_false(proc_has_variable(pid, "FIRST="));
	assert_false(proc_has_variable(pid, "FIRST=12"));
	assert_false(proc_has_variable(bare, "FIRST=1"));
	/* A value that does not fit is not cut. */
	assert_true(proc_get_variable(pid, "TWICE", value, 4));
	assert_false(proc_get_variable(pid, "TWICE", value, 3));
	end_one(pid);
	end_one(bare);
	assert_false(proc_has_variable(pid, "FIRST=1"));
}

/* A process without its first thread still has an environment and namespaces. */
static void test_the_headless_are_known(void **state)
{
	pid_t pid = fork_headless();
	char value[4096];

	(void)state;
	assert_true(proc_get_variable(pid, "PATH", value, sizeof(value)));
	assert_string_equal(value, getenv("PATH"));
	assert_true(proc_has_our_numbers(pid));
	end_one(pid);
	assert_false(proc_has_our_numbers(pid));
}

static void test_only_the_one_that_was_read_is_killed(void **state)
{
	pid_t pid = fork_one(do_nothing);
	struct proc proc;
	int status;

	(void)state;
	assert_true(proc_read(pid, &proc));
	proc.start_ticks--;
	assert_false(proc_kill(&proc));
	wait_state(pid, 'S');
	assert_true(proc_read(pid, &proc));
	assert_true(proc_kill(&proc));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_false(proc_kill(&proc));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_read_as_they_are),
		cmocka_unit_test(test_sessions_and_starts),
		cmocka_unit_test(test_the_dead_and_those_who_seem_so),
		cmocka_unit_test(test_children_of_all_threads),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_the_headless_are_known),
		cmocka_unit_test(test_only_the_one_that_was_read_is_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
