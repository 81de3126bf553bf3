/* SPDX-License-Identifier: Apache-2.0 */

/* Real inotify on a directory of its own, a real loop; the poll is off unless a test is
 * about it, so that only events can tell. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "shared/clock.h"
#include "supervisor/inputs/watch.h"
#include "tests/unit/watch_bench.h"

/* With these timings a report can only come from the poll, and not from an inotify event. */
static const struct watch_config polling = {
	.settle_ns = 10 * BENCH_MS,
	.settle_cap_ns = 200 * BENCH_MS,
	.poll_ns = 50 * BENCH_MS,
};

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

static void make_directory(void)
{
	scratch_mkdir("d");
	scratch_write("d/one", "1");
}

static void make_parents(void)
{
	scratch_mkdir("a");
	scratch_mkdir("a/b");
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

static void exchange_parents(void)
{
	scratch_mkdir("other");
	scratch_mkdir("other/b");
	scratch_mkdir("other/b/c");
	scratch_write("other/b/c/file", "9");
	assert_int_equal(renameat2(AT_FDCWD, "a", AT_FDCWD, "other", RENAME_EXCHANGE), 0);
}

/* Events beside a watched file are ignored. */
static void test_neighbours_are_ignored(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;
	unsigned int before;

	make_file();
	bench_open(bench, &bench_quick);
	bench_look(bench, "file", &sight);
	before = sight.n;
	scratch_write("file.tmp", "half");
	scratch_mkdir("file.d");
	scratch_remove("file.tmp");
	assert_int_equal(close(open("file", O_RDONLY | O_CLOEXEC)), 0);
	bench_run(bench, 0.1);
	assert_int_equal(sight.n, before);
	replace_file();
	assert_true(bench_is_seen(bench, &sight));
}

/* From the first event to the report there is a change that the owner does not know. */
static void test_a_change_unsettles(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;

	make_file();
	bench_open(bench, &bench_quick);
	bench_look(bench, "file", &sight);
	assert_true(watch_is_settled(sight.watched));
	replace_file();
	ev_run(bench->loop, EVRUN_ONCE);
	assert_false(watch_is_settled(sight.watched));
	assert_true(bench_is_seen(bench, &sight));
	assert_true(watch_is_settled(sight.watched));
	assert_false(watch_is_settled(NULL));
}

/* Several paths share what they need, and none is taken from the others. */
static void test_shared(void **state)
{
	struct bench *bench = *state;
	struct bench_sight directory;
	struct bench_sight one;
	struct bench_sight again;
	struct bench_sight below;
	unsigned int before;

	make_directory();
	scratch_mkdir("d/sub");
	scratch_write("d/sub/file", "1");
	bench_open(bench, &bench_quick);
	bench_look(bench, "d/one", &one);
	bench_look(bench, "d", &directory);
	bench_look(bench, "d/one", &again);
	/* This watch needs the fewest events of the directory. */
	bench_look(bench, "d/sub/file", &below);
	before = one.n;
	scratch_write("d/two", "1");
	assert_true(bench_is_seen(bench, &directory));
	bench_rest(bench, &directory);
	assert_int_equal(one.n, before);
	watch_remove(directory.watched);
	scratch_write("d/one", "2");
	assert_true(bench_is_seen(bench, &one));
	bench_rest(bench, &one);
	watch_remove(one.watched);
	scratch_replace("d/one", "3");
	assert_true(bench_is_seen(bench, &again));
	watch_remove(again.watched);
	watch_remove(below.watched);
	assert_int_equal(bench_kernel_watches(), 0);
}

/* Debouncing */

/* Longer than a busy machine lets the loop wait. */
static const struct watch_config patient = {
	.settle_ns = 2000 * BENCH_MS,
	.settle_cap_ns = 60 * CLOCK_NS_PER_SEC,
};
static const struct watch_config capped = {
	.settle_ns = 500 * BENCH_MS,
	.settle_cap_ns = 600 * BENCH_MS,
};

struct writer {
	ev_timer timer;
	const char *path;
	unsigned int left;
};

static void on_write(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct writer *writer = timer->data;

	(void)revents;
	/* A chmod and no write, which may take as long as the settling on a busy disk. */
	assert_int_equal(chmod(writer->path, 0600), 0);
	if (--writer->left == 0)
		ev_timer_stop(loop, timer);
}

static void start_writing(struct bench *bench, struct writer *writer, const char *path,
                          unsigned int n)
{
	writer->path = path;
	writer->left = n;
	ev_timer_init(&writer->timer, on_write, 0., 0.005);
	writer->timer.data = writer;
	ev_timer_start(bench->loop, &writer->timer);
}

static void test_many_writes_are_one_report(void **state)
{
	struct bench *bench = *state;
	struct writer writer;
	struct bench_sight sight;
	unsigned int before;

	make_file();
	bench_open(bench, &patient);
	bench_look(bench, "file", &sight);
	before = sight.n;
	for (int i = 0; i < 20; i++)
		write_file();
	start_writing(bench, &writer, "file", 150);
	assert_true(bench_is_seen(bench, &sight));
	assert_int_equal(writer.left, 0);
	bench_run(bench, 2.5);
	assert_int_equal(sight.n, before + 1);
}

/* A directory that appears meanwhile is watched as well. */
static void test_new_places_are_awaited(void **state)
{
	struct bench *bench = *state;
	struct writer writer;
	struct bench_sight sight;
	unsigned int before;

	bench_open(bench, &patient);
	bench_look(bench, "a/b/c/file", &sight);
	before = sight.n;
	make_deep();
	start_writing(bench, &writer, "a/b/c/file", 150);
	assert_true(bench_is_seen(bench, &sight));
	assert_int_equal(writer.left, 0);
	bench_run(bench, 2.5);
	assert_int_equal(sight.n, before + 1);
}

/* A file that never rests is reported all the same. */
static void test_a_storm_is_reported_at_the_cap(void **state)
{
	struct bench *bench = *state;
	struct writer writer;
	struct bench_sight sight;

	make_file();
	bench_open(bench, &capped);
	bench_look(bench, "file", &sight);
	start_writing(bench, &writer, "file", 100000);
	assert_true(bench_is_seen(bench, &sight));
	assert_true(bench_is_seen(bench, &sight));
	assert_true(writer.left > 0);
	ev_timer_stop(bench->loop, &writer.timer);
}

/* New timings hold for the next event. */
static void test_other_timings(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;
	uint64_t begun_ns;

	make_file();
	bench_open(bench, &bench_quick);
	bench_look(bench, "file", &sight);
	watch_set_config(bench->watch, &patient);
	begun_ns = clock_now_ns();
	write_file();
	assert_true(bench_is_seen(bench, &sight));
	assert_true(clock_now_ns() - begun_ns >= patient.settle_ns);
}

/* The callback of a report may do anything. */

struct moving {
	struct bench *bench;
	struct bench_sight next;
	struct watch_path *watched;
};

static void on_change_move(void *context, const char *path)
{
	struct moving *moving = context;

	(void)path;
	watch_remove(moving->watched);
	moving->watched = NULL;
	assert_int_equal(watch_add(moving->bench->watch,
	                           scratch_path("%s/other", moving->bench->root),
	                           bench_on_change, &moving->next, &moving->next.watched),
	                 0);
	assert_int_equal(moving->next.n, 0);
}

static void test_owner_moves_on(void **state)
{
	struct bench *bench = *state;
	struct moving moving = { .bench = bench };

	make_file();
	bench_open(bench, &bench_quick);
	assert_int_equal(watch_add(bench->watch, scratch_path("%s/file", bench->root),
	                           on_change_move, &moving, &moving.watched),
	                 0);
	assert_true(bench_is_seen(bench, &moving.next));
	assert_null(moving.watched);
	bench_rest(bench, &moving.next);
	scratch_write("other", "1");
	assert_true(bench_is_seen(bench, &moving.next));
}

/* The same path again makes no new watch: a change under way is not lost, and no report comes
 * without one. */
static void test_move(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;
	struct watch_path *first;
	unsigned int before;

	make_file();
	bench_open(bench, &bench_quick);
	bench_look(bench, "file", &sight);
	first = sight.watched;
	before = sight.n;
	assert_int_equal(watch_move(bench->watch, scratch_path("%s/file", bench->root),
	                            bench_on_change, &sight, &sight.watched),
	                 0);
	assert_ptr_equal(sight.watched, first);
	bench_run(bench, 0.1);
	assert_int_equal(sight.n, before);
	assert_int_equal(watch_move(bench->watch, scratch_path("%s/other", bench->root),
	                            bench_on_change, &sight, &sight.watched),
	                 0);
	assert_true(bench_is_seen(bench, &sight));
	bench_rest(bench, &sight);
	scratch_write("other", "1");
	assert_true(bench_is_seen(bench, &sight));
	bench_rest(bench, &sight);
	before = sight.n;
	write_file();
	bench_run(bench, 0.1);
	assert_int_equal(sight.n, before);
	assert_int_equal(watch_move(bench->watch, NULL, bench_on_change, &sight,
	                            &sight.watched),
	                 0);
	assert_null(sight.watched);
	assert_int_equal(bench_kernel_watches(), 0);
}

/* A watch is removed while its report is under way: the report does not come, and nothing is
 * left. */
static void test_removed_before_the_report(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;
	unsigned int before;

	make_file();
	bench_open(bench, &patient);
	bench_look(bench, "file", &sight);
	before = sight.n;
	write_file();
	bench_run(bench, 0.05);
	watch_remove(sight.watched);
	watch_remove(NULL);
	bench_run(bench, 2.5);
	assert_int_equal(sight.n, before);
	assert_int_equal(bench_kernel_watches(), 0);
}

static long kernel_limit(const char *path)
{
	FILE *file = fopen(path, "re");
	long limit;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%ld", &limit), 1);
	(void)fclose(file);
	return limit;
}

/* More events than the kernel keeps: the dropped ones may have been about any path. */
static void test_overflow(void **state)
{
	const long n = kernel_limit("/proc/sys/fs/inotify/max_queued_events") + 1000;
	struct bench *bench = *state;
	struct bench_sight noisy;
	struct bench_sight quiet;

	make_directory();
	scratch_write("d/two", "1");
	make_deep();
	bench_open(bench, &bench_quick);
	bench_look(bench, "a/b/c/file", &quiet);
	bench_look(bench, "d", &noisy);
	bench_log_begin(bench);
	/* Two paths in turns: inotify merges equal events in a row. */
	for (long i = 0; i < n; i++)
		assert_int_equal(chmod(i % 2 ? "d/one" : "d/two", 0644), 0);
	exchange_parents();
	assert_true(bench_is_seen(bench, &quiet));
	assert_int_equal(bench_log_end(bench, "event=watch_lost"), 1);
	bench_rest(bench, &quiet);
	assert_true(noisy.n > 1);
	write_deep();
	assert_true(bench_is_seen(bench, &quiet));
	scratch_write("d/one", "2");
	assert_true(bench_is_seen(bench, &noisy));
	assert_int_equal(bench_kernel_watches(), watch_count(bench->watch));
}

/* A write through another name of the same file makes no event in the first one's
 * directory. */
static void test_the_poll_finds_the_rest(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;
	unsigned int before;

	make_file();
	scratch_mkdir("other");
	assert_int_equal(link("file", "other/name"), 0);
	bench_open(bench, &bench_quick);
	bench_look(bench, "file", &sight);
	before = sight.n;
	scratch_write("other/name", "elsewhere");
	bench_run(bench, 0.1);
	assert_int_equal(sight.n, before);
	watch_set_config(bench->watch, &polling);
	assert_true(bench_is_seen(bench, &sight));
	/* The poll looks again while the time stamp is young, and then no more. */
	bench_run(bench, 2.5);
	before = sight.n;
	bench_run(bench, 0.3);
	assert_int_equal(sight.n, before);
}

/* Limits of the kernel, in a user namespace of this test */

static bool is_alone;

static void write_proc(const char *path, const char *text)
{
	scratch_write(path, text);
}

static int enter_namespace(void **state)
{
	unsigned int uid = geteuid();
	unsigned int gid = getegid();

	(void)state;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		print_message("no namespaces here: %s\n", strerror(errno));
		return 0;
	}
	is_alone = true;
	write_proc("/proc/self/setgroups", "deny");
	write_proc("/proc/self/uid_map", scratch_path("0 %u 1", uid));
	write_proc("/proc/self/gid_map", scratch_path("0 %u 1", gid));
	return 0;
}

