/* SPDX-License-Identifier: Apache-2.0 */

/* Processes that outlived their moultd: real ones, with marks of living and dead ones. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/process/leftovers.h"
#include "supervisor/process/proc.h"

static void test_marks_are_read_as_written(void **state)
{
	static const struct {
		const char *text;
		bool is_one;
	} rows[] = {
		{ "1-2-3", true },
		{ "4194304-18446744073709551615-4026531836", true },
		{ "", false },
		{ "1", false },
		{ "1-2", false },
		{ "1-2-", false },
		{ "1-2-3-4", false },
		{ "1-2-3 ", false },
		{ " 1-2-3", false },
		{ "+1-2-3", false },
		{ "01-2-3", false },
		{ "0-2-3", false },
		{ "-1-2-3", false },
		{ "1--2-3", false },
		{ "1-2-x", false },
		{ "1-18446744073709551616-3", false },
		{ "4294967297-2-3", false },
	};
	char text[LEFTOVERS_MARK_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct leftovers_run run;

		assert_int_equal(leftovers_run_parse(rows[i].text, &run), rows[i].is_one);
		if (!rows[i].is_one)
			continue;
		leftovers_run_print(&run, text);
		assert_string_equal(text, rows[i].text);
	}
}

/* Starts sleep(1) with the mark of @run in variable @name, in a session of its own; NULL:
 * without. */
static pid_t start(const struct leftovers_run *run, const char *name)
{
	char text[LEFTOVERS_MARK_MAX];
	char variable[128];
	char command[] = "sleep";
	char time[] = "60";
	char *argv[] = { command, time, NULL };
	char *environment[] = { variable, NULL };
	struct proc proc;
	pid_t pid;

	leftovers_run_print(run, text);
	(void)snprintf(variable, sizeof(variable), "%s=%s", name, text);
	pid = fork();
	if (pid == 0) {
		(void)setsid();
		(void)execve("/bin/sleep", argv, environment);
		_exit(1);
	}
	assert_true(pid > 0);
	do
		assert_true(proc_read(pid, &proc));
	while (strcmp(proc.comm, command) != 0 || proc.state != 'S');
	return pid;
}

static bool is_killed(pid_t pid)
{
	int status;
	pid_t ended = waitpid(pid, &status, WNOHANG);

	if (ended == pid)
		return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	assert_int_equal(ended, 0);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return false;
}

static void test_only_what_is_left_is_killed(void **state)
{
	const struct leftovers_run self = leftovers_run_self();
	struct leftovers_run parent = self;
	struct leftovers_run gone = self;
	struct leftovers_run recycled;
	struct leftovers_run elsewhere;
	struct proc proc;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	gone.pid = pid;
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	parent.pid = getppid();
	assert_true(proc_read(parent.pid, &proc));
	parent.start_ticks = proc.start_ticks;
	recycled = parent;
	recycled.start_ticks--;
	elsewhere = gone;
	elsewhere.pid_namespace--;

	{
		const struct {
			const struct leftovers_run *run;
			const char *name;
			bool is_left;
		} rows[] = {
			{ &gone, LEFTOVERS_MARK, true },
			{ &recycled, LEFTOVERS_MARK, true },
			{ &gone, LEFTOVERS_MARK, true },
			{ &self, LEFTOVERS_MARK, false },
			{ &parent, LEFTOVERS_MARK, false },
			{ &elsewhere, LEFTOVERS_MARK, false },
			{ &gone, LEFTOVERS_MARK "S", false },
			{ &gone, "X" LEFTOVERS_MARK, false },
		};
		pid_t pids[sizeof(rows) / sizeof(rows[0])];

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			pids[i] = start(rows[i].run, rows[i].name);
		/* A moultd that starts meanwhile sweeps them as well: the number that it
		 * leaves to this one says nothing. */
		(void)leftovers_sweep();
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			assert_int_equal(is_killed(pids[i]), rows[i].is_left);
	}
}

/* A moultd that was itself started by a process that is left spares that process. */
static void test_what_led_here_is_spared(void **state)
{
	struct leftovers_run gone = leftovers_run_self();
	char text[LEFTOVERS_MARK_MAX];
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	gone.pid = pid;
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	leftovers_run_print(&gone, text);
	assert_return_code(setenv(LEFTOVERS_MARK, text, 1), 0);
	pid = start(&gone, LEFTOVERS_MARK);
	(void)leftovers_sweep();
	assert_false(is_killed(pid));
	assert_return_code(unsetenv(LEFTOVERS_MARK), 0);
}

static void test_a_dead_one_that_nobody_reaped_is_over(void **state)
{
	struct leftovers_run run = leftovers_run_self();
	struct proc proc = { 0 };

	(void)state;
	assert_false(leftovers_run_is_over(&run));
	run.pid = fork();
	if (run.pid == 0)
		for (;;)
			(void)pause();
	assert_true(proc_read(run.pid, &proc));
	run.start_ticks = proc.start_ticks;
	assert_false(leftovers_run_is_over(&run));
	assert_return_code(kill(run.pid, SIGKILL), 0);
	while (!proc_is_dead(&proc))
		assert_true(proc_read(run.pid, &proc));
	assert_true(leftovers_run_is_over(&run));
	assert_int_equal(waitpid(run.pid, NULL, 0), run.pid);
	assert_true(leftovers_run_is_over(&run));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marks_are_read_as_written),
		cmocka_unit_test(test_only_what_is_left_is_killed),
		cmocka_unit_test(test_what_led_here_is_spared),
		cmocka_unit_test(test_a_dead_one_that_nobody_reaped_is_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
