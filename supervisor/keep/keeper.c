/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pool of forked writers. keeper_start() forks one for each job, with all signals
 * blocked. The writer closes what the job does not need, runs it, and on failure writes a
 * sentence to a pipe. The supervisor watches the pidfd, reaps the writer, and logs the
 * sentence. A writer does not exec, since the job needs this process's memory. Jobs are
 * numbered when they are started, so that a slow writer's older state never counts as the
 * newest.
 */

#include "supervisor/keep/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/keep/keep.h"

/* Time that all writers together get at the end. Writers that take longer go on alone. */
#define KEEPER_FINI_NS CLOCK_NS_PER_SEC
#define KEEPER_FD_MIN  3

static void keeper_lost(struct keeper *keeper, const char *of, const char *why)
{
	keeper->n_lost++;
	log_event(LOG_LEVEL_WARNING, "last_good_lost", "%s reason=%s", of,
	          LOG_QUOTED(why));
}

/* The writer */

static int keeper_compare(const void *a, const void *b)
{
	int left = *(const int *)a;
	int right = *(const int *)b;

	return (left > right) - (left < right);
}

/* A client's connection must not stay open for as long as the disk takes. */
static int keeper_close_others(const struct keeper_job *job, int sentence_fd)
{
	int kept[KEEPER_FDS_MAX + 1] = { sentence_fd };
	int next = KEEPER_FD_MIN;

	memcpy(kept + 1, job->fds, sizeof(job->fds));
	qsort(kept, sizeof(kept) / sizeof(kept[0]), sizeof(kept[0]), keeper_compare);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (kept[i] < next)
			continue;
		if (kept[i] > next &&
		    close_range((unsigned int)next, (unsigned int)kept[i] - 1, 0) < 0)
			return -errno;
		next = kept[i] + 1;
	}
	return close_range((unsigned int)next, ~0U, 0) < 0 ? -errno : 0;
}

/* Never returns. Every signal is blocked: the supervisor's handlers are not for the
 * writer. */
static void keeper_write(const struct keeper_job *job, uint64_t number, int sentence_fd)
{
	struct err err = ERR_NULL;
	int r = keeper_close_others(job, sentence_fd);

	if (r < 0)
		(void)err_set(&err, r, "descriptors cannot be closed: %s", strerror(-r));
	else
		r = job->save(job->what, number, &err);
	if (r < 0 && write(sentence_fd, err.text, strlen(err.text)) < 0)
		_exit(2);
	_exit(r < 0 ? 1 : 0);
}

/* The supervisor */

static void keeper_release(struct keeper_writer *writer)
{
	ev_io_stop(writer->keeper->loop, &writer->io);
	close_fd(&writer->pidfd);
	close_fd(&writer->sentence_fd);
	orphans_remove(&writer->kin);
	writer->pid = 0;
}

/* False: the writer has not ended yet. */
static bool keeper_reap(struct keeper_writer *writer)
{
	siginfo_t info = { .si_pid = 0 };
	struct err why = ERR_NULL;

	if (waitid(P_PIDFD, (id_t)writer->pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0)
		return false;
	if (info.si_code != CLD_EXITED) {
		(void)err_set(&why, 0, "its writer was ended by signal %d",
		              info.si_status);
	} else if (info.si_status != 0 &&
	           read(writer->sentence_fd, why.text, sizeof(why.text) - 1) <= 0) {
		(void)err_set(&why, 0, "its writer ended with exit code %d",
		              info.si_status);
	}
	if (*why.text)
		keeper_lost(writer->keeper, writer->of, why.text);
	keeper_release(writer);
	return true;
}

static void keeper_on_end(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)loop;
	(void)revents;
	(void)keeper_reap(io->data);
}

static struct keeper_writer *keeper_find_free(struct keeper *keeper)
{
	for (size_t i = 0; i < KEEPER_WRITERS_MAX; i++)
		if (keeper->writers[i].pid == 0)
			return &keeper->writers[i];
	return NULL;
}

/* 0 or -errno. */
static int keeper_fork(struct keeper *keeper, const struct keeper_job *job,
                       pid_t *ret_pid, int sentence_fd)
{
	sigset_t all;
	sigset_t old;
	pid_t pid;
	int r;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old);
	pid = fork();
	r = pid < 0 ? -errno : 0;
	if (pid == 0)
		keeper_write(job, keeper->last, sentence_fd);
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	*ret_pid = pid;
	return r;
}

static int keeper_start_in(struct keeper_writer *writer, const struct keeper_job *job)
{
	struct keeper *keeper = writer->keeper;
	CLOSE_FD int read_fd = -1;
	CLOSE_FD int write_fd = -1;
	pid_t pid;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	read_fd = fds[0];
	write_fd = fds[1];
	r = keeper_fork(keeper, job, &pid, write_fd);
	if (r < 0)
		return r;
	writer->pidfd = pidfd_open(pid, 0);
	if (writer->pidfd < 0) {
		r = -errno;
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		return r;
	}
	orphans_add_own(keeper->loop, &writer->kin, pid);
	writer->pid = pid;
	writer->sentence_fd = take_fd(&read_fd);
	(void)snprintf(writer->of, sizeof(writer->of), "%s", job->of);
	ev_io_init(&writer->io, keeper_on_end, writer->pidfd, EV_READ);
	writer->io.data = writer;
	ev_io_start(keeper->loop, &writer->io);
	return 0;
}

void keeper_start(struct keeper *keeper, const struct keeper_job *job)
{
	struct keeper_writer *writer = keeper_find_free(keeper);
	int r;

	keeper->last++;
	if (!writer) {
		keeper_lost(keeper, job->of,
		            "too many writers wait for the disk already");
		return;
	}
	r = keeper_start_in(writer, job);
	if (r < 0)
		keeper_lost(keeper, job->of, strerror(-r));
}

void keeper_init(struct keeper *keeper, struct ev_loop *loop, const char *state_dir)
{
	*keeper = (struct keeper){ .loop = loop, .last = keep_last_number(state_dir) };
	for (size_t i = 0; i < KEEPER_WRITERS_MAX; i++) {
		keeper->writers[i].keeper = keeper;
		keeper->writers[i].pidfd = keeper->writers[i].sentence_fd = -1;
	}
}

void keeper_fini(struct keeper *keeper)
{
	uint64_t deadline_ns = clock_now_ns() + KEEPER_FINI_NS;

	for (size_t i = 0; keeper->loop && i < KEEPER_WRITERS_MAX; i++) {
		struct keeper_writer *writer = &keeper->writers[i];
		struct pollfd pollfd = { .fd = writer->pidfd, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();
		uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

		if (writer->pid == 0)
			continue;
		(void)poll(&pollfd, 1, (int)(left_ns / CLOCK_NS_PER_MS));
		if (!keeper_reap(writer))
			keeper_release(writer);
	}
	keeper->loop = NULL;
}
