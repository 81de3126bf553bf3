/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A sentence for a person.
 *
 * Functions return 0, -errno (not expected: forward it) or a positive outcome of their own
 * module (expected: handle it). Where somebody has to read why, the last parameter is a
 * struct err in the caller's storage. The sentence says what is wrong and what would be right,
 * once, and does not repeat what the caller knows. A sentence never holds a secret.
 *
 * Default for all of shared/: not thread-safe, never blocks, does not log.
 */

#include <stdarg.h>
#include <stdbool.h>

#define ERR_TEXT_MAX 512

struct err {
	char text[ERR_TEXT_MAX];
};

#define ERR_NULL                                                                         \
	{                                                                                \
		.text = ""                                                               \
	}

/* Makes @text UTF-8, because JSON and logs take nothing else: a byte that is no part of a
 * character (quoted from elsewhere, or cut) becomes '?'. */
void err_clean(char *text);

/* Writes the sentence, cut at ERR_TEXT_MAX and cleaned. @err may be NULL. Returns @code, so that
 * `return err_set(err, -EINVAL, ...)` reads well. */
int err_set(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that is there. Returns @code. */
int err_prefix(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* True when @error (an errno) tells of a shortage or disturbance of the machine and nothing
 * about the request: the same call may succeed later. */
bool err_is_shortage(int error);
