/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of engine python share: applications of tests/loader/apps, and their answers.
 */

#include "tests/loader/drive.h"

#define HOSTED_ARENA_BYTES   ((size_t)1 << 20)
#define HOSTED_FLAGS(answer) ((answer).flags & ~PROTO_ANSWER_EXECUTION)
#define HOSTED_WHOLE         (PROTO_ANSWER_FIRST | PROTO_ANSWER_LAST)

struct hosted_refusal {
	const char *application;
	const char *texts[2];
	int exit_code;
};

struct hosted_row {
	const char *target;
	int status;
	int flags; /* of the first part */
	int end;   /* flags of the last part */
	const char *text;
};

/* The folder of the applications. */
extern const char *hosted_apps;

/* A configuration for engine python with the key @key; the caller changes and owns it. */
json_t *hosted_config(const char *key, const char *application);
/* Goes up to READY. */
void hosted_start(struct drive *drive, const char *key, const char *application);
/* Asks for @target, and returns the first part of the answer. */
struct proto_answer hosted_get(struct drive *drive, const char *target);
/* Reads the whole body of an answer whose first part is @answer; returns the last part's flags. */
int hosted_read(struct drive *drive, struct proto_answer answer, char *text, size_t size);
/* Fails if @text has no @part. */
void hosted_assert_has(const char *text, const char *part);
/* Each target is answered as its row says. */
void hosted_check_rows(struct drive *drive, const struct hosted_row *rows, size_t n);
/* Each application is refused with its sentence. */
void hosted_check_refusals(const char *key, const struct hosted_refusal *rows, size_t n);
