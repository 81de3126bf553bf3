/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a child writes to its stdout and stderr, line by line and only so much of it: beyond
 * CHILD_LOG_LINES and CHILD_LOG_BYTES at once, and a slow rate after that, lines are dropped
 * and counted. While they are, the pipe is emptied at intervals, so that a child which
 * writes without end costs next to nothing; it waits for room in the pipe then.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#define CHILD_LINE_MAX 1024
/* A framework's worst traceback, several times over. */
#define CHILD_LOG_LINES 1000
#define CHILD_LOG_BYTES (UINT64_C(256) << 10)
/* A second's worth of what comes back. */
#define CHILD_LOG_LINES_S 20
#define CHILD_LOG_BYTES_S (UINT64_C(8) << 10)

struct child_log {
	struct ev_loop *loop; /* NULL: not open */
	/* One line, without the newline. */
	void (*on_line)(void *context, const char *line);
	void *context;
	int fd;
	ev_io io;
	ev_timer pause; /* lines are being dropped */
	size_t line_bytes;
	char line[CHILD_LINE_MAX];
	/* What may still be passed on. */
	double lines;
	double bytes;
	uint64_t filled_ns;
	uint64_t drops_since_ns; /* 0: none is being dropped */
	uint64_t dropped_lines;
	uint64_t dropped_bytes;
	bool has_last; /* the last one was dropped: @last */
	char last[CHILD_LINE_MAX];
};

/* @fd is the reading end of a pipe that does not block; owned by @log from now on. */
void child_log_open(struct child_log *log, struct ev_loop *loop, int fd,
                    void (*on_line)(void *context, const char *line), void *context);
/* @to takes over what @from has. */
void child_log_move(struct child_log *to, struct child_log *from,
                    void (*on_line)(void *context, const char *line), void *context);
/* The child is dead: what is in the pipe, the last line in any case, and what was dropped. Who
 * else has the pipe open is not waited for. */
void child_log_drain(struct child_log *log);
/* Accepts a zeroed one. */
void child_log_close(struct child_log *log);
