/* SPDX-License-Identifier: Apache-2.0 */

/* A log that nobody reads costs lines, never time. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_reader_that_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
