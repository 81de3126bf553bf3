/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum log_level log_level = LOG_LEVEL_INFO;
static bool log_to_journal;

/* systemd.exec(5): JOURNAL_STREAM is device:inode of the stream that the journal reads. A
 * process that inherits the variable may have another stderr. */
static bool log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat status;
	char own[64];

	if (!stream || fstat(STDERR_FILENO, &status) < 0)
		return false;
	(void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)status.st_dev,
	               (uintmax_t)status.st_ino);
	return strcmp(stream, own) == 0;
}

void log_init(enum log_level level)
{
	log_level = level;
	log_to_journal = log_is_journal();
}

void log_set_level(enum log_level level)
{
	log_level = level;
}

static const char *const log_level_names[] = {
	[LOG_LEVEL_ERR] = "err",       [LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_NOTICE] = "notice", [LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

const char *log_level_name(enum log_level level)
{
	return log_level_names[level];
}

int log_level_from_name(const char *name, enum log_level *ret_level)
{
	for (int level = LOG_LEVEL_ERR; level <= LOG_LEVEL_DEBUG; level++) {
		if (strcmp(log_level_names[level], name) == 0) {
			*ret_level = (enum log_level)level;
			return 0;
		}
	}
	return -EINVAL;
}

static size_t log_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm utc;
	size_t used;
	int n;

	if (log_to_journal) {
		n = snprintf(line, size, "<%d>", (int)level);
		return n > 0 ? (size_t)n : 0;
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	used = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
	n = snprintf(line + used, size - used, ".%03ldZ level=%s ", now.tv_nsec / 1000000,
	             log_level_names[level]);
	return used + (n > 0 ? (size_t)n : 0);
}

/* A reader that has stopped must not stop the service: without room the line is dropped,
 * and the next line that goes out is preceded by the number of lost ones. A pipe that polls
 * writable takes PIPE_BUF bytes (pipe(7)), which is a whole line. */
static void log_write(const char *line, size_t bytes)
{
	static unsigned int n_dropped;
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	char lost[64];
	int n;

	if (poll(&out, 1, 0) == 0) {
		n_dropped++;
		return;
	}
	if (n_dropped > 0) {
		n = snprintf(lost, sizeof(lost), "event=log_lost lines=%u\n", n_dropped);
		n_dropped = 0;
		(void)!write(STDERR_FILENO, lost, (size_t)n);
		if (poll(&out, 1, 0) == 0) {
			n_dropped++;
			return;
		}
	}
	(void)!write(STDERR_FILENO, line, bytes);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
	char line[4096];
	size_t used;
	va_list args;
	int n;

	if (level > log_level)
		return;
	used = log_prefix(line, sizeof(line), level);
	n = snprintf(line + used, sizeof(line) - used, "event=%s ", event);
	used += n > 0 ? (size_t)n : 0;
	va_start(args, format);
	n = vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	used += n > 0 ? (size_t)n : 0;
	if (used > sizeof(line) - 2)
		used = sizeof(line) - 2;
	line[used++] = '\n';
	/* A single write keeps the lines of several processes on one pipe whole. */
	log_write(line, used);
}

const char *log_quote(struct log_quoted *storage, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	char *out = storage->text;
	const char *end = storage->text + sizeof(storage->text) - 6;

	*out++ = '"';
	for (; text && *text && out < end; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			*out++ = '\\';
			*out++ = (char)c;
		} else if (c < 0x20 || c == 0x7f) {
			*out++ = '\\';
			*out++ = 'x';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
		} else {
			*out++ = (char)c;
		}
	}
	*out++ = '"';
	*out = '\0';
	return storage->text;
}
