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

#include "scratch.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "supervisor/watch.h"

#define MS         (CLOCK_NS_PER_SEC / 1000)
#define DEADLINE_S 10.
#define STEPS_MAX  4
#define LOG_BYTES  16384

static const struct watch_config quick = {
	.settle_ns = 10 * MS,
	.settle_cap_ns = 200 * MS,
};
/* No inotify event can be the reason for a report that comes at this pace only. */
static const struct watch_config polling = {
	.settle_ns = 10 * MS,
	.settle_cap_ns = 200 * MS,
	.poll_ns = 50 * MS,
};

struct bench {
	const char *root;
	struct ev_loop *loop;
	struct watch *watch;
	size_t fds;
	int stderr_fd; /* while the log goes to a file; else -1 */
};

/* One watched path and what was reported of it. */
struct sight {
	struct watch_path *watched;
	unsigned int n;
};

static void on_change(void *context, const char *path)
{
	struct sight *sight = context;

	assert_int_equal(path[0], '/');
	sight->n++;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)timer;
	(void)revents;
	ev_break(loop, EVBREAK_ONE);
}

static void run_for(struct bench *bench, double seconds)
{
	ev_timer timer;

	ev_timer_init(&timer, on_timer, seconds, 0.);
	ev_now_update(bench->loop);
	ev_timer_start(bench->loop, &timer);
	ev_run(bench->loop, 0);
	ev_timer_stop(bench->loop, &timer);
}

/* Runs until @sight is reported again; whether it was. */
static bool is_seen(struct bench *bench, struct sight *sight)
{
	unsigned int before = sight->n;
	uint64_t end_ns = clock_now_ns() + (uint64_t)(DEADLINE_S * 1e9);

	while (sight->n == before && clock_now_ns() < end_ns)
		run_for(bench, 0.005);
	return sight->n != before;
}

/* Until nothing is reported for several times the settling: what comes later is news. */
static void rest(struct bench *bench, const struct sight *sight)
{
	unsigned int before;

	do {
		before = sight->n;
		run_for(bench, 4e-9 * (double)quick.settle_ns);
	} while (sight->n != before);
}

/* Watches @path, which is relative to the directory, past the report that follows. */
static void look_at(struct bench *bench, const char *path, struct sight *ret_sight)
{
	*ret_sight = (struct sight){ 0 };
	assert_int_equal(watch_add(bench->watch, scratch_path("%s/%s", bench->root, path),
	                           on_change, ret_sight, &ret_sight->watched),
	                 0);
	assert_int_equal(ret_sight->n, 0);
	assert_true(is_seen(bench, ret_sight));
	rest(bench, ret_sight);
}

/* Watches that the kernel holds for all of our descriptors. */
static size_t kernel_watches(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 64; fd++) {
		FILE *info = fopen(scratch_path("/proc/self/fdinfo/%d", fd), "re");
		char line[256];

		while (info && fgets(line, sizeof(line), info))
			n += strncmp(line, "inotify ", 8) == 0;
		if (info)
			(void)fclose(info);
	}
	return n;
}

static void open_watch(struct bench *bench, const struct watch_config *config)
{
	assert_int_equal(watch_new(&bench->watch, bench->loop, config), 0);
}

static int enter(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	assert_non_null(bench);
	*state = bench;
	bench->fds = scratch_fds();
	bench->stderr_fd = -1;
	bench->root = scratch_enter();
	bench->loop = ev_loop_new(EVFLAG_AUTO);
	assert_non_null(bench->loop);
	return 0;
}

/* What is logged from here on goes to a file, to be counted by log_end(). */
static void log_begin(struct bench *bench)
{
	int fd = open("log", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	bench->stderr_fd = dup(STDERR_FILENO);
	assert_true(bench->stderr_fd >= 0 && fd >= 0);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	assert_int_equal(close(fd), 0);
}

static void log_restore(struct bench *bench)
{
	if (bench->stderr_fd >= 0)
		assert_int_equal(dup2(bench->stderr_fd, STDERR_FILENO), STDERR_FILENO);
	close_fd(&bench->stderr_fd);
}

/* How often @event was logged. */
static unsigned int log_end(struct bench *bench, const char *event)
{
	static char text[LOG_BYTES];
	ssize_t bytes = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);
	unsigned int n = 0;

	log_restore(bench);
	assert_true(bytes >= 0);
	text[bytes] = '\0';
	for (const char *at = text; (at = strstr(at, event)); at++)
		n++;
	return n;
}