static void limit_watches(unsigned int n)
{
	write_proc("/proc/sys/user/max_inotify_watches", scratch_path("%u", n));
}

static void limit_instances(unsigned int n)
{
	write_proc("/proc/sys/user/max_inotify_instances", scratch_path("%u", n));
}

/* Stops the poll: from here on only events can tell. */
static void stop_polling(struct bench *bench, struct bench_sight *sight)
{
	watch_set_config(bench->watch, &bench_quick);
	bench_rest(bench, sight);
}

static void test_no_more_watches(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;

	if (!is_alone)
		skip();
	make_deep();
	bench_open(bench, &polling);
	bench_log_begin(bench);
	limit_watches(2);
	bench_look(bench, "a/b/c/file", &sight);
	assert_int_equal(watch_count(bench->watch), 2);
	write_deep();
	assert_true(bench_is_seen(bench, &sight));
	scratch_remove("a");
	assert_true(bench_is_seen(bench, &sight));
	make_deep();
	assert_true(bench_is_seen(bench, &sight));
	/* The log has one line, however often the watch is tried. */
	assert_int_equal(bench_log_end(bench, "event=watch_limit"), 1);

	/* The stamp is old enough that the poll has no other reason to look. */
	bench_run(bench, 2.5);
	limit_watches(100);
	bench_run(bench, 0.2);
	stop_polling(bench, &sight);
	assert_int_equal(bench_kernel_watches(), watch_count(bench->watch));
	write_deep();
	assert_true(bench_is_seen(bench, &sight));
}

