/* SPDX-License-Identifier: Apache-2.0 */
#include "watch_bench.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "shared/cleanup.h"
#include "shared/clock.h"

#define BENCH_DEADLINE_S 10.
#define BENCH_LOG_BYTES  16384

const struct watch_config bench_quick = {
	.settle_ns = 10 * BENCH_MS,
	.settle_cap_ns = 200 * BENCH_MS,
};

void bench_on_change(void *context, const char *path)
{
	struct bench_sight *sight = context;

	assert_int_equal(path[0], '/');
	sight->n++;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)timer;
	(void)revents;
	ev_break(loop, EVBREAK_ONE);
}

void bench_run(struct bench *bench, double seconds)
{
	ev_timer timer;

	ev_timer_init(&timer, on_timer, seconds, 0.);
	ev_now_update(bench->loop);
	ev_timer_start(bench->loop, &timer);
	ev_run(bench->loop, 0);
	ev_timer_stop(bench->loop, &timer);
}

bool bench_is_seen(struct bench *bench, struct bench_sight *sight)
{
	unsigned int before = sight->n;
	uint64_t end_ns = clock_now_ns() + (uint64_t)(BENCH_DEADLINE_S * 1e9);

	while (sight->n == before && clock_now_ns() < end_ns)
		bench_run(bench, 0.005);
	return sight->n != before;
}

void bench_rest(struct bench *bench, const struct bench_sight *sight)
{
	unsigned int before;

	do {
		before = sight->n;
		bench_run(bench, 4e-9 * (double)bench_quick.settle_ns);
	} while (sight->n != before);
}

void bench_look(struct bench *bench, const char *path, struct bench_sight *ret_sight)
{
	*ret_sight = (struct bench_sight){ 0 };
	assert_int_equal(watch_add(bench->watch, scratch_path("%s/%s", bench->root, path),
	                           bench_on_change, ret_sight, &ret_sight->watched),
	                 0);
	assert_int_equal(ret_sight->n, 0);
	assert_true(bench_is_seen(bench, ret_sight));
	bench_rest(bench, ret_sight);
}

size_t bench_kernel_watches(void)
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

void bench_open(struct bench *bench, const struct watch_config *config)
{
	assert_int_equal(watch_new(&bench->watch, bench->loop, config), 0);
}

int bench_enter(void **state)
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

void bench_log_begin(struct bench *bench)
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

unsigned int bench_log_end(struct bench *bench, const char *event)
{
	static char text[BENCH_LOG_BYTES];
	ssize_t bytes = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);
	unsigned int n = 0;

	log_restore(bench);
	assert_true(bytes >= 0);
	text[bytes] = '\0';
	for (const char *at = text; (at = strstr(at, event)); at++)
		n++;
	return n;
}

int bench_leave(void **state)
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
