/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the tests of engine python with a class share: classes of tests/loader/apps, each with one
 * tensor x in and one out, in an interpreter that has numpy and in one that has not.
 */

#include <stdbool.h>

#include "tests/loader/hosted.h"

#define CLASSES_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define CLASSES_TEXT_BYTES  65536

struct classes_served {
	const char *class;
	const char *input;
	const char *output;
	const char *datatype;
	const char *shape;
	const char *data;
	const char *text;
};

struct classes_blame {
	const char *data;
	int status;
	const char *text;
};

struct classes_refused {
	const char *class;
	const char *output;
	const char *texts[2];
	int exit_code;
	int max_batch;
};

/* An interpreter; NULL: there is none. */
extern const char *classes_with_numpy;
extern char classes_without_numpy[64];

/* A configuration, which the caller changes and owns; NULL: @input, @output as drive_config() has
 * them, else such as "FP32 [-1,2]". */
json_t *classes_config(const char *class, const char *input, const char *output);
void classes_set_option(json_t *config, const char *name, const char *value);
void classes_set_number(json_t *config, const char *name, int value);
/* Goes up to READY. */
void classes_start(struct drive *drive, json_t *config);
/* Asks for what @data gives of @datatype and @shape; returns the status. */
int classes_ask(struct drive *drive, const char *datatype, const char *shape,
                const char *data, char *ret_text);
/* Each class serves, each request is answered, each class is refused as its row says. */
void classes_check_served(const struct classes_served *rows, size_t n);
void classes_check_requests(const char *class, const struct classes_blame *rows,
                            size_t n);
void classes_check_refused(const struct classes_refused *rows, size_t n);
/* Reads the arguments of main(). False: they are wrong, which was said. */
bool classes_begin(int argc, char **argv);
/* Makes and removes a virtual environment without numpy: for cmocka_run_group_tests(). */
int classes_set_up(void **state);
int classes_tear_down(void **state);
