/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A bucket of lines and bytes that fills at a slow rate. While it lasts, the loop reads
 * the pipe and each line goes to the listener. The first line that it has no room for
 * stops the loop's watcher: from then on a timer empties the pipe every LOG_PAUSE_S and
 * drops all lines, so that a child in an endless loop of prints wakes moultd 20 times a
 * second and not for each line. After a second the count is told and reading goes on as
 * before. The last dropped line is kept: a dying child's last words are the ones that
 * matter, see child_log_drain().
 */

#include "supervisor/process/child_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"

/* Most bytes read at a time: a chatty child must not hold the loop. */
#define LOG_READ_BYTES (64 * 1024)
/* The same for a child that is dead. */
#define LOG_DRAIN_BYTES (1024 * 1024)
/* How often the pipe is emptied while lines are dropped, and its size then. */
#define LOG_PAUSE_S    0.05
#define LOG_PIPE_BYTES (1024 * 1024)
/* Dropped lines are reported after this time. */
#define LOG_TELL_NS CLOCK_NS_PER_SEC

static void log_fill(struct child_log *log)
{
	uint64_t now_ns = clock_now_ns();
	double s = (double)(now_ns - log->filled_ns) / 1e9;

	log->filled_ns = now_ns;
	log->lines += s * CHILD_LOG_LINES_S;
	log->bytes += s * (double)CHILD_LOG_BYTES_S;
	if (log->lines > CHILD_LOG_LINES)
		log->lines = CHILD_LOG_LINES;
	if (log->bytes > (double)CHILD_LOG_BYTES)
		log->bytes = (double)CHILD_LOG_BYTES;
}

/* Stops the loop's watcher: the timer reads the pipe from here on. */
static void log_begin_dropping(struct child_log *log)
{
	log->drops_since_ns = log->filled_ns;
	/* An unprivileged user may be refused: the pipe keeps its size then. */
	(void)fcntl(log->fd, F_SETPIPE_SZ, LOG_PIPE_BYTES);
	ev_io_stop(log->loop, &log->io);
	ev_timer_again(log->loop, &log->pause);
}

static void log_tell(struct child_log *log)
{
	char text[160];

	if (log->dropped_lines == 0)
		return;
	(void)snprintf(
		text, sizeof(text),
		"(%llu lines dropped, %llu bytes: more than %d lines or %llu bytes "
		"a second)",
		(unsigned long long)log->dropped_lines,
		(unsigned long long)log->dropped_bytes, CHILD_LOG_LINES_S,
		(unsigned long long)CHILD_LOG_BYTES_S);
	log->dropped_lines = log->dropped_bytes = 0;
	log->on_line(log->context, text);
}

static void log_drop(struct child_log *log)
{
	log->dropped_lines++;
	log->dropped_bytes += log->line_bytes + 1;
	log->has_last = true;
	memcpy(log->last, log->line, log->line_bytes + 1);
}

static void log_emit(struct child_log *log)
{
	log->line[log->line_bytes] = '\0';
	if (log->line_bytes == 0)
		return;
	if (log->drops_since_ns == 0 &&
	    (log->lines < 1 || log->bytes < (double)log->line_bytes)) {
		log_fill(log);
		if (log->lines < 1 || log->bytes < (double)log->line_bytes)
			log_begin_dropping(log);
	}
	if (log->drops_since_ns) {
		log_drop(log);
	} else {
		log->lines -= 1;
		log->bytes -= (double)log->line_bytes;
		log->has_last = false;
		log->on_line(log->context, log->line);
	}
	log->line_bytes = 0;
}

static void log_split(struct child_log *log, const char *chunk, size_t bytes)
{
	while (bytes > 0) {
		const char *end = memchr(chunk, '\n', bytes);
		size_t n = end ? (size_t)(end - chunk) : bytes;
		size_t room = CHILD_LINE_MAX - 1 - log->line_bytes;

		if (n > room) {
			n = room;
			end = NULL;
		}
		memcpy(log->line + log->line_bytes, chunk, n);
		log->line_bytes += n;
		if (end || log->line_bytes == CHILD_LINE_MAX - 1)
			log_emit(log);
		n += end != NULL;
		chunk += n;
		bytes -= n;
	}
}

/* Reads what the pipe holds, at most @limit bytes. */
static void log_read(struct child_log *log, size_t limit)
{
	char chunk[16384];

	while (limit > 0) {
		ssize_t n = read(log->fd, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			ev_io_stop(log->loop, &log->io);
			ev_timer_stop(log->loop, &log->pause);
			return;
		}
		log_split(log, chunk, (size_t)n);
		limit -= (size_t)n < limit ? (size_t)n : limit;
	}
}

static void log_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	log_read(io->data, LOG_READ_BYTES);
}

/* Reports the dropped lines a second after the first of them; the allowance has grown
 * by then. */
static void log_on_pause(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct child_log *log = timer->data;

	(void)revents;
	log_read(log, LOG_PIPE_BYTES);
	if (!ev_is_active(timer) || clock_now_ns() - log->drops_since_ns < LOG_TELL_NS)
		return;
	log_tell(log);
	log_fill(log);
	log->drops_since_ns = 0;
	ev_timer_stop(loop, timer);
	ev_io_start(loop, &log->io);
}

static void log_watch(struct child_log *log)
{
	ev_io_init(&log->io, log_on_io, log->fd, EV_READ);
	log->io.data = log;
	ev_init(&log->pause, log_on_pause);
	log->pause.repeat = LOG_PAUSE_S;
	log->pause.data = log;
}

void child_log_open(struct child_log *log, struct ev_loop *loop, int fd,
                    void (*on_line)(void *context, const char *line), void *context)
{
	*log = (struct child_log){
		.loop = loop,
		.on_line = on_line,
		.context = context,
		.fd = fd,
		.lines = CHILD_LOG_LINES,
		.bytes = (double)CHILD_LOG_BYTES,
		.filled_ns = clock_now_ns(),
	};
	log_watch(log);
	ev_io_start(loop, &log->io);
}

void child_log_move(struct child_log *to, struct child_log *from,
                    void (*on_line)(void *context, const char *line), void *context)
{
	bool is_read = ev_is_active(&from->io); /* inactive after the end of the pipe */
	bool is_paused = ev_is_active(&from->pause);

	ev_io_stop(from->loop, &from->io);
	ev_timer_stop(from->loop, &from->pause);
	*to = *from;
	*from = (struct child_log){ 0 };
	to->on_line = on_line;
	to->context = context;
	log_watch(to);
	if (is_read)
		ev_io_start(to->loop, &to->io);
	if (is_paused)
		ev_timer_again(to->loop, &to->pause);
}

void child_log_drain(struct child_log *log)
{
	if (!log->loop)
		return;
	log_read(log, LOG_DRAIN_BYTES);
	log_emit(log);
	log_tell(log);
	if (log->has_last)
		log->on_line(log->context, log->last);
	log->has_last = false;
}

void child_log_close(struct child_log *log)
{
	if (!log->loop)
		return;
	ev_io_stop(log->loop, &log->io);
	ev_timer_stop(log->loop, &log->pause);
	close_fd(&log->fd);
	log->loop = NULL;
}
