/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Children are started with posix_spawn(), never with a bare fork(), and followed by
 * pidfd: the number of a dead process may be another's by the time a signal is sent.
 *
 * The order at the end matters. child_on_exit() looks at the exit without reaping
 * (WNOWAIT), lets orphans_on_end() find the processes left behind while the pid is
 * still taken, reaps, drains the log, and then tells the listener: its on_exit() is the
 * last call, and may spawn again.
 */

#include "supervisor/process/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/proto.h"

#define CHILD_ENVIRONMENT_MAX 128
/* Longest wait of child_fini() for a killed child, in ms. */
#define CHILD_FINI_MS 2000

extern char **environ;

/* Names or prefixes (ending in '_') that reach a loader. Not NOTIFY_SOCKET, WATCHDOG_*,
 * LISTEN_*: those are the supervisor's own. */
static const char *const child_environment[] = {
	"PATH",      "HOME",  "LANG",    "TZ",    "TMPDIR",  "LD_LIBRARY_PATH", "LC_",
	"OMP_",      "MKL_",  "KMP_",    "CUDA_", "NVIDIA_", "PYTORCH_",        "TORCH_",
	"OPENBLAS_", "GOTO_", "MALLOC_", "ASAN_", "UBSAN_",  "LSAN_",           "NCCL_",
};

static bool child_may_see(const char *variable)
{
	size_t n = sizeof(child_environment) / sizeof(child_environment[0]);

	for (size_t i = 0; i < n; i++) {
		const char *name = child_environment[i];
		size_t bytes = strlen(name);

		if (strncmp(variable, name, bytes) == 0 &&
		    (name[bytes - 1] == '_' || variable[bytes] == '='))
			return true;
	}
	return false;
}

/* @mark and @group are "NAME=VALUE" or NULL. */
static void child_filter_environment(char **ret_environment, char *const *extra,
                                     const char *mark, const char *group)
{
	size_t n = 0;

	for (; extra && *extra && n + 4 < CHILD_ENVIRONMENT_MAX; extra++)
		ret_environment[n++] = *extra;
	/* posix_spawn() only reads. */
	if (mark)
		ret_environment[n++] = (char *)(uintptr_t)mark;
	if (group)
		ret_environment[n++] = (char *)(uintptr_t)group;

	for (char **variable = environ; *variable; variable++)
		if (n + 1 < CHILD_ENVIRONMENT_MAX && child_may_see(*variable))
			ret_environment[n++] = *variable;
	ret_environment[n] = NULL;
}

static void child_stop_watching(struct child *child)
{
	if (!child->loop)
		return;
	ev_io_stop(child->loop, &child->exit_io);
	close_fd(&child->pidfd);
	child_log_close(&child->log);
}

static void child_on_exit(struct ev_loop *loop, ev_io *io, int revents)
{
	struct child *child = io->data;
	siginfo_t info = { .si_pid = 0 };
	int status;

	(void)revents;
	if (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    info.si_pid == 0)
		return;
	orphans_on_end(loop, &child->kin);
	(void)waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
	status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
	                                    : W_EXITCODE(0, info.si_status);
	child_log_drain(&child->log);
	child_stop_watching(child);
	child->pid = 0;
	child->listener->on_exit(child->listener->context, status);
}

static int child_set_actions(posix_spawn_file_actions_t *actions, int control_fd,
                             int log_fd)
{
	int r;

	r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY,
	                                     0);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, log_fd, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, log_fd, STDERR_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, control_fd,
		                                     PROTO_CONTROL_FD);
	return r;
}

static int child_do_spawn(struct child *child, char *const argv[], char *const *extra,
                          int control_fd, int log_fd)
{
	static const char variable[] = PROTO_CGROUP_VARIABLE "=";
	char *environment[CHILD_ENVIRONMENT_MAX];
	char group[PATH_MAX + sizeof(variable)];
	char *path = stpcpy(group, variable);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	sigset_t all;
	int r;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	child_filter_environment(environment, extra, orphans_mark(child->loop),
	                         orphans_prepare(child->loop, &child->kin, path, PATH_MAX)
	                                 ? group
	                                 : NULL);
	r = posix_spawn_file_actions_init(&actions);
	if (r)
		return r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return r;
	}
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	/* A session of its own: a terminal's Ctrl-C is for the supervisor alone, and
	 * orphans.c knows descendants by their session. */
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
	                                              POSIX_SPAWN_SETSIGDEF |
	                                              POSIX_SPAWN_SETSID);
	r = child_set_actions(&actions, control_fd, log_fd);
	if (r == 0)
		r = posix_spawn(&child->pid, argv[0], &actions, &attr, argv, environment);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return r;
}

