/* SPDX-License-Identifier: Apache-2.0 */

/* Faults of the process itself. */

#include "hostile.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"

/* However the test ends, a keeper does not stay longer than this. */
#define PROCESS_KEEPER_S 60

static void process_sleep(uint64_t ms)
{
	struct timespec pause = {
		.tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000,
	};

	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static void process_pause(void)
{
	for (;;)
		(void)pause();
}

static void process_spin(void)
{
	volatile bool is_forever = true;

	/* Lowest priority: the test is that nothing comes of it, not that the machine is slow. */
	(void)setpriority(PRIO_PROCESS, 0, 19);
	while (is_forever)
		;
}

_Noreturn void hostile_refuse(struct hostile *hostile, int code)
{
	const char *name = code == PROTO_EXIT_CONFIG   ? "config"
	                   : code == PROTO_EXIT_MODEL  ? "model"
	                   : code == PROTO_EXIT_DEVICE ? "device"
	                                               : "internal";
	json_t *json = json_pack("{s:s,s:s}", "code", name, "reason",
	                         code == PROTO_EXIT_DEVICE
	                                 ? "the hostile loader is out of memory"
	                                 : "the hostile loader refuses");
	char *text = json_dumps(json, JSON_COMPACT);

	(void)chan_send(&hostile->chan, PROTO_REFUSED, hostile->generation, text, NULL,
	                0);
	_exit(code);
}

static void process_chatter(uint64_t ms)
{
	uint64_t until_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;
	char line[1000];

	memset(line, 'x', sizeof(line));
	memcpy(line + sizeof(line) - 4, "\x80\"\\\n", 4);
	while (clock_now_ns() < until_ns)
		(void)!write(STDERR_FILENO, line, sizeof(line));
}

/* Leaves a child that outlives the loader and keeps all that it had: the channel, the rings,
 * the log. */
static void process_straggle(struct hostile *hostile, uint64_t ms)
{
	static const struct hostile_fault scribble = { .action = HOSTILE_RING_SCRIBBLE,
		                                       .number = 0x5a };
	static const struct hostile_fault garbage = { .action = HOSTILE_CHAN_GARBAGE,
		                                      .number = 64 };
	uint64_t until_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;

	if (fork() != 0)
		return;
	(void)signal(SIGTERM, SIG_IGN);
	while (clock_now_ns() < until_ns) {
		hostile_do_rings(hostile, &scribble);
		hostile_do_channel(hostile, &garbage);
		process_sleep(1);
	}
	_exit(0);
}

/*
 * SIGKILL does not end a traced process that stops on its way out (PTRACE_EVENT_EXIT) for
 * as long as its tracer lets it: to its parent it is what a process in the hands of a
 * driver is, alive, holding its memory, and deaf to everything.
 */
static void process_keep(pid_t pid, int ready_fd, uint64_t ms, const char *release)
{
	uint64_t until_ns = CLOCK_NEVER;
	char ready = 1;
	int status;

	(void)setsid();
	(void)alarm(PROCESS_KEEPER_S);
	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT) < 0) {
		log_event(LOG_LEVEL_ERR, "hostile", "what=\"no ptrace\"");
		_exit(1);
	}
	(void)!write(ready_fd, &ready, 1);
	(void)close_range(0, ~0U, 0);
	while (until_ns == CLOCK_NEVER && waitpid(pid, &status, __WALL) == pid &&
	       WIFSTOPPED(status)) {
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
			until_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;
		else if (status >> 16 == PTRACE_EVENT_STOP)
			(void)ptrace(PTRACE_LISTEN, pid, NULL,
			             0); /* the process stays stopped */
		else
			(void)ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status));
	}
	while (ms ? clock_now_ns() < until_ns : access(release, F_OK) != 0)
		process_sleep(5);
	_exit(0);
}

/* Lets SIGKILL end this process only after @ms; 0: when the file LOADER.release is there. */
static void process_become_unkillable(const struct hostile *hostile, uint64_t ms)
{
	char release[512];
	pid_t pid = getpid();
	pid_t keeper;
	int fds[2];
	char ready;

	(void)snprintf(release, sizeof(release), "%s.release", hostile->path);
	if (pipe2(fds, O_CLOEXEC) < 0)
		_exit(PROTO_EXIT_INTERNAL);
	keeper = fork();
	if (keeper == 0)
		process_keep(pid, fds[1], ms, release);
	(void)prctl(PR_SET_PTRACER, keeper);
	(void)close(fds[1]);
	if (read(fds[0], &ready, 1) != 1)
		_exit(PROTO_EXIT_INTERNAL);
	(void)close(fds[0]);
}

void hostile_do_process(struct hostile *hostile, const struct hostile_fault *fault)
{
	switch ((int)fault->action) {
	case HOSTILE_KILL:
		(void)raise(SIGKILL);
		break;
	case HOSTILE_SEGV:
		(void)raise(SIGSEGV);
		break;
	case HOSTILE_ABORT:
		abort();
	case HOSTILE_STOP:
		(void)raise(SIGSTOP);
		break;
	case HOSTILE_EXIT:
		_exit((int)fault->number);
	case HOSTILE_SPIN:
		process_spin();
		break;
	case HOSTILE_DEAF:
		(void)signal(SIGTERM, SIG_IGN);
		process_pause();
		break;
	case HOSTILE_SILENCE:
		process_pause();
		break;
	case HOSTILE_REFUSE:
		hostile_refuse(hostile, (int)fault->number);
		break;
	case HOSTILE_UNKILLABLE:
		process_become_unkillable(hostile, fault->number);
		break;
	case HOSTILE_STRAGGLER:
		process_straggle(hostile, fault->number);
		break;
	case HOSTILE_CHATTER:
		process_chatter(fault->number);
		break;
	case HOSTILE_SLEEP:
		process_sleep(fault->number);
		break;
	default:
		break;
	}
}
