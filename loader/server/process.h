/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The server: a program in a process group of its own, and all that it starts. It ends with the
 * loader, however that goes.
 *
 * What it prints goes into the loader's log, and its last line is kept for the sentence that says
 * how it ended.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shared/err.h"

#define SERVER_LINE_MAX 200

struct server_process {
	pid_t pid; /* 0: none was started */
	int pidfd; /* -1: none, or it has ended */
	int log_fd;
	bool has_ended;
	bool is_status_known;
	int status; /* of wait(2) */
	char line[SERVER_LINE_MAX];
	size_t line_bytes;
	char last_line[SERVER_LINE_MAX]; /* that was not blank */
};

#define SERVER_PROCESS_NULL                                                              \
	{                                                                                \
		.pidfd = -1, .log_fd = -1                                                \
	}

/* Starts the program at @path. Only from the loader's first thread, which the kernel takes for
 * the parent. 0, or -errno with a sentence. */
int server_process_start(struct server_process *process, const char *path,
                         char *const *words, struct err *err);
/* Passes on what the server has printed. Never blocks for the server. */
void server_process_read_log(struct server_process *process);
/* True: the first process has ended. */
bool server_process_look(struct server_process *process);
/* Says how it ended, and its last line: "exited with status 3, and said last: ...". */
void server_process_tell(const struct server_process *process, struct err *ret_how);
/* The signal from outside that ended it, as SIGKILL; 0: another end. */
int server_process_was_killed(const struct server_process *process);
/* Ends it and all that it started: asks, waits until @until_ns at most, then kills. Only from
 * the first thread. */
void server_process_stop(struct server_process *process, uint64_t until_ns);
