/* SPDX-License-Identifier: Apache-2.0 */

/* Families of /metrics about moultd itself. */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/proto.h"
#include "supervisor/memory/memory.h"
#include "supervisor/metrics/all.h"

/* Field of proc_pid_stat(5), counted from the state, which is the third. */
#define METRICS_STAT_STARTED 19

static uint64_t metrics_timeval_ns(struct timeval time)
{
	return (uint64_t)time.tv_sec * CLOCK_NS_PER_SEC + (uint64_t)time.tv_usec * 1000;
}

/* Since Linux 6.2 the folder's size says it; before that its entries are counted. */
static uint64_t metrics_open_fds(void)
{
	uint64_t n = 0;
	struct stat folder;
	DIR *directory;

	if (stat("/proc/self/fd", &folder) == 0 && folder.st_size > 0)
		return (uint64_t)folder.st_size;
	directory = opendir("/proc/self/fd");
	if (!directory)
		return 0;
	while (readdir(directory))
		n++;
	(void)closedir(directory);
	/* Two entries are dots, and one was for this. */
	return n > 3 ? n - 3 : 0;
}

/* Start of this process in ns since the epoch, from its ticks since the boot. */
static uint64_t metrics_started_ns(void)
{
	struct timespec boot = { 0 };
	char text[1024];
	const char *field;
	uint64_t ticks;

	if (!memory_read_file("/proc/self/stat", text, sizeof(text)))
		return 0;
	/* The process's name, before the last ')', may hold anything. */
	field = strrchr(text, ')');
	for (unsigned int i = 0; field && i <= METRICS_STAT_STARTED; i++)
		field = strchr(field + 1, ' ');
	if (!field)
		return 0;
	ticks = strtoull(field, NULL, 10);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	return clock_unix_ms() * CLOCK_NS_PER_MS -
	       (uint64_t)boot.tv_sec * CLOCK_NS_PER_SEC - (uint64_t)boot.tv_nsec +
	       ticks * (CLOCK_NS_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
}

void metrics_add_build(struct metrics *metrics)
{
	char protocol[16];
	const struct metrics_label labels[] = {
		{ "version", MOULT_VERSION },
		{ "protocol", protocol },
	};

	(void)snprintf(protocol, sizeof(protocol), "%d", PROTO_VERSION);
	metrics_begin(metrics, METRICS_BUILD);
	metrics_put(metrics, labels, sizeof(labels) / sizeof(labels[0]), 1);
}

void metrics_add_process(struct metrics *metrics, struct metrics_state *state)
{
	struct memory_size size = memory_size_of(getpid());
	struct rusage usage = { 0 };
	struct rlimit limit = { 0 };

	/* Asked once: the result would move with each step of the clock. */
	if (state->started_ns == 0)
		state->started_ns = metrics_started_ns();
	(void)getrusage(RUSAGE_SELF, &usage);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	metrics_begin(metrics, METRICS_PROCESS_CPU_SECONDS);
	metrics_put_ns(metrics, NULL, 0,
	               metrics_timeval_ns(usage.ru_utime) +
	                       metrics_timeval_ns(usage.ru_stime));
	metrics_put_one(metrics, METRICS_PROCESS_RESIDENT_MEMORY_BYTES,
	                size.resident_bytes);
	metrics_put_one(metrics, METRICS_PROCESS_VIRTUAL_MEMORY_BYTES,
	                size.virtual_bytes);
	metrics_put_one(metrics, METRICS_PROCESS_OPEN_FDS, metrics_open_fds());
	metrics_put_one(metrics, METRICS_PROCESS_MAX_FDS, (uint64_t)limit.rlim_cur);
	metrics_begin(metrics, METRICS_PROCESS_START_TIME_SECONDS);
	metrics_put_ns(metrics, NULL, 0, state->started_ns);
}
