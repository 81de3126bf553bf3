/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Lines that a child writes to its stdout and stderr, up to a limit: beyond
 * CHILD_LOG_LINES and CHILD_LOG_BYTES at once, and a slow rate after that, lines are
 * dropped and counted. Meanwhile the pipe is emptied at intervals, so that a child
 * which writes without end costs next to nothing; the child waits for room in the pipe
 * then.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#define CHILD_LINE_MAX 1024
/* A framework's worst traceback, several times over. */
#define CHILD_LOG_LINES 1000
#define CHILD_LOG_BYTES (UINT64_C(256) << 10)
/* Allowance that comes back each second. */
#define CHILD_LOG_LINES_S 20
#define CHILD_LOG_BYTES_S (UINT64_C(8) << 10)

struct child_log {
	struct ev_loop *loop; /* NULL: not open */
	/* Gets each line, without the newline. */
	void (*on_line)(void *context, const char *line);
	void *context;
	int fd;
	ev_io io;
	ev_timer pause; /* lines are being dropped */
	size_t line_bytes;
	char line[CHILD_LINE_MAX];
	/* Allowance left. */
	double lines;
	double bytes;
	uint64_t filled_ns;
	uint64_t drops_since_ns; /* 0: no line is being dropped */
	uint64_t dropped_lines;
	uint64_t dropped_bytes;
	bool has_last; /* @last holds a line that was dropped */
	char last[CHILD_LINE_MAX];
};

/* Opens @log on @fd, the reading end of a non-blocking pipe; owned by @log from now
 * on. */
void child_log_open(struct child_log *log, struct ev_loop *loop, int fd,
                    void (*on_line)(void *context, const char *line), void *context);
/* Moves everything from @from to @to; @on_line of @to gets the lines from now on. */
void child_log_move(struct child_log *to, struct child_log *from,
                    void (*on_line)(void *context, const char *line), void *context);
/* Passes on, after the death of the child, what is in the pipe, the last line in any
 * case, and the count of dropped lines. Does not wait for others that have the pipe
 * open. */
void child_log_drain(struct child_log *log);
/* Closes the pipe. Accepts a zeroed log. */
void child_log_close(struct child_log *log);
