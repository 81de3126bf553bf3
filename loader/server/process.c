/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The child asks for the death signal first and then looks whether its parent had died before.
 * An exec that fails is told through a pipe that a successful one closes.
 *
 * The end: SIGTERM to the group, then SIGKILL to whatever is still below the loader. The loader is
 * the subreaper of all of it, so that a process which left its group, its session and its parents
 * is found there. One that forks while it is killed shows in the next round.
 */
#include "loader/server/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/descendants.h"

#define SERVER_LOG_PIECE  4096
#define SERVER_LOG_PIECES 16 /* of one look */
/* The time between two looks at a tree that is to end. */
#define SERVER_LOOK_MS 10
/* What the server's first process leaves behind may take so long to end by itself. */
#define SERVER_REST_NS (CLOCK_NS_PER_SEC / 2)
/* Killed processes die within milliseconds, or hang in the kernel: then they are left to moultd. */
#define SERVER_KILL_NS (2 * CLOCK_NS_PER_SEC)

extern char **environ;

/* In the child */

static void server_child_run(pid_t parent, int log_fd, int exec_fd, const char *path,
                             char *const *words)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int error;

	(void)setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	/* The loader ignores it; a program expects that it ends one. */
	(void)signal(SIGXFSZ, SIG_DFL);
	if (null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 &&
	    dup2(log_fd, STDOUT_FILENO) >= 0 && dup2(log_fd, STDERR_FILENO) >= 0 &&
	    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		(void)execve(path, words, environ);
	error = errno;
	(void)!write(exec_fd, &error, sizeof(error));
	_exit(127);
}

/* Start */

/* Waits for the exec. 0 or -errno of it. */
static int server_await_exec(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == sizeof(error) ? -error : 0;
}

static int server_fail_start(const char *path, int r, struct err *err)
{
	if (r == -ENOENT)
		return err_set(
			err, r,
			"'%.200s' cannot be executed: what its first line names, or "
			"its dynamic loader, is not there: mend that line, or make "
			"the virtual environment again",
			path);
	if (r == -ENOEXEC)
		return err_set(err, r,
		               "'%.200s' cannot be executed: it is no program of this "
		               "machine, and has no first line such as #!/bin/sh",
		               path);
	return err_set(err, r, "'%.200s' cannot be executed: %s", path, strerror(-r));
}

int server_process_start(struct server_process *process, const char *path,
                         char *const *words, struct err *err)
{
	pid_t parent = getpid();
	CLOSE_FD int log_read = -1;
	CLOSE_FD int log_write = -1;
	CLOSE_FD int exec_read = -1;
	int fds[2];
	int r;

	*process = (struct server_process)SERVER_PROCESS_NULL;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "no pipe: %s", strerror(errno));
	log_read = fds[0];
	log_write = fds[1];
	(void)fcntl(log_read, F_SETFL, O_NONBLOCK);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "no pipe: %s", strerror(errno));
	exec_read = fds[0];
	process->pid = fork();
	if (process->pid == 0)
		server_child_run(parent, log_write, fds[1], path, words);
	close_fd(&fds[1]);
	if (process->pid < 0) {
		process->pid = 0;
		return err_set(err, -errno, "no process: %s", strerror(errno));
	}
	process->pidfd = pidfd_open(process->pid, 0);
	process->log_fd = take_fd(&log_read);
	r = server_await_exec(exec_read);
	if (r < 0)
		return server_fail_start(path, r, err);
	return process->pidfd < 0 ? err_set(err, -errno, "no pidfd: %s", strerror(errno))
	                          : 0;
}

/* What it prints */

static void server_keep_line(struct server_process *process)
{
	char *line = process->line;

	while (process->line_bytes > 0 && strchr(" \t\r", line[process->line_bytes - 1]))
		process->line_bytes--;
	line[process->line_bytes] = '\0';
	if (process->line_bytes > 0)
		memcpy(process->last_line, line, process->line_bytes + 1);
	process->line_bytes = 0;
}

static void server_note(struct server_process *process, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\n')
			server_keep_line(process);
		else if (process->line_bytes < SERVER_LINE_MAX - 1 &&
		         (process->line_bytes > 0 || text[i] != ' '))
			process->line[process->line_bytes++] =
				(unsigned char)text[i] < ' ' ? ' ' : text[i];
	}
}

static void server_pass_on(const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(STDERR_FILENO, text, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		bytes -= (size_t)n;
	}
}

