/* SPDX-License-Identifier: Apache-2.0 */

/* A log that nobody reads costs lines, never time. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/log.h"

#define LINES    5000 /* a pipe holds 64 KiB */
#define ALARM_S  20
#define TEXT_MAX (1024 * 1024)

static char text[TEXT_MAX];

static void read_all(int fd)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
}

static void test_a_reader_that_stops(void **state)
{
	int stderr_copy = dup(STDERR_FILENO);
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	assert_true(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	(void)alarm(ALARM_S);
	for (int i = 0; i < LINES; i++)
		log_event(LOG_LEVEL_ERR, "storm", "line=%d", i);
	(void)alarm(0);
	read_all(fds[0]);
	assert_non_null(strstr(text, "event=storm line=0\n"));
	assert_null(strstr(text, "line=4999\n"));
	log_event(LOG_LEVEL_ERR, "calm", "line=last");
	assert_true(dup2(stderr_copy, STDERR_FILENO) >= 0);
	read_all(fds[0]);
	assert_non_null(strstr(text, "event=log_lost lines="));
	assert_non_null(strstr(text, "event=calm line=last\n"));
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(stderr_copy);
}

/* Logs one line of each level, with @stream as JOURNAL_STREAM; "PIPE" is the right value. */
static void log_levels(const char *stream)
{
	int stderr_copy = dup(STDERR_FILENO);
	struct stat status;
	char own[64];
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(fstat(fds[1], &status), 0);
	(void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)status.st_dev,
	               (uintmax_t)status.st_ino);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	if (stream)
		(void)setenv("JOURNAL_STREAM", strcmp(stream, "PIPE") ? stream : own, 1);
	log_init(LOG_LEVEL_DEBUG);
	for (int level = LOG_LEVEL_ERR; level <= LOG_LEVEL_DEBUG; level++)
		log_event((enum log_level)level, "e", "n=%d", level);
	(void)unsetenv("JOURNAL_STREAM");
	log_init(LOG_LEVEL_INFO);
	assert_true(dup2(stderr_copy, STDERR_FILENO) >= 0);
	(void)close(fds[1]);
	read_all(fds[0]);
	(void)close(fds[0]);
	(void)close(stderr_copy);
}

static void test_plain_lines_have_a_level(void **state)
{
	/* The second value is left from another process, whose stderr was the journal. */
	static const char *const streams[] = { NULL, "8:12345" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		log_levels(streams[i]);
		assert_non_null(strstr(text, "Z level=err event=e n=3\n"));
		assert_non_null(strstr(text, "Z level=warning event=e n=4\n"));
		assert_non_null(strstr(text, "Z level=notice event=e n=5\n"));
		assert_non_null(strstr(text, "Z level=info event=e n=6\n"));
		assert_non_null(strstr(text, "Z level=debug event=e n=7\n"));
	}
}

static void test_the_journal_has_priorities(void **state)
{
	(void)state;
	log_levels("PIPE");
	assert_string_equal(text, "<3>event=e n=3\n<4>event=e n=4\n<5>event=e n=5\n"
	                          "<6>event=e n=6\n<7>event=e n=7\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_reader_that_stops),
		cmocka_unit_test(test_plain_lines_have_a_level),
		cmocka_unit_test(test_the_journal_has_priorities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
