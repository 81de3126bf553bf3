/* SPDX-License-Identifier: Apache-2.0 */

/* The folder in which moultd may make control groups, by the kernel's tables. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "supervisor/process/loader_groups.h"

static void test_own_group_is_found(void **state)
{
	static const struct {
		const char *line;
		const char *own;
		const char *path; /* NULL: there is none */
	} rows[] = {
		/* A single hierarchy (version 2). */
		{ "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw",
		  "/system.slice/moultd.service",
		  "/sys/fs/cgroup/system.slice/moultd.service" },
		{ "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/",
		  "/sys/fs/cgroup" },
		/* Version 2 beside version 1. */
		{ "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", "/a",
		  "/sys/fs/cgroup/unified/a" },
		{ "40 31 0:37 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids", "/a",
		  NULL },
		/* A container with a part of the tree. */
		{ "99 98 0:26 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw",
		  "/docker/12", "/sys/fs/cgroup" },
		{ "99 98 0:26 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw",
		  "/docker/12/a/b", "/sys/fs/cgroup/a/b" },
		{ "99 98 0:26 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw",
		  "/docker/123", NULL },
		{ "99 98 0:26 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw",
		  "/docker", NULL },
		{ "99 98 0:26 /.. /sys/fs/cgroup ro - cgroup2 cgroup rw", "/", NULL },
		/* A group outside of this namespace. */
		{ "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/../other",
		  NULL },
		/* Other file systems, and malformed lines. */
		{ "21 1 8:1 / / rw - ext4 /dev/cgroup2 rw", "/", NULL },
		{ "21 1 8:1 / /cgroup2 rw - tmpfs cgroup2 rw", "/", NULL },
		{ "21 1 - cgroup2 cgroup2", "/", NULL },
		{ "", "/", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char path[128] = "";
		bool is_there = loader_groups_locate(rows[i].line, rows[i].own, path,
		                                     sizeof(path));

		assert_int_equal(is_there, rows[i].path != NULL);
		if (rows[i].path)
			assert_string_equal(path, rows[i].path);
	}
}

static void test_what_does_not_fit_is_not_cut(void **state)
{
	static const char line[] = "1 1 0:26 / /sys rw - cgroup2 cgroup2 rw";
	char path[8];

	(void)state;
	assert_false(loader_groups_locate(line, "/abc", path, sizeof(path)));
	assert_false(loader_groups_locate(line, "/abcd", path, sizeof(path)));
	assert_true(loader_groups_locate(line, "/ab", path, sizeof(path)));
	assert_string_equal(path, "/sys/ab");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_group_is_found),
		cmocka_unit_test(test_what_does_not_fit_is_not_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