static int leave(void **state)
{
	struct bench *bench = *state;

	log_restore(bench);
	watch_free(bench->watch);
	ev_loop_destroy(bench->loop);
	scratch_leave();
	assert_int_equal(scratch_fds(), bench->fds);
	free(bench);
	return 0;
}

/* What may happen to a path. Each function is one step after which a report must come. */

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

/* Deeper, and by one who does not wait for us. */
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

/* No swap, but what is behind it changes all the same. */
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

/* A link inside a directory that leads out of it, the whole path as the target. */
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
		struct sight sight;

		rows[i].prepare();
		open_watch(bench, &quick);
		look_at(bench, rows[i].path, &sight);
		for (size_t step = 0; step < STEPS_MAX && rows[i].steps[step]; step++) {
			rows[i].steps[step]();
			if (!is_seen(bench, &sight))
				fail_msg("%s: step %zu", rows[i].what, step);
			rest(bench, &sight);
			assert_int_equal(kernel_watches(), watch_count(bench->watch));
		}
		watch_remove(sight.watched);
		assert_int_equal(watch_count(bench->watch), 0);
		assert_int_equal(kernel_watches(), 0);
		watch_free(bench->watch);
		bench->watch = NULL;
		/* Everything goes, so that no row depends on another. */
		scratch_leave();
		bench->root = scratch_enter();
	}
}

/* What happens beside a file is nobody's business. */
static void test_neighbours_are_ignored(void **state)
{
	struct bench *bench = *state;
	struct sight sight;
	unsigned int before;

	make_file();
	open_watch(bench, &quick);
	look_at(bench, "file", &sight);
	before = sight.n;
	scratch_write("file.tmp", "half");
	scratch_mkdir("file.d");
	scratch_remove("file.tmp");
	assert_int_equal(close(open("file", O_RDONLY | O_CLOEXEC)), 0);
	run_for(bench, 0.1);
	assert_int_equal(sight.n, before);
	replace_file();
	assert_true(is_seen(bench, &sight));
}

/* Several paths share what they need, and none is taken from the others. */
static void test_shared(void **state)
{
	struct bench *bench = *state;
	struct sight directory;
	struct sight one;
	struct sight again;
	struct sight below;
	unsigned int before;

	make_directory();
	scratch_mkdir("d/sub");
	scratch_write("d/sub/file", "1");
	open_watch(bench, &quick);
	look_at(bench, "d/one", &one);
	look_at(bench, "d", &directory);
	look_at(bench, "d/one", &again);
	/* Wants the least of the directory. */
	look_at(bench, "d/sub/file", &below);
	before = one.n;
	add_to_directory();
	assert_true(is_seen(bench, &directory));
	rest(bench, &directory);
	assert_int_equal(one.n, before);
	watch_remove(directory.watched);
	write_in_directory();
	assert_true(is_seen(bench, &one));
	rest(bench, &one);
	watch_remove(one.watched);
	move_in_directory();
	assert_true(is_seen(bench, &again));
	watch_remove(again.watched);
	watch_remove(below.watched);
	assert_int_equal(kernel_watches(), 0);
}

/* Debouncing */

static const struct watch_config patient = {
	.settle_ns = 500 * MS,
	.settle_cap_ns = 60 * CLOCK_NS_PER_SEC,
};
static const struct watch_config capped = {
	.settle_ns = 500 * MS,
	.settle_cap_ns = 600 * MS,
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
	/* No write: on a busy disk it may take as long as the settling. */
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
	struct sight sight;
	unsigned int before;

	make_file();
	open_watch(bench, &patient);
	look_at(bench, "file", &sight);
	before = sight.n;
	for (int i = 0; i < 20; i++)
		write_file();
	start_writing(bench, &writer, "file", 150);
	assert_true(is_seen(bench, &sight));
	assert_int_equal(writer.left, 0);
	run_for(bench, 1.);
	assert_int_equal(sight.n, before + 1);
}