void server_process_read_log(struct server_process *process)
{
	char text[SERVER_LOG_PIECE];

	for (int i = 0; i < SERVER_LOG_PIECES && process->log_fd >= 0; i++) {
		ssize_t n = read(process->log_fd, text, sizeof(text));

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			n = 0;
		if (n < 0)
			return;
		if (n == 0) {
			close_fd(&process->log_fd);
			return;
		}
		server_note(process, text, (size_t)n);
		server_pass_on(text, (size_t)n);
	}
}

/* The end */

bool server_process_look(struct server_process *process)
{
	siginfo_t info = { .si_pid = 0 };
	int r;

	if (process->has_ended || process->pidfd < 0)
		return process->has_ended;
	r = waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG);
	if (r == 0 && info.si_pid == 0)
		return false;
	/* ECHILD: the loader, which reaps the oldest of many dead children, was first. */
	process->has_ended = true;
	process->is_status_known = r == 0;
	process->status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
	                                             : W_EXITCODE(0, info.si_status);
	close_fd(&process->pidfd);
	server_process_read_log(process);
	server_keep_line(process);
	return true;
}

void server_process_tell(const struct server_process *process, struct err *ret_how)
{
	pid_t pids[DESCENDANTS_MAX];
	int status = process->status;
	struct err how;

	if (!process->is_status_known)
		(void)err_set(&how, 0, "ended");
	else if (WIFSIGNALED(status))
		(void)err_set(&how, 0, "was killed by signal %d (%s)", WTERMSIG(status),
		              strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 0 && descendants_list(pids, DESCENDANTS_MAX) > 0)
		(void)err_set(
			&how, 0,
			"went into the background: its first process exited with "
			"status 0 and left others, which moult ends; have it stay in "
			"the foreground");
	else
		(void)err_set(&how, 0, "exited with status %d", WEXITSTATUS(status));
	if (*process->last_line)
		(void)err_set(ret_how, 0, "%s; it said last: %s", how.text,
		              process->last_line);
	else
		(void)err_set(ret_how, 0, "%s; it said nothing", how.text);
}

int server_process_was_killed(const struct server_process *process)
{
	static const int outside[] = { SIGKILL, SIGTERM, SIGINT, SIGHUP };

	if (process->is_status_known && WIFSIGNALED(process->status))
		for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
			if (WTERMSIG(process->status) == outside[i])
				return outside[i];
	return 0;
}

/* Reaps what has died. True: no child is left, nor anything below one. */
static bool server_reap(struct server_process *process)
{
	siginfo_t info;

	(void)server_process_look(process);
	for (;;) {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0)
			return errno == ECHILD;
		if (info.si_pid == 0)
			return false;
	}
}

static void server_kill_tree(void)
{
	pid_t pids[DESCENDANTS_MAX];
	size_t n = descendants_list(pids, DESCENDANTS_MAX);

	for (size_t i = 0; i < n; i++)
		(void)kill(pids[i], SIGKILL);
}

/* Looks, and waits for a moment. True: nothing is left. */
static bool server_await_look(struct server_process *process)
{
	struct pollfd pollfds[] = {
		{ .fd = process->pidfd, .events = POLLIN },
		{ .fd = process->log_fd, .events = POLLIN },
	};

	if (server_reap(process))
		return true;
	(void)poll(pollfds, 2, SERVER_LOOK_MS);
	server_process_read_log(process);
	return false;
}

/* Waits until nothing is left. After its first process the rest has a moment only. */
static bool server_await_end(struct server_process *process, uint64_t until_ns)
{
	while (!server_await_look(process)) {
		uint64_t now_ns = clock_now_ns();

		if (now_ns >= until_ns)
			return false;
		if (process->has_ended && until_ns > now_ns + SERVER_REST_NS)
			until_ns = now_ns + SERVER_REST_NS;
	}
	return true;
}

static void server_kill_all(struct server_process *process)
{
	uint64_t until_ns = clock_now_ns() + SERVER_KILL_NS;

	do
		server_kill_tree();
	while (!server_await_look(process) && clock_now_ns() < until_ns);
}

void server_process_stop(struct server_process *process, uint64_t until_ns)
{
	if (process->pid > 0) {
		if (!process->has_ended)
			(void)kill(-process->pid, SIGTERM);
		if (process->has_ended || !server_await_end(process, until_ns))
			server_kill_all(process);
	}
	server_process_read_log(process);
	close_fd(&process->pidfd);
	close_fd(&process->log_fd);
	process->pid = 0;
}