static void child_watch(struct child *child)
{
	ev_io_init(&child->exit_io, child_on_exit, child->pidfd, EV_READ);
	child->exit_io.data = child;
	ev_io_start(child->loop, &child->exit_io);
}

void child_init(struct child *child)
{
	*child = (struct child){ .pidfd = -1 };
}

int child_spawn(struct child *child, struct ev_loop *loop, char *const argv[],
                char *const *extra, int control_fd, const struct child_listener *listener,
                struct err *err)
{
	CLOSE_FD int log_read = -1;
	CLOSE_FD int log_write = -1;
	int fds[2];
	int r;

	orphans_remove(&child->kin);
	*child = (struct child){ .loop = loop, .pidfd = -1 };
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_set(err, -errno, "no pipe for the loader's log: %s",
		               strerror(errno));
	log_read = fds[0];
	log_write = fds[1];
	/* The child's end blocks: a full pipe must not make its writes fail. */
	(void)fcntl(log_write, F_SETFL, 0);
	r = child_do_spawn(child, argv, extra, control_fd, log_write);
	if (r) {
		child->pid = 0;
		orphans_cancel(loop, &child->kin);
		return err_set(err, -r, "cannot start %s: %s", argv[0],
		               access_why(&(struct err)ERR_NULL, argv[0], X_OK, r));
	}
	/* No other code reaps this child, so the pid cannot have been recycled. */
	child->pidfd = pidfd_open(child->pid, 0);
	if (child->pidfd < 0) {
		r = -errno;
		(void)kill(child->pid, SIGKILL);
		(void)waitpid(child->pid, NULL, 0);
		child->pid = 0;
		orphans_cancel(loop, &child->kin);
		return err_set(err, r, "no pidfd for the loader: %s", strerror(-r));
	}
	orphans_add(loop, &child->kin, child->pid);
	child->listener = listener;
	child_log_open(&child->log, loop, take_fd(&log_read), listener->on_line,
	               listener->context);
	child_watch(child);
	return 0;
}

void child_move(struct child *to, struct child *from,
                const struct child_listener *listener)
{
	ev_io_stop(from->loop, &from->exit_io);
	orphans_remove(&to->kin);
	*to = *from;
	to->kin = (struct orphans_kin){ 0 };
	child_log_move(&to->log, &from->log, listener->on_line, listener->context);
	orphans_move(&to->kin, &from->kin);
	child_init(from);
	to->listener = listener;
	child_watch(to);
}

void child_signal(struct child *child, int signal)
{
	if (child->pidfd >= 0)
		(void)pidfd_send_signal(child->pidfd, signal, NULL, 0);
}

const char *child_describe(int status, char *text, size_t size)
{
	if (WIFSIGNALED(status))
		(void)snprintf(text, size, "signal %d (%s)", WTERMSIG(status),
		               strsignal(WTERMSIG(status)));
	else
		(void)snprintf(text, size, "exit code %d", WEXITSTATUS(status));
	return text;
}

void child_fini(struct child *child)
{
	if (child->pid > 0) {
		struct pollfd pollfd = { .fd = child->pidfd, .events = POLLIN };
		siginfo_t info;

		child_signal(child, SIGKILL);
		if (poll(&pollfd, 1, CHILD_FINI_MS) > 0) {
			orphans_on_end(child->loop, &child->kin);
			(void)waitid(P_PIDFD, (id_t)child->pidfd, &info,
			             WEXITED | WNOHANG);
		}
		child->pid = 0;
	}
	orphans_remove(&child->kin);
	child_stop_watching(child);
}