/* A place that came into being meanwhile counts as well. */
static void test_new_places_are_awaited(void **state)
{
	struct bench *bench = *state;
	struct writer writer;
	struct sight sight;
	unsigned int before;

	open_watch(bench, &patient);
	look_at(bench, "a/b/c/file", &sight);
	before = sight.n;
	make_deep();
	start_writing(bench, &writer, "a/b/c/file", 150);
	assert_true(is_seen(bench, &sight));
	assert_int_equal(writer.left, 0);
	run_for(bench, 1.);
	assert_int_equal(sight.n, before + 1);
}

/* Who never rests is reported all the same. */
static void test_a_storm_is_reported_at_the_cap(void **state)
{
	struct bench *bench = *state;
	struct writer writer;
	struct sight sight;

	make_file();
	open_watch(bench, &capped);
	look_at(bench, "file", &sight);
	start_writing(bench, &writer, "file", 100000);
	assert_true(is_seen(bench, &sight));
	assert_true(is_seen(bench, &sight));
	assert_true(writer.left > 0);
	ev_timer_stop(bench->loop, &writer.timer);
}

/* New timings hold for the next event. */
static void test_other_timings(void **state)
{
	struct bench *bench = *state;
	struct sight sight;
	uint64_t begun_ns;

	make_file();
	open_watch(bench, &quick);
	look_at(bench, "file", &sight);
	watch_set_config(bench->watch, &patient);
	begun_ns = clock_now_ns();
	write_file();
	assert_true(is_seen(bench, &sight));
	assert_true(clock_now_ns() - begun_ns >= patient.settle_ns);
}

/* From the report, everything is allowed. */

struct moving {
	struct bench *bench;
	struct sight next;
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
	                           on_change, &moving->next, &moving->next.watched),
	                 0);
	assert_int_equal(moving->next.n, 0);
}

static void test_owner_moves_on(void **state)
{
	struct bench *bench = *state;
	struct moving moving = { .bench = bench };

	make_file();
	open_watch(bench, &quick);
	assert_int_equal(watch_add(bench->watch, scratch_path("%s/file", bench->root),
	                           on_change_move, &moving, &moving.watched),
	                 0);
	assert_true(is_seen(bench, &moving.next));
	assert_null(moving.watched);
	rest(bench, &moving.next);
	scratch_write("other", "1");
	assert_true(is_seen(bench, &moving.next));
}

