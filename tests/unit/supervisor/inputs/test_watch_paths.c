/* SPDX-License-Identifier: Apache-2.0 */

/* A change of a path, or of anything that it leads through, is reported: real inotify on a
 * directory of its own, a real loop, no poll. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "tests/unit/watch_bench.h"

#define STEPS_MAX 4

/* The changes. Each function is one step after which a report must come. */

static void make_file(void)
{
	scratch_write("file", "1");
}

static void write_file(void)
{
	scratch_write("file", "2");
}

static void replace_file(void)
{
	scratch_replace("file", "3");
}

static void remove_file(void)
{
	scratch_remove("file");
}

static void chmod_file(void)
{
	assert_int_equal(chmod("file", 0600), 0);
}

/* Makes several directories at once, without waiting for the watch. */
static void make_parents(void)
{
	scratch_mkdir("a");
	scratch_mkdir("a/b");
	scratch_mkdir("a/b/c");
}

static void make_parent_1(void)
{
	scratch_mkdir("a");
}

static void make_parent_2(void)
{
	scratch_mkdir("a/b");
}

static void make_parent_3(void)
{
	scratch_mkdir("a/b/c");
}

static void write_deep(void)
{
	scratch_replace("a/b/c/file", "1");
}

static void make_deep(void)
{
	make_parents();
	write_deep();
}

static void remove_parents(void)
{
	scratch_remove("a");
}

static void move_parents(void)
{
	assert_int_equal(rename("a", "gone"), 0);
}

static void exchange_parents(void)
{
	scratch_mkdir("other");
	scratch_mkdir("other/b");
	scratch_mkdir("other/b/c");
	scratch_write("other/b/c/file", "9");
	assert_int_equal(renameat2(AT_FDCWD, "a", AT_FDCWD, "other", RENAME_EXCHANGE), 0);
}

static void make_parent_a_file(void)
{
	scratch_write("a", "no directory");
}

static void make_parent_a_directory(void)
{
	scratch_remove("a");
	make_deep();
}

static void make_directory(void)
{
	scratch_mkdir("d");
	scratch_write("d/one", "1");
}

static void add_to_directory(void)
{
	scratch_write("d/two", "1");
}

static void write_in_directory(void)
{
	scratch_write("d/one", "2");
}

static void move_in_directory(void)
{
	scratch_replace("d/one", "3");
}

static void remove_from_directory(void)
{
	scratch_remove("d/one");
}

static void remove_directory(void)
{
	scratch_remove("d");
}

static void swap_first(void)
{
	scratch_mkdir("d");
	scratch_swap("d", "1", "token", "1");
}

static void swap_second(void)
{
	scratch_swap("d", "2", "token", "2");
}

static void swap_third(void)
{
	scratch_swap("d", "3", "token", "3");
}

/* Writes the file behind the links, without a swap. */
static void write_behind_swap(void)
{
	scratch_write("d/..1/token", "4");
}

static void make_versions(void)
{
	scratch_mkdir("v1");
	scratch_mkdir("v2");
	scratch_write("v1/model", "1");
	scratch_write("v2/model", "2");
	scratch_link("v1", "current");
}

static void switch_version(void)
{
	scratch_link("v2", "current.new");
	assert_int_equal(rename("current.new", "current"), 0);
}

static void write_second_version(void)
{
	scratch_replace("v2/model", "3");
}

static void remove_second_version(void)
{
	scratch_remove("v2");
}

/* Makes a link inside of a directory that leads out of it, with the whole path as target. */
static void make_farm(void)
{
	char cwd[4096];

	scratch_mkdir("d");
	scratch_mkdir("far");
	scratch_write("far/token", "1");
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	scratch_link(scratch_path("%s/far/token", cwd), "d/token");
}

static void replace_far(void)
{
	scratch_replace("far/token", "2");
}

static void write_far(void)
{
	scratch_write("far/token", "3");
}

