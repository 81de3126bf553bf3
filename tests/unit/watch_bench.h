/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A watch with a loop and a directory of its own, for tests that say what happens there. */

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/inputs/watch.h"

#define BENCH_MS (CLOCK_NS_PER_SEC / 1000)

struct bench {
	const char *root;
	struct ev_loop *loop;
	struct watch *watch;
	size_t fds;    /* open before the test */
	int stderr_fd; /* while the log goes to a file; else -1 */
};

/* One watched path and what was reported of it. */
struct bench_sight {
	struct watch_path *watched;
	unsigned int n;
};

/* Settles in 10 ms and never polls: only events can tell. */
extern const struct watch_config bench_quick;

/* Setup and teardown of cmocka: *state is a struct bench, without a watch so far. The end
 * fails when a descriptor is left. */
int bench_enter(void **state);
int bench_leave(void **state);
void bench_open(struct bench *bench, const struct watch_config *config);

void bench_run(struct bench *bench, double seconds);
/* Runs until @sight is reported again; whether it was. */
bool bench_is_seen(struct bench *bench, struct bench_sight *sight);
/* Until nothing is reported for several times the settling: what comes later is news. */
void bench_rest(struct bench *bench, const struct bench_sight *sight);
/* Watches @path, which is relative to the directory, past the report that follows. */
void bench_look(struct bench *bench, const char *path, struct bench_sight *ret_sight);
/* For watch_add(): @context is a struct bench_sight. */
void bench_on_change(void *context, const char *path);
/* Watches that the kernel holds for all of our descriptors. */
size_t bench_kernel_watches(void);

/* What is logged from here on goes to a file. */
void bench_log_begin(struct bench *bench);
/* How often @event was logged since. */
unsigned int bench_log_end(struct bench *bench, const char *event);
