/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Logs one event as one line on stderr: key=value pairs behind a syslog priority `<N>` that the
 * journal understands. Outside the journal a time and level=NAME stand in front instead.
 *
 * Levels: ERR: somebody must act; WARNING: moult coped, and the line says how; NOTICE: life
 * cycle; INFO: detail; DEBUG: the rest. Nothing per request above DEBUG. Never a secret.
 *
 * Never blocks: a line that stderr has no room for is dropped, and counted in log_lost.
 *
 * The level, the mode and that count are the only mutable globals of shared/.
 */

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_NONE = 0, /* for log_set_level(): nothing at all */
	LOG_LEVEL_ERR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Compares JOURNAL_STREAM with stderr, to learn whether the journal reads stderr. */
void log_init(enum log_level level);
void log_set_level(enum log_level level);

/* Returns 0, or -EINVAL when @name is not one of err, warning, notice, info, debug. */
int log_level_from_name(const char *name, enum log_level *ret_level);
const char *log_level_name(enum log_level level); /* of one that has a name */

/*
 * log_event(LOG_LEVEL_NOTICE, "generation_state", "model=%s gen=%lu", ...) prints
 * `event=generation_state model=... gen=...`. Values with blanks go through LOG_QUOTED.
 */
void log_event(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define LOG_QUOTED_MAX 1024

struct log_quoted {
	char text[LOG_QUOTED_MAX];
};

/* "text" in double quotes, control characters and quotes escaped, cut to fit. */
const char *log_quote(struct log_quoted *storage, const char *text);

/* An argument of log_event() only: the storage lives to the end of the block. */
#define LOG_QUOTED(text) log_quote(&(struct log_quoted){ 0 }, (text))
