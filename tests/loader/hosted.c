/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/loader/hosted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

const char *hosted_apps;

json_t *hosted_config(const char *key, const char *value)
{
	json_t *config = drive_config("python", 1);

	assert_int_equal(json_object_set_new(config, "hosted", json_true()), 0);
	assert_int_equal(json_object_set_new(config, "working_directory",
	                                     json_string(hosted_apps)),
	                 0);
	assert_int_equal(json_object_set_new(config, "options",
	                                     json_pack("{s:s}", key, value)),
	                 0);
	return config;
}

void hosted_start(struct drive *drive, const char *key, const char *application)
{
	drive_start(drive, HOSTED_ARENA_BYTES);
	drive->is_hosted = true;
	drive_ready(drive, hosted_config(key, application));
}

struct proto_answer hosted_get(struct drive *drive, const char *target)
{
	static uint64_t lease;

	drive_ask(drive, ++lease, "GET", target, NULL, NULL, 0, UINT64_MAX);
	return drive_answer(drive);
}

int hosted_read(struct drive *drive, struct proto_answer answer, char *text, size_t size)
{
	size_t n = 0;

	for (;;) {
		assert_true(n + answer.body_bytes < size);
		memcpy(text + n, drive_body(drive, &answer), answer.body_bytes);
		n += answer.body_bytes;
		text[n] = '\0';
		drive_release(drive, &answer);
		if (answer.flags & PROTO_ANSWER_LAST)
			return HOSTED_FLAGS(answer);
		answer = drive_answer(drive);
	}
}

void hosted_assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in '%s'", part, text);
}

void hosted_check_rows(struct drive *drive, const struct hosted_row *rows, size_t n)
{
	char text[8192];

	for (size_t i = 0; i < n; i++) {
		struct proto_answer answer = hosted_get(drive, rows[i].target);

		print_message("%s\n", rows[i].target);
		assert_int_equal(answer.status, rows[i].status);
		assert_int_equal(HOSTED_FLAGS(answer), rows[i].flags);
		assert_int_equal(hosted_read(drive, answer, text, sizeof(text)),
		                 rows[i].end);
		hosted_assert_has(text, rows[i].text);
	}
}

void hosted_check_refusals(const char *key, const struct hosted_refusal *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct drive drive;
		json_t *payload;
		const char *reason;

		drive_start(&drive, HOSTED_ARENA_BYTES);
		payload = drive_refused(&drive, hosted_config(key, rows[i].application),
		                        NULL);
		reason = json_string_value(json_object_get(payload, "reason"));
		print_message("%s\n", reason);
		for (size_t k = 0; k < COUNT(rows[i].texts) && rows[i].texts[k]; k++)
			hosted_assert_has(reason, rows[i].texts[k]);
		json_decref(payload);
		drive_end(&drive, rows[i].exit_code);
	}
}
