/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every process that moultd starts has a mark in its environment, which its descendants inherit: who
 * the moultd was. A process whose moultd is over is a leftover. Only its own user may read an
 * environment: for loaders with users of their own, a copy of moultd becomes each of these in turn.
 */
#include "supervisor/process/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/memory/memory.h"
#include "supervisor/process/privileges.h"
#include "supervisor/process/proc.h"

/* Killed processes die within milliseconds, or stay for a reason. */
#define LEFTOVERS_WAIT_NS (2 * CLOCK_NS_PER_SEC)
/* Most processes named in the log; further ones are killed unnamed. */
#define LEFTOVERS_NAMED_MAX 64
/* The writer of the access log ends by itself, when it has written all lines. */
#define LEFTOVERS_WRITER "moult-log"

struct leftovers_sweep {
	pid_t named[LEFTOVERS_NAMED_MAX];
	size_t n;
	const char *inherited; /* mark that this process was started with; NULL: none */
	uid_t uid;
};

/* Identity of a moultd */

struct leftovers_run leftovers_run_self(void)
{
	struct leftovers_run run = { .pid = getpid() };
	struct proc self;
	struct stat st;

	if (proc_read(run.pid, &self))
		run.start_ticks = self.start_ticks;
	if (stat("/proc/self/ns/pid", &st) == 0)
		run.pid_namespace = st.st_ino;
	return run;
}

void leftovers_run_print(const struct leftovers_run *run, char *text)
{
	(void)snprintf(text, LEFTOVERS_MARK_MAX, "%d-%" PRIu64 "-%" PRIu64, (int)run->pid,
	               run->start_ticks, run->pid_namespace);
}

bool leftovers_run_parse(const char *text, struct leftovers_run *ret_run)
{
	struct leftovers_run run = { 0 };
	char again[LEFTOVERS_MARK_MAX];
	int pid;

	if (sscanf(text, "%d-%" SCNu64 "-%" SCNu64, &pid, &run.start_ticks,
	           &run.pid_namespace) != 3 ||
	    pid <= 0)
		return false;
	run.pid = pid;
	/* sscanf() takes blanks, signs and a tail: only an exact print counts. */
	leftovers_run_print(&run, again);
	if (strcmp(again, text) != 0)
		return false;
	*ret_run = run;
	return true;
}

bool leftovers_run_is_over(const struct leftovers_run *run)
{
	struct proc proc;
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) < 0 || st.st_ino != run->pid_namespace)
		return false;
	return !proc_read(run->pid, &proc) || proc.start_ticks != run->start_ticks ||
	       proc_is_dead(&proc);
}

/* Leftovers */

static bool leftovers_is_one(const struct leftovers_sweep *sweep, const struct proc *proc)
{
	char mark[LEFTOVERS_MARK_MAX];
	struct leftovers_run run;
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/proc/%d", (int)proc->pid);
	return !proc_is_dead(proc) && stat(path, &st) == 0 && st.st_uid == sweep->uid &&
	       strcmp(proc->comm, LEFTOVERS_WRITER) != 0 &&
	       proc_get_variable(proc->pid, LEFTOVERS_MARK, mark, sizeof(mark)) &&
	       leftovers_run_parse(mark, &run) && run.pid != getpid() &&
	       !(sweep->inherited && strcmp(sweep->inherited, mark) == 0) &&
	       proc_has_our_numbers(proc->pid) && leftovers_run_is_over(&run);
}

void leftovers_say(const struct proc *proc)
{
	log_event(LOG_LEVEL_WARNING, "leftover",
	          "pid=%d comm=%s anon_bytes=%" PRIu64
	          " action=kill reason=\"a loader of a moultd that is gone started it\"",
	          (int)proc->pid, LOG_QUOTED(proc->comm),
	          memory_size_of(proc->pid).anon_bytes);
}

static void leftovers_name(struct leftovers_sweep *sweep, const struct proc *proc)
{
	size_t n = sweep->n < LEFTOVERS_NAMED_MAX ? sweep->n : LEFTOVERS_NAMED_MAX;

	for (size_t i = 0; i < n; i++)
		if (sweep->named[i] == proc->pid)
			return;
	if (n < LEFTOVERS_NAMED_MAX) {
		sweep->named[n] = proc->pid;
		leftovers_say(proc);
	}
	sweep->n++;
}

/* Kills all leftovers that are found now. Returns how many. */
static size_t leftovers_look(struct leftovers_sweep *sweep)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)) != NULL) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		struct proc proc;

		if (pid <= 0 || !proc_read(pid, &proc) || !leftovers_is_one(sweep, &proc))
			continue;
		n++;
		leftovers_name(sweep, &proc);
		/* The whole group at once, however fast it forks. A loader has a
		 * session of its own, and no descendant ever enters the session of
		 * moultd. */
		if (proc.group > 1 && proc.session != getsid(0))
			(void)kill(-proc.group, SIGKILL);
		(void)proc_kill(&proc);
	}
	if (dir)
		(void)closedir(dir);
	return n;
}

static void leftovers_sweep_as(void)
{
	(void)leftovers_sweep();
}

void leftovers_sweep_users(const struct config_users *users)
{
	uid_t swept[CONFIG_MODELS_MAX];
	size_t n = 0;
	DIR *dir = opendir("/proc");
	const struct dirent *entry;

	while (dir && n < CONFIG_MODELS_MAX && (entry = readdir(dir)) != NULL) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		uid_t user = pid > 0 ? proc_user(pid) : 0;
		size_t i = 0;

		if (user < users->first || user > users->last)
			continue;
		while (i < n && swept[i] != user)
			i++;
		if (i < n)
			continue;
		swept[n++] = user;
		privileges_call_as(user, leftovers_sweep_as);
	}
	if (dir)
		(void)closedir(dir);
}

size_t leftovers_sweep(void)
{
	struct leftovers_sweep sweep = {
		.inherited = getenv(LEFTOVERS_MARK),
		.uid = geteuid(),
	};
	const struct timespec pause = { .tv_nsec = 2 * CLOCK_NS_PER_MS };
	uint64_t deadline_ns = clock_now_ns() + LEFTOVERS_WAIT_NS;
	size_t n_left;

	while ((n_left = leftovers_look(&sweep)) > 0 && clock_now_ns() < deadline_ns)
		(void)nanosleep(&pause, NULL);
	if (n_left > 0)
		log_event(LOG_LEVEL_ERR, "leftovers_stay",
		          "processes=%zu reason=\"they survive SIGKILL, and hold what "
		          "they hold\"",
		          n_left);
	return sweep.n;
}
