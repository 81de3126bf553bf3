/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/loader/classes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *classes_with_numpy;
char classes_without_numpy[64];

/* "FP32 [-1,2]" as LOAD has it. */
static json_t *classes_tensor(const char *text)
{
	char datatype[16];
	json_error_t error;
	json_t *shape;
	int used = 0;

	assert_int_equal(sscanf(text, "%15s %n", datatype, &used), 1);
	shape = json_loads(text + used, 0, &error);
	assert_non_null(shape);
	return json_pack("[{s:s, s:s, s:o}]", "name", "x", "datatype", datatype, "shape",
	                 shape);
}

void classes_set_option(json_t *config, const char *name, const char *value)
{
	assert_int_equal(json_object_set_new(json_object_get(config, "options"), name,
	                                     json_string(value)),
	                 0);
}

json_t *classes_config(const char *class, const char *input, const char *output)
{
	json_t *config = drive_config("python", 2);

	assert_int_equal(json_object_set_new(config, "working_directory",
	                                     json_string(hosted_apps)),
	                 0);
	classes_set_option(config, "model", class);
	if (input)
		assert_int_equal(json_object_set_new(config, "inputs",
		                                     classes_tensor(input)),
		                 0);
	if (output)
		assert_int_equal(json_object_set_new(config, "outputs",
		                                     classes_tensor(output)),
		                 0);
	return config;
}

void classes_set_number(json_t *config, const char *name, int value)
{
	assert_int_equal(json_object_set_new(config, name, json_integer(value)), 0);
}

void classes_start(struct drive *drive, json_t *config)
{
	drive_start(drive, HOSTED_ARENA_BYTES);
	drive_ready(drive, config);
}

/* Asks for what @data gives of @datatype and @shape; returns the status. */
int classes_ask(struct drive *drive, const char *datatype, const char *shape,
                const char *data, char *ret_text)
{
	static uint64_t lease;
	struct proto_answer answer;
	char body[1024];
	int n = snprintf(body, sizeof(body),
	                 "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"%s\","
	                 "\"shape\":%s,\"data\":%s}]}",
	                 datatype, shape, data);

	drive_submit(drive, ++lease, body, (size_t)n, -1);
	answer = drive_answer(drive);
	assert_true(answer.body_bytes < CLASSES_TEXT_BYTES);
	memcpy(ret_text, drive_body(drive, &answer), answer.body_bytes);
	ret_text[answer.body_bytes] = '\0';
	drive_release(drive, &answer);
	return (int)answer.status;
}

void classes_check_served(const struct classes_served *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		json_t *config =
			classes_config(rows[i].class, rows[i].input, rows[i].output);
		struct drive drive;
		char text[CLASSES_TEXT_BYTES];

		print_message("%s %s\n", rows[i].class, rows[i].shape);
		classes_start(&drive, config);
		assert_int_equal(classes_ask(&drive, rows[i].datatype, rows[i].shape,
		                             rows[i].data, text),
		                 200);
		hosted_assert_has(text, rows[i].text);
		drive_quit(&drive);
	}
}

void classes_check_requests(const char *class, const struct classes_blame *rows, size_t n)
{
	struct drive drive;
	char text[CLASSES_TEXT_BYTES];

	classes_start(&drive, classes_config(class, NULL, NULL));
	for (size_t i = 0; i < n; i++) {
		print_message("%s\n", rows[i].data);
		assert_int_equal(classes_ask(&drive, "FP32", "[1,2]", rows[i].data, text),
		                 rows[i].status);
		hosted_assert_has(text, rows[i].text);
	}
	drive_quit(&drive);
}

void classes_check_refused(const struct classes_refused *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		json_t *config =
			classes_config(rows[i].class,
		                       rows[i].max_batch ? "FP32 [-1,2]" : "FP32 [1,2]",
		                       rows[i].output);
		struct drive drive;
		json_t *payload;
		const char *reason;

		if (rows[i].max_batch)
			classes_set_number(config, "max_batch", rows[i].max_batch);
		drive_start(&drive, HOSTED_ARENA_BYTES);
		payload = drive_refused(&drive, config, NULL);
		reason = json_string_value(json_object_get(payload, "reason"));
		print_message("%s\n", reason);
		for (size_t k = 0; k < CLASSES_COUNT(rows[i].texts) && rows[i].texts[k];
		     k++)
			hosted_assert_has(reason, rows[i].texts[k]);
		json_decref(payload);
		drive_end(&drive, rows[i].exit_code);
	}
}

static bool has_numpy(const char *python)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "'%s' -c 'import numpy' 2>/dev/null",
	               python);
	return system(command) == 0;
}

/* A virtual environment of @python alone. */
int classes_set_up(void **state)
{
	char command[512];
	static char folder[] = "/tmp/moult-venv-XXXXXX";

	*state = mkdtemp(folder);
	(void)snprintf(command, sizeof(command), "'%s' -m venv --without-pip %s",
	               drive_python, folder);
	(void)snprintf(classes_without_numpy, sizeof(classes_without_numpy),
	               "%s/bin/python", folder);
	return !*state || system(command) != 0 || has_numpy(classes_without_numpy);
}

int classes_tear_down(void **state)
{
	char command[64];

	(void)snprintf(command, sizeof(command), "rm -r %s", (const char *)*state);
	return system(command);
}

bool classes_begin(int argc, char **argv)
{
	if (argc < 3) {
		(void)fprintf(stderr, "usage: %s BUILD_DIR APPS [PYTHON]\n", argv[0]);
		return false;
	}
	drive_build_dir = argv[1];
	hosted_apps = argv[2];
	drive_python = argc > 3 ? argv[3] : "/usr/bin/python3";
	classes_with_numpy = has_numpy(drive_python) ? drive_python : NULL;
	return true;
}
