/* SPDX-License-Identifier: Apache-2.0 */

/* When a file counts as unchanged, and how its bytes are read. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

#include "shared/file.h"

static void put(const char *path, const char *text, bool is_truncated)
{
	int fd = open(path, O_WRONLY | (is_truncated ? O_TRUNC : 0));

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
}

static void do_nothing(void)
{
}

static void do_read(void)
{
	char text[8];
	int fd = open("f", O_RDONLY);

	assert_int_equal(read(fd, text, sizeof(text)), 7);
	assert_int_equal(close(fd), 0);
}

static void do_link(void)
{
	assert_int_equal(link("f", "g"), 0);
}

static void do_write(void)
{
	put("f", "content", false);
}

static void do_truncate(void)
{
	put("f", "content", true);
}

static void do_grow(void)
{
	put("f", "contents", true);
}

static void do_chmod(void)
{
	assert_int_equal(chmod("f", 0600), 0);
}

static void do_rename(void)
{
	assert_int_equal(rename("f", "old"), 0);
	scratch_write("f", "content");
}

static const struct {
	const char *name;
	void (*act)(void);
	bool is_same;
	bool is_unwritten;
	bool sets_time; /* sets the time back: cp -p, rsync --inplace, tar --overwrite */
} rows[] = {
	{ "nothing", do_nothing, true, true, false },
	{ "read", do_read, true, true, false },
	{ "link", do_link, false, true, false },
	{ "written in place", do_write, false, false, false },
	{ "written in place, time set back", do_write, false, false, true },
	{ "truncated, time set back", do_truncate, false, false, true },
	{ "grown, time set back", do_grow, false, false, true },
	{ "chmod", do_chmod, false, false, false },
	{ "renamed into place, time set back", do_rename, false, false, true },
};

/* Waits until the file system's clock has moved on: stamps are as coarse as its ticks. */
static void wait_for_a_tick(const struct stat *since)
{
	struct stat now;

	do {
		scratch_write("tick", "x");
		assert_int_equal(stat("tick", &now), 0);
		scratch_remove("tick");
	} while (now.st_ctim.tv_sec == since->st_ctim.tv_sec &&
	         now.st_ctim.tv_nsec == since->st_ctim.tv_nsec);
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stat before;
		struct stat after;

		(void)scratch_enter();
		scratch_write("f", "content");
		assert_int_equal(stat("f", &before), 0);
		wait_for_a_tick(&before);
		rows[i].act();
		if (rows[i].sets_time) {
			const struct timespec times[] = { before.st_atim,
				                          before.st_mtim };

			assert_int_equal(utimensat(AT_FDCWD, "f", times, 0), 0);
		}
		assert_int_equal(stat("f", &after), 0);
		if (file_is_same(&before, &after) != rows[i].is_same)
			fail_msg("%s", rows[i].name);
		if (file_is_unwritten(&before, &after) != rows[i].is_unwritten)
			fail_msg("%s while it is read", rows[i].name);
		scratch_leave();
	}
}

static void test_read_at(void **state)
{
	static const struct {
		size_t bytes;
		uint64_t at;
		const char *want;
	} reads[] = {
		{ 7, 0, "content" }, { 3, 2, "nte" }, { 8, 0, "content" },
		{ 8, 5, "nt" },      { 4, 7, "" },    { 0, 0, "" },
	};
	int fd;

	(void)state;
	(void)scratch_enter();
	scratch_write("f", "content");
	fd = open("f", O_RDONLY);
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		char got[16] = "";

		assert_int_equal(file_read_at(fd, got, reads[i].bytes, reads[i].at),
		                 strlen(reads[i].want));
		assert_string_equal(got, reads[i].want);
	}
	/* Others have the same descriptor. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(file_read_at(fd, &(char){ 0 }, 1, 0), -EBADF);
	scratch_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_read_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