static void remove_far(void)
{
	scratch_remove("far");
}

static void make_far(void)
{
	scratch_mkdir("far");
	scratch_write("far/token", "4");
}

static void make_loop(void)
{
	scratch_link("other", "file");
	scratch_link("file", "other");
}

static void break_loop(void)
{
	scratch_remove("other");
	scratch_write("other", "1");
}

static void write_other(void)
{
	scratch_write("other", "2");
}

static void make_dangling(void)
{
	scratch_link("a/b/c/file", "file");
}

static void make_nothing(void)
{
}

static const struct {
	const char *what;
	const char *path;
	void (*prepare)(void);
	void (*steps[STEPS_MAX])(void);
} rows[] = {
	{ "written", "file", make_file, { write_file, write_file } },
	{ "replaced", "file", make_file, { replace_file, replace_file, write_file } },
	{ "mode", "file", make_file, { chmod_file, replace_file } },
	{ "gone and back", "file", make_file, { remove_file, make_file, write_file } },
	{ "made", "file", make_nothing, { make_file, replace_file } },
	{ "missing parents, slowly",
	  "a/b/c/file",
	  make_nothing,
	  { make_parent_1, make_parent_2, make_parent_3, write_deep } },
	{ "missing parents, at once",
	  "a/b/c/file",
	  make_nothing,
	  { make_parents, write_deep, write_deep } },
	{ "parents gone and back",
	  "a/b/c/file",
	  make_deep,
	  { remove_parents, make_deep, write_deep } },
	{ "parents moved away",
	  "a/b/c/file",
	  make_deep,
	  { move_parents, make_parents, write_deep } },
	{ "parents exchanged",
	  "a/b/c/file",
	  make_deep,
	  { exchange_parents, write_deep, move_parents, make_deep } },
	{ "parent is a file",
	  "a/b/c/file",
	  make_parent_a_file,
	  { make_parent_a_directory, write_deep } },
	{ "directory",
	  "d",
	  make_directory,
	  { add_to_directory, write_in_directory, move_in_directory,
	    remove_from_directory } },
	{ "directory gone and back",
	  "d",
	  make_directory,
	  { remove_directory, make_directory, write_in_directory } },
	{ "Kubernetes directory", "d", swap_first, { swap_second, swap_third } },
	{ "Kubernetes file", "d/token", swap_first, { swap_second, swap_third } },
	{ "behind the swap", "d", swap_first, { write_behind_swap, swap_second } },
	{ "volume comes late", "d/token", make_nothing, { swap_first, swap_second } },
	{ "versions",
	  "current/model",
	  make_versions,
	  { switch_version, write_second_version, remove_second_version } },
	{ "farm", "d", make_farm, { replace_far, write_far, remove_far, make_far } },
	{ "far file", "d/token", make_farm, { replace_far, remove_far, make_far } },
	{ "loop", "file", make_loop, { break_loop, write_other } },
	{ "dangling", "file", make_dangling, { make_parents, write_deep, write_deep } },
};

static void test_table(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench_sight sight;

		rows[i].prepare();
		bench_open(bench, &bench_quick);
		bench_look(bench, rows[i].path, &sight);
		for (size_t step = 0; step < STEPS_MAX && rows[i].steps[step]; step++) {
			rows[i].steps[step]();
			if (!bench_is_seen(bench, &sight))
				fail_msg("%s: step %zu", rows[i].what, step);
			bench_rest(bench, &sight);
			assert_int_equal(bench_kernel_watches(),
			                 watch_count(bench->watch));
		}
		watch_remove(sight.watched);
		assert_int_equal(watch_count(bench->watch), 0);
		assert_int_equal(bench_kernel_watches(), 0);
		watch_free(bench->watch);
		bench->watch = NULL;
		/* Everything is removed, so that no row depends on another. */
		scratch_leave();
		bench->root = scratch_enter();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table, bench_enter, bench_leave),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
