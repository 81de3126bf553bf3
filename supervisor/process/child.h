/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A child process: spawned, signalled and reaped through its pidfd, its stdout and
 * stderr relayed line by line (child_log.h). No policy. Only this module and orphans.h
 * wait for children; the loop must come from ev_loop_new(), because libev's default
 * loop reaps everybody's.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/err.h"
#include "supervisor/process/child_log.h"
#include "supervisor/process/orphans.h"

struct child_listener {
	/* The process is reaped; @status as waitpid() gives it. The last call. */
	void (*on_exit)(void *context, int status);
	/* A line of its stdout or stderr, without the newline. */
	void (*on_line)(void *context, const char *line);
	void *context;
};

struct child {
	struct ev_loop *loop;
	const struct child_listener *listener;
	pid_t pid; /* 0: none */
	int pidfd;
	struct orphans_kin kin; /* left behind, until the next child_spawn() */
	ev_io exit_io;
	struct child_log log;
};

/* No process until child_spawn(), which takes a zeroed struct, too. */
void child_init(struct child *child);

/*
 * Starts @argv[0] with @control_fd as descriptor 3 (the caller still owns its copy),
 * stdin from /dev/null, stdout and stderr into the log, and no other descriptor.
 * Signals are reset, the session is its own, and of the environment it gets only what a
 * framework may need, and before that @extra, "NAME=VALUE" texts up to a NULL, or NULL.
 * posix_spawn(): the cost does not grow with the supervisor. 0, or -errno with a
 * sentence (ENOMEM and EAGAIN are normal outcomes).
 */
int child_spawn(struct child *child, struct ev_loop *loop, char *const argv[],
                char *const *extra, int control_fd, const struct child_listener *listener,
                struct err *err);

/* Moves everything from @from to @to; @listener gets the news from now on. */
void child_move(struct child *to, struct child *from,
                const struct child_listener *listener);

/* Sends @signal through the pidfd, so never to a recycled pid. */
void child_signal(struct child *child, int signal);

/* "exit code 65" or "signal 9 (Killed)" into @text. */
const char *child_describe(int status, char *text, size_t size);

/* Stops watching; kills and reaps a child that still lives. Waits two seconds at most:
 * some cannot die. */
void child_fini(struct child *child);