/* Removed while a report is under way: it does not come, and nothing is left behind. */
static void test_removed_before_the_report(void **state)
{
	struct bench *bench = *state;
	struct sight sight;
	unsigned int before;

	make_file();
	open_watch(bench, &patient);
	look_at(bench, "file", &sight);
	before = sight.n;
	write_file();
	run_for(bench, 0.05);
	watch_remove(sight.watched);
	watch_remove(NULL);
	run_for(bench, 0.8);
	assert_int_equal(sight.n, before);
	assert_int_equal(kernel_watches(), 0);
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

/* More than the kernel keeps: what it drops may have been about anybody. */
static void test_overflow(void **state)
{
	const long n = kernel_limit("/proc/sys/fs/inotify/max_queued_events") + 1000;
	struct bench *bench = *state;
	struct sight noisy;
	struct sight quiet;

	make_directory();
	add_to_directory();
	make_deep();
	open_watch(bench, &quick);
	look_at(bench, "a/b/c/file", &quiet);
	look_at(bench, "d", &noisy);
	log_begin(bench);
	/* In turns: the same event twice in a row would be one. */
	for (long i = 0; i < n; i++)
		assert_int_equal(chmod(i % 2 ? "d/one" : "d/two", 0644), 0);
	exchange_parents();
	assert_true(is_seen(bench, &quiet));
	assert_int_equal(log_end(bench, "event=watch_lost"), 1);
	rest(bench, &quiet);
	assert_true(noisy.n > 1);
	write_deep();
	assert_true(is_seen(bench, &quiet));
	write_in_directory();
	assert_true(is_seen(bench, &noisy));
	assert_int_equal(kernel_watches(), watch_count(bench->watch));
}

/* A write through another name of the same file makes no event in the first one's
 * directory. */
static void test_the_poll_finds_the_rest(void **state)
{
	struct bench *bench = *state;
	struct sight sight;
	unsigned int before;

	make_file();
	scratch_mkdir("other");
	assert_int_equal(link("file", "other/name"), 0);
	open_watch(bench, &quick);
	look_at(bench, "file", &sight);
	before = sight.n;
	scratch_write("other/name", "elsewhere");
	run_for(bench, 0.1);
	assert_int_equal(sight.n, before);
	watch_set_config(bench->watch, &polling);
	assert_true(is_seen(bench, &sight));
	/* It looks again while the time stamp is young, and then no more. */
	run_for(bench, 2.5);
	before = sight.n;
	run_for(bench, 0.3);
	assert_int_equal(sight.n, before);
}

/* Limits of the kernel, in a namespace of users where they are ours */

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

/* From here on, only events can tell. */
static void stop_polling(struct bench *bench, struct sight *sight)
{
	watch_set_config(bench->watch, &quick);
	rest(bench, sight);
}

static void test_no_more_watches(void **state)
{
	struct bench *bench = *state;
	struct sight sight;

	if (!is_alone)
		skip();
	make_deep();
	open_watch(bench, &polling);
	log_begin(bench);
	limit_watches(2);
	look_at(bench, "a/b/c/file", &sight);
	assert_int_equal(watch_count(bench->watch), 2);
	write_deep();
	assert_true(is_seen(bench, &sight));
	remove_parents();
	assert_true(is_seen(bench, &sight));
	make_deep();
	assert_true(is_seen(bench, &sight));
	/* Said once, however often it is tried. */
	assert_int_equal(log_end(bench, "event=watch_limit"), 1);

	/* Old enough that the poll has no other reason to look. */
	run_for(bench, 2.5);
	limit_watches(100);
	run_for(bench, 0.2);
	stop_polling(bench, &sight);
	assert_int_equal(kernel_watches(), watch_count(bench->watch));
	write_deep();
	assert_true(is_seen(bench, &sight));
}

static void test_no_inotify(void **state)
{
	struct bench *bench = *state;
	struct sight sight;

	if (!is_alone)
		skip();
	make_directory();
	log_begin(bench);
	limit_instances(0);
	open_watch(bench, &polling);
	look_at(bench, "d", &sight);
	assert_int_equal(watch_count(bench->watch), 0);
	for (size_t i = 0; i < 3; i++) {
		void (*const steps[])(void) = { move_in_directory, remove_directory,
			                        swap_first };

		steps[i]();
		assert_true(is_seen(bench, &sight));
	}
	assert_int_equal(log_end(bench, "event=watch_polls"), 1);

	limit_instances(10);
	run_for(bench, 0.2);
	stop_polling(bench, &sight);
	assert_true(watch_count(bench->watch) > 0);
	swap_second();
	assert_true(is_seen(bench, &sight));
}

/* A file system that goes away takes its watches along. */
static void test_unmounted(void **state)
{
	struct bench *bench = *state;
	struct sight sight;

	if (!is_alone)
		skip();
	make_directory();
	if (mount("tmpfs", "d", "tmpfs", 0, NULL) < 0)
		skip();
	scratch_write("d/one", "mounted");
	open_watch(bench, &quick);
	look_at(bench, "d/one", &sight);
	assert_int_equal(umount("d"), 0);
	assert_true(is_seen(bench, &sight));
	rest(bench, &sight);
	write_in_directory();
	assert_true(is_seen(bench, &sight));
	assert_int_equal(kernel_watches(), watch_count(bench->watch));
}

#define WATCH_TEST(test) cmocka_unit_test_setup_teardown(test, enter, leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WATCH_TEST(test_table),
		WATCH_TEST(test_neighbours_are_ignored),
		WATCH_TEST(test_shared),
		WATCH_TEST(test_many_writes_are_one_report),
		WATCH_TEST(test_new_places_are_awaited),
		WATCH_TEST(test_a_storm_is_reported_at_the_cap),
		WATCH_TEST(test_other_timings),
		WATCH_TEST(test_owner_moves_on),
		WATCH_TEST(test_removed_before_the_report),
		WATCH_TEST(test_overflow),
		WATCH_TEST(test_the_poll_finds_the_rest),
	};
	/* The last: there is no way back. */
	const struct CMUnitTest limits[] = {
		WATCH_TEST(test_no_more_watches),
		WATCH_TEST(test_no_inotify),
		WATCH_TEST(test_unmounted),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	return r + cmocka_run_group_tests(limits, enter_namespace, NULL);
}
