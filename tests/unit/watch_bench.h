/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A bench for watches: a watch with a loop and a directory of its own. */

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/inputs/watch.h"

#define BENCH_MS (CLOCK_NS_PER_SEC / 1000)

struct bench {
	const char *root;
	struct ev_loop *loop;
	struct watch *watch;
	size_t fds;    /* open before the test */
	int stderr_fd; /* the real stderr while the log goes to a file; else -1 */
};

/* A watched path and its reports. */
struct bench_sight {
	struct watch_path *watched;
	unsigned int n;
};

/* A configuration that settles in 10 ms and never polls: only events can tell. */
extern const struct watch_config bench_quick;

/* Setup and teardown of cmocka: *state is a struct bench, without a watch so far. The end
 * fails when a descriptor is left. */
int bench_enter(void **state);
int bench_leave(void **state);
void bench_open(struct bench *bench, const struct watch_config *config);

void bench_run(struct bench *bench, double seconds);
/* Runs until @sight is reported again. False: no report came in time. */
bool bench_is_seen(struct bench *bench, struct bench_sight *sight);
/* Runs until no report has come for several times the settling, so that a later one is news. */
void bench_rest(struct bench *bench, const struct bench_sight *sight);
/* Watches @path, which is relative to the directory, past the report that follows. */
void bench_look(struct bench *bench, const char *path, struct bench_sight *ret_sight);
/* The callback for watch_add(); @context is a struct bench_sight. */
void bench_on_change(void *context, const char *path);
/* Counts the watches that the kernel holds for this process. */
size_t bench_kernel_watches(void);

/* Sends the log to a file from here on. */
void bench_log_begin(struct bench *bench);
/* Returns how often @event was logged since, and sends the log to stderr again. */
unsigned int bench_log_end(struct bench *bench, const char *event);
