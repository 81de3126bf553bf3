/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A sentence for a person.
 *
 * Functions return 0, -errno (not expected: forward it) or a positive outcome of their own
 * module (expected: handle it). Where somebody has to read why, the last parameter is a
 * struct err in the caller's storage. It says what is wrong and what would be right, once,
 * and does not repeat what the caller knows. Never holds a secret.
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

/* Makes @text UTF-8: what is none, quoted from elsewhere or cut inside of a character,
 * becomes '?'. JSON and logs take nothing else. */
void err_clean(char *text);

/* Writes the sentence, cut at ERR_TEXT_MAX and cleaned. @err may be NULL. Returns @code, so that
 * `return err_set(err, -EINVAL, ...)` reads well. */
int err_set(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the sentence that is there. Returns @code. */
int err_prefix(struct err *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* @error (an errno) says that the machine was short of something or disturbed, and nothing
 * about what it was asked for: the same call may succeed later. */
bool err_is_shortage(int error);
