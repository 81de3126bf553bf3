/* SPDX-License-Identifier: Apache-2.0 */

/* Processes that children leave behind, and whose they are: real ones, on a loop of their own. */

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
#include <time.h>
#include <unistd.h>

#include "supervisor/process/orphans.h"
#include "supervisor/process/proc.h"

struct desk {
	struct ev_loop *loop;
	struct orphans *orphans;
};

static void open_desk(struct desk *desk)
{
	desk->loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	assert_non_null(desk->loop);
	assert_int_equal(orphans_new(&desk->orphans, desk->loop), 0);
}

static void close_desk(struct desk *desk)
{
	pid_t left;

	orphans_free(desk->orphans);
	assert_int_equal(proc_children(getpid(), &left, 1), 0);
	ev_loop_destroy(desk->loop);
}

/* Starts a child in a session of its own, which leaves @n processes in @ret_left, and stays. */
static pid_t start(size_t n, pid_t *ret_left)
{
	int fds[2];
	pid_t pid;

	assert_return_code(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		(void)alarm(60);
		(void)setsid();
		for (size_t i = 0; i < n; i++) {
			pid_t left = fork();

			if (left == 0) {
				(void)alarm(60);
				/* Each gets a session of its own, so that only its ancestors
				 * tell whose it is. */
				(void)setsid();
				for (;;)
					(void)pause();
			}
			(void)!write(fds[1], &left, sizeof(left));
		}
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(read(fds[0], &ret_left[i], sizeof(*ret_left)),
		                 (ssize_t)sizeof(*ret_left));
	(void)close(fds[0]);
	(void)close(fds[1]);
	return pid;
}

/* Ends a child as process/child.c does: first the notice, then the reaping. */
static void end(struct desk *desk, struct orphans_kin *kin)
{
	pid_t pid = kin->pid;
	siginfo_t info;

	assert_return_code(kill(pid, SIGKILL), 0);
	assert_return_code(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	orphans_on_end(desk->loop, kin);
	assert_return_code(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
}

static void wait_gone(struct desk *desk, const struct orphans_kin *kin)
{
	while (!orphans_are_gone(desk->loop, kin))
		(void)ev_run(desk->loop, EVRUN_ONCE);
}

static bool is_there(pid_t pid)
{
	struct proc proc;

	return proc_read(pid, &proc) && !proc_is_dead(&proc);
}

static void test_what_is_left_is_counted_named_and_ended(void **state)
{
	static const size_t rows[] = { 0, 1, 3, 40 };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct orphans_kin kin = { 0 };
		pid_t left[40];
		struct desk desk;

		open_desk(&desk);
		orphans_add(desk.loop, &kin, start(rows[i], left));
		for (size_t j = 0; j < rows[i]; j++)
			assert_true(is_there(left[j]));
		end(&desk, &kin);
		wait_gone(&desk, &kin);
		assert_int_equal(kin.left.n, rows[i]);
		assert_int_equal(kin.left.n_alive, 0);
		assert_int_equal(*kin.left.who == '\0', rows[i] == 0);
		assert_true(strlen(kin.left.who) < ORPHANS_WHO_MAX);
		for (size_t j = 0; j < rows[i]; j++)
			assert_false(is_there(left[j]));
		orphans_remove(&kin);
		close_desk(&desk);
	}
}

/* Two children at a time: each has its own orphans, and a living one keeps them. */
static void test_one_ends_and_the_other_goes_on(void **state)
{
	struct orphans_kin first = { 0 };
	struct orphans_kin second = { 0 };
	struct orphans_kin moved = { 0 };
	pid_t of_first[2];
	pid_t of_second[3];
	struct desk desk;

	(void)state;
	open_desk(&desk);
	orphans_add(desk.loop, &first, start(2, of_first));
	orphans_add(desk.loop, &second, start(3, of_second));
	end(&desk, &first);
	wait_gone(&desk, &first);
	assert_int_equal(first.left.n, 2);
	assert_true(is_there(second.pid));
	for (size_t i = 0; i < 3; i++)
		assert_true(is_there(of_second[i]));
	orphans_move(&moved, &second);
	assert_int_equal(second.pid, 0);
	end(&desk, &moved);
	wait_gone(&desk, &moved);
	assert_int_equal(moved.left.n, 3);
	orphans_remove(&first);
	orphans_remove(&moved);
	close_desk(&desk);
}

/* What is looked at for the end of one child may be what another has left already. */
static void test_the_end_that_nobody_noted_yet(void **state)
{
	struct orphans_kin first = { 0 };
	struct orphans_kin writer = { 0 };
	struct orphans_kin second = { 0 };
	pid_t of_second[2];
	siginfo_t info;
	struct desk desk;

	(void)state;
	open_desk(&desk);
	orphans_add(desk.loop, &first, start(0, NULL));
	orphans_add(desk.loop, &second, start(2, of_second));
	orphans_add_own(desk.loop, &writer, start(0, NULL));
	end(&desk, &first);
	assert_return_code(kill(writer.pid, SIGKILL), 0);
	assert_return_code(waitid(P_PID, (id_t)writer.pid, &info, WEXITED | WNOWAIT), 0);
	assert_return_code(kill(second.pid, SIGKILL), 0);
	assert_return_code(waitid(P_PID, (id_t)second.pid, &info, WEXITED | WNOWAIT), 0);
	/* The timer of the end of the first one. */
	while (second.left.n == 0)
		(void)ev_run(desk.loop, EVRUN_ONCE);
	orphans_on_end(desk.loop, &second);
	assert_return_code(waitid(P_PID, (id_t)second.pid, &info, WEXITED), 0);
	wait_gone(&desk, &second);
	assert_int_equal(first.left.n + writer.left.n, 0);
	assert_int_equal(second.left.n, 2);
	assert_return_code(waitid(P_PID, (id_t)writer.pid, &info, WEXITED), 0);
	orphans_remove(&first);
	orphans_remove(&writer);
	orphans_remove(&second);
	close_desk(&desk);
}

/* Children that were inherited before belong to others, and are left alone. */
static void test_what_was_inherited_is_left_alone(void **state)
{
	struct orphans_kin kin = { 0 };
	pid_t inherited = fork();
	pid_t left[1];
	struct desk desk;

	(void)state;
	if (inherited == 0) {
		(void)alarm(60);
		for (;;)
			(void)pause();
	}
	open_desk(&desk);
	orphans_add(desk.loop, &kin, start(1, left));
	end(&desk, &kin);
	assert_true(is_there(inherited));
	orphans_remove(&kin);
	orphans_free(desk.orphans);
	ev_loop_destroy(desk.loop);
	assert_true(is_there(inherited));
	assert_return_code(kill(inherited, SIGKILL), 0);
	assert_int_equal(waitpid(inherited, NULL, 0), inherited);
	/* The process, a fork of this program, has neither a mark nor a parent that tells. */
	if (is_there(left[0])) {
		assert_return_code(kill(left[0], SIGKILL), 0);
		assert_int_equal(waitpid(left[0], NULL, 0), left[0]);
	}
}

static void test_sums(void **state)
{
	struct orphans_left sum = { 0 };
	const struct orphans_left none = { 0 };
	struct orphans_left one = {
		.n = 1, .n_alive = 1, .bytes = 5, .who = "a (pid 1)"
	};

	(void)state;
	orphans_sum(&sum, &none);
	assert_string_equal(sum.who, "");
	orphans_sum(&sum, &one);
	orphans_sum(&sum, &none);
	orphans_sum(&sum, &one);
	assert_string_equal(sum.who, "a (pid 1), a (pid 1)");
	assert_int_equal(sum.n, 2);
	assert_int_equal(sum.n_alive, 2);
	assert_int_equal(sum.bytes, 10);
	memset(one.who, 'x', ORPHANS_WHO_MAX - 1);
	orphans_sum(&sum, &one);
	assert_true(strlen(sum.who) < ORPHANS_WHO_MAX);
}

/* Without orphans' state on the loop nothing is done, and nothing is asked for. */
static void test_a_loop_without(void **state)
{
	struct orphans_kin kin = { 0 };
	struct ev_loop *loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
	char path[64];

	(void)state;
	assert_null(orphans_mark(loop));
	assert_false(orphans_prepare(loop, &kin, path, sizeof(path)));
	orphans_add(loop, &kin, getpid());
	orphans_on_end(loop, &kin);
	orphans_cancel(loop, &kin);
	assert_true(orphans_are_gone(loop, &kin));
	orphans_remove(&kin);
	orphans_free(NULL);
	ev_loop_destroy(loop);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_left_is_counted_named_and_ended),
		cmocka_unit_test(test_one_ends_and_the_other_goes_on),
		cmocka_unit_test(test_the_end_that_nobody_noted_yet),
		cmocka_unit_test(test_what_was_inherited_is_left_alone),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_a_loop_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
