/* SPDX-License-Identifier: Apache-2.0 */

/* The lines of a child, over a real pipe: those that are passed on, and those that are too
 * many. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/process/child_log.h"

/* Short lines, which fit into a pipe; more of them than are allowed again within minutes. */
#define FLOOD_LINES (CHILD_LOG_LINES * 5)
#define GOT_MAX     (4 * CHILD_LINE_MAX)

struct got {
	unsigned int n_lines;
	char all[GOT_MAX]; /* each with a newline; only the newest, when there are too many */
	size_t bytes;
	unsigned long long told; /* dropped lines, as the log counts them */
	unsigned long long told_bytes;
	char last[CHILD_LINE_MAX];
};

static struct ev_loop *loop;
static struct child_log child_log;
static struct got got;
static int writer;

static void on_line(void *context, const char *line)
{
	struct got *to = context;
	size_t bytes = strlen(line);

	if (sscanf(line, "(%llu lines dropped, %llu bytes", &to->told, &to->told_bytes) ==
	    2)
		return;
	to->n_lines++;
	(void)snprintf(to->last, sizeof(to->last), "%s", line);
	if (to->bytes + bytes + 2 > sizeof(to->all))
		to->bytes = 0;
	to->bytes += (size_t)snprintf(to->all + to->bytes, sizeof(to->all) - to->bytes,
	                              "%s\n", line);
}

static int setup(void **state)
{
	int fds[2];

	(void)state;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	loop = ev_loop_new(EVFLAG_NOENV);
	writer = fds[1];
	got = (struct got){ 0 };
	child_log_open(&child_log, loop, fds[0], on_line, &got);
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	child_log_close(&child_log);
	close_fd(&writer);
	ev_loop_destroy(loop);
	return 0;
}

static void say(const char *text)
{
	assert_int_equal(write(writer, text, strlen(text)), (ssize_t)strlen(text));
	(void)ev_run(loop, EVRUN_NOWAIT);
}

#define X10  "xxxxxxxxxx"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X500 X100 X100 X100 X100 X100
/* The longest line. */
#define X1023 X500 X500 X10 X10 "xxx"

struct lines_case {
	const char *said[3];
	const char *lines;
	const char *at_the_end; /* the rest, when the child is dead */
};

static const struct lines_case cases[] = {
	{ { "one\n" }, "one\n", "" },
	{ { "one\ntwo\nthree" }, "one\ntwo\n", "three\n" },
	{ { "o", "n", "e\ntwo\n" }, "one\ntwo\n", "" },
	{ { "\n\n a \r\n\n" }, " a \r\n", "" },
	{ { "\n" }, "", "" },
	{ { X1023 }, X1023 "\n", "" },
	{ { X1023 "\n", "y\n" }, X1023 "\ny\n", "" },
	{ { X1023 "yy\nz\n" }, X1023 "\nyy\nz\n", "" },
	{ { X500, X500, X100 "\n" },
	  X1023 "\n" X10 X10 X10 X10 X10 X10 X10 "xxxxxxx\n",
	  "" },
};

static void test_lines(void **state)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (i > 0)
			assert_int_equal(teardown(state) + setup(state), 0);
		for (size_t j = 0; j < 3 && cases[i].said[j]; j++)
			say(cases[i].said[j]);
		assert_string_equal(got.all, cases[i].lines);
		got = (struct got){ 0 };
		/* Another process still has the pipe open. */
		child_log_drain(&child_log);
		assert_string_equal(got.all, cases[i].at_the_end);
		assert_int_equal(got.told, 0);
	}
}

/* Writes the lines; returns their bytes. */
static size_t flood(void)
{
	size_t bytes = 0;

	for (unsigned int i = 0; i < FLOOD_LINES; i++)
		bytes += (size_t)dprintf(writer, "%u\n", i);
	while (!ev_is_active(&child_log.pause))
		(void)ev_run(loop, EVRUN_NOWAIT);
	assert_false(ev_is_active(&child_log.io));
	assert_true(got.n_lines >= CHILD_LOG_LINES);
	return bytes;
}

static void test_too_many(void **state)
{
	char last[32];

	(void)state;
	(void)flood();
	child_log_drain(&child_log);
	/* The last line is passed on in any case: it says why a child died. */
	(void)snprintf(last, sizeof(last), "%u", FLOOD_LINES - 1);
	assert_string_equal(got.last, last);
	assert_true(got.told > 0);
	assert_int_equal(got.n_lines - 1 + got.told, FLOOD_LINES);
	child_log_drain(&child_log);
	assert_int_equal(got.n_lines - 1 + got.told, FLOOD_LINES);
}

/* Long lines meet a bound on bytes. */
static void test_too_long(void **state)
{
	unsigned int n = 0;

	(void)state;
	while (!ev_is_active(&child_log.pause)) {
		say(X1023 "\n");
		n++;
		assert_true(n < FLOOD_LINES);
	}
	assert_true(got.n_lines < CHILD_LOG_LINES);
	assert_true((uint64_t)got.n_lines * 1023 >= CHILD_LOG_BYTES - 1023);
	child_log_drain(&child_log);
	assert_int_equal(got.told, 1);
	assert_int_equal(got.told_bytes, 1024);
	assert_int_equal(got.n_lines, n); /* the last one came after all */
}

/* A second later the log counts the dropped lines, and passes new ones on. */
static void test_goes_on(void **state)
{
	size_t bytes;

	(void)state;
	bytes = flood();
	while (got.told == 0)
		(void)ev_run(loop, EVRUN_ONCE);
	assert_int_equal(got.n_lines + got.told, FLOOD_LINES);
	assert_true(got.told_bytes < bytes);
	assert_false(ev_is_active(&child_log.pause));
	assert_true(ev_is_active(&child_log.io));
	say("again\n");
	assert_string_equal(got.last, "again");
	got.told = 0;
	child_log_drain(&child_log);
	assert_int_equal(got.told, 0);
	assert_string_equal(got.last, "again");
}

static void test_move(void **state)
{
	static const char *const names[] = { "quiet", "flooded", "ended" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		static struct got other;
		struct child_log to;

		if (i > 0)
			assert_int_equal(teardown(state) + setup(state), 0);
		other = (struct got){ 0 };
		say("half a ");
		if (i == 1)
			(void)flood();
		if (i == 2) {
			close_fd(&writer);
			while (ev_is_active(&child_log.io))
				(void)ev_run(loop, EVRUN_NOWAIT);
		}
		got = (struct got){ 0 };
		child_log_move(&to, &child_log, on_line, &other);
		assert_null(child_log.loop);
		assert_int_equal(ev_is_active(&to.io) != 0, i == 0);
		assert_int_equal(ev_is_active(&to.pause) != 0, i == 1);
		if (i != 2)
			say("line\n");
		child_log_drain(&to);
		assert_string_equal(other.last, i == 0   ? "half a line"
		                                : i == 1 ? "line"
		                                         : "half a ");
		assert_int_equal(other.told > 0, i == 1);
		assert_int_equal(got.n_lines, 0);
		child_log_close(&to);
		assert_int_equal(fcntl(to.fd, F_GETFD), -1);
		child_log_close(&to);
	}
}

static void test_zeroed(void **state)
{
	struct child_log log = { 0 };

	(void)state;
	child_log_drain(&log);
	child_log_close(&log);
	/* Descriptor 0 was not the log's: it stays open. */
	assert_true(fcntl(0, F_GETFD) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move, setup, teardown),
		cmocka_unit_test(test_zeroed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