static void test_no_inotify(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;

	if (!is_alone)
		skip();
	make_directory();
	bench_log_begin(bench);
	limit_instances(0);
	bench_open(bench, &polling);
	bench_look(bench, "d", &sight);
	assert_int_equal(watch_count(bench->watch), 0);
	scratch_replace("d/one", "3");
	assert_true(bench_is_seen(bench, &sight));
	scratch_remove("d");
	assert_true(bench_is_seen(bench, &sight));
	scratch_mkdir("d");
	scratch_swap("d", "1", "token", "1");
	assert_true(bench_is_seen(bench, &sight));
	assert_int_equal(bench_log_end(bench, "event=watch_polls"), 1);

	limit_instances(10);
	bench_run(bench, 0.2);
	stop_polling(bench, &sight);
	assert_true(watch_count(bench->watch) > 0);
	scratch_swap("d", "2", "token", "2");
	assert_true(bench_is_seen(bench, &sight));
}

/* A file system that goes away takes its watches along. */
static void test_unmounted(void **state)
{
	struct bench *bench = *state;
	struct bench_sight sight;

	if (!is_alone)
		skip();
	make_directory();
	if (mount("tmpfs", "d", "tmpfs", 0, NULL) < 0)
		skip();
	scratch_write("d/one", "mounted");
	bench_open(bench, &bench_quick);
	bench_look(bench, "d/one", &sight);
	assert_int_equal(umount("d"), 0);
	assert_true(bench_is_seen(bench, &sight));
	bench_rest(bench, &sight);
	scratch_write("d/one", "2");
	assert_true(bench_is_seen(bench, &sight));
	assert_int_equal(bench_kernel_watches(), watch_count(bench->watch));
}

#define WATCH_TEST(test) cmocka_unit_test_setup_teardown(test, bench_enter, bench_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WATCH_TEST(test_neighbours_are_ignored),
		WATCH_TEST(test_a_change_unsettles),
		WATCH_TEST(test_shared),
		WATCH_TEST(test_many_writes_are_one_report),
		WATCH_TEST(test_new_places_are_awaited),
		WATCH_TEST(test_a_storm_is_reported_at_the_cap),
		WATCH_TEST(test_other_timings),
		WATCH_TEST(test_owner_moves_on),
		WATCH_TEST(test_move),
		WATCH_TEST(test_removed_before_the_report),
		WATCH_TEST(test_overflow),
		WATCH_TEST(test_the_poll_finds_the_rest),
	};
	/* The last tests, because a namespace has no way back. */
	const struct CMUnitTest limits[] = {
		WATCH_TEST(test_no_more_watches),
		WATCH_TEST(test_no_inotify),
		WATCH_TEST(test_unmounted),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	return r + cmocka_run_group_tests(limits, enter_namespace, NULL);
}
