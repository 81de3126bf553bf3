/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finds orphans by walking /proc from moultd downwards, since no event names them all.
 *
 * orphans_look() reads moultd's children, skips those that moultd started, and kills
 * the others with everything below them; reaping a dead one may bring its children up,
 * so it repeats until a pass finds none dead. A look follows each child's end, each
 * SIGCHLD, and a timer that slows down while nothing is left. Each orphan has a row, by
 * pid and start time, that remembers which child left it: orphans_are_gone() is the
 * reload's proof that the memory of that child is free. Budgets bound each look, and
 * has_more says that one ended early.
 */

#include "supervisor/process/orphans.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/log.h"
#include "shared/user.h"
#include "supervisor/process/leftovers.h"
#include "supervisor/process/loader_groups.h"
#include "supervisor/memory/memory.h"
#include "supervisor/process/proc.h"

/* Orphans known at once; further ones are killed without a name. */
#define ORPHANS_MAX 256
/* Descendants that one look goes through. */
#define ORPHANS_LOOK_MAX 512
/* Passes of one look: a loader may leave thousands that are dead already. */
#define ORPHANS_PASSES 64
/* Lines in the log for one child of moultd. */
#define ORPHANS_LINES_MAX 8
/* Killed processes die within milliseconds, or stay for a reason. */
#define ORPHANS_POLL_S     0.002
#define ORPHANS_POLL_MAX_S 1.
/* No signal tells that a loader which is no subreaper any more lost a grandchild. */
#define ORPHANS_IDLE_S  5.
#define ORPHANS_FINI_NS (2 * CLOCK_NS_PER_SEC)

struct orphan {
	pid_t pid; /* 0: free */
	uint64_t start_ticks;
	bool is_ours; /* else left alone */
	pid_t kin;    /* pid of the child that left it; 0: not known */
	bool is_certain;
	bool is_seen;
};

struct orphans {
	struct ev_loop *loop;
	ev_timer timer;
	ev_signal child;
	LIST_HEAD(orphans_kins, orphans_kin) kins;
	struct orphan rows[ORPHANS_MAX];
	pid_t last;                /* child that ended */
	bool is_sole;              /* nobody left other children to moultd */
	struct config_users users; /* that loaders may be; 0: none */
	bool has_more;             /* the last look did not reach the end */
	double poll_s;
	struct loader_groups *groups; /* NULL: there are none */
	struct err no_groups;
	char mark[sizeof(LEFTOVERS_MARK) + LEFTOVERS_MARK_MAX];
};

static struct orphans *orphans_of(struct ev_loop *loop)
{
	return loop ? ev_userdata(loop) : NULL;
}

static struct orphans_kin *orphans_find_kin(const struct orphans *orphans, pid_t pid)
{
	struct orphans_kin *kin;

	LIST_FOREACH (kin, &orphans->kins, link)
		if (kin->pid == pid)
			return kin;
	return NULL;
}

static struct orphan *orphans_find(struct orphans *orphans, pid_t pid)
{
	for (size_t i = 0; i < ORPHANS_MAX; i++)
		if (orphans->rows[i].pid == pid)
			return &orphans->rows[i];
	return NULL;
}

/* Attribution */

static bool orphans_has_ended(const struct orphans_kin *kin)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, (id_t)kin->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid != 0;
}

/* The child that has just left something. A look may come before the owner of a child
 * has heard of its end: a timer's, or one for the end of another. */
static pid_t orphans_who_ended(const struct orphans *orphans)
{
	const struct orphans_kin *last = orphans_find_kin(orphans, orphans->last);
	const struct orphans_kin *kin;

	if (last && last->is_running)
		return last->pid;
	LIST_FOREACH (kin, &orphans->kins, link)
		if (kin->is_running && !kin->leaves_none && orphans_has_ended(kin))
			return kin->pid;
	return orphans->last;
}

/* Whether @pid is a user that only loaders are: its environment is its own to read. */
static bool orphans_has_user(const struct orphans *orphans, pid_t pid)
{
	uid_t user = orphans->users.first ? proc_user(pid) : 0;

	return user && user >= orphans->users.first && user <= orphans->users.last;
}

/* Finds the child that left @proc. @parent: the orphan above it; NULL: moultd. */
static void orphans_attribute(const struct orphans *orphans, const struct proc *proc,
                              const struct orphan *parent, struct orphan *orphan)
{
	/* The number of a session is nobody else's pid while the session has a member. */
	const struct orphans_kin *kin = orphans_find_kin(orphans, proc->session);

	if (kin) {
		orphan->kin = kin->pid;
		orphan->is_ours = orphan->is_certain = true;
	} else if (parent) {
		orphan->is_ours = parent->is_ours;
		orphan->kin = parent->kin;
		orphan->is_certain = parent->is_certain;
	} else if (orphans->is_sole || orphans_has_user(orphans, proc->pid) ||
	           proc_has_variable(proc->pid, orphans->mark)) {
		orphan->is_ours = true;
		orphan->kin = orphans_who_ended(orphans);
	}
}

/* Appends "sleep (pid 12, 0.2 MiB)" to the names. */
static void orphans_name(struct orphans_left *left, const struct proc *proc,
                         uint64_t bytes)
{
	size_t used = strlen(left->who);
	int n;

	if (sizeof(left->who) - used < 64) {
		if (left->who[used - 1] != '.')
			(void)strcpy(left->who + used, ", ...");
		return;
	}
	n = snprintf(left->who + used, sizeof(left->who) - used,
	             "%s%s (pid %d, %.1f MiB)", used ? ", " : "", proc->comm,
	             (int)proc->pid, (double)bytes / 1048576.0);
	assert(n > 0);
	err_clean(left->who);
}

static void orphans_count(struct orphans *orphans, const struct orphan *orphan,
                          const struct proc *proc)
{
	struct orphans_kin *kin = orphans_find_kin(orphans, orphan->kin);
	uint64_t anon_bytes = memory_size_of(proc->pid).anon_bytes;

	if (kin) {
		kin->left.n++;
		kin->left.n_alive++;
		kin->left.bytes += anon_bytes;
		orphans_name(&kin->left, proc, anon_bytes);
	}
	if (!kin || kin->left.n <= ORPHANS_LINES_MAX)
		log_event(LOG_LEVEL_WARNING, "orphan",
		          "pid=%d comm=%s anon_bytes=%llu of=%d action=kill",
		          (int)proc->pid, LOG_QUOTED(proc->comm),
		          (unsigned long long)anon_bytes, (int)orphan->kin);
}

static void orphans_forget(struct orphans *orphans, struct orphan *orphan)
{
	struct orphans_kin *kin = orphans_find_kin(orphans, orphan->kin);

	if (kin)
		kin->left.n_alive--;
	*orphan = (struct orphan){ 0 };
}

/* The row of @proc, made when it is met for the first time; NULL: all rows are taken. */
static struct orphan *orphans_meet(struct orphans *orphans, const struct proc *proc,
                                   const struct orphan *parent)
{
	struct orphan *orphan = orphans_find(orphans, proc->pid);

	if (orphan && orphan->start_ticks != proc->start_ticks) {
		orphans_forget(orphans, orphan);
		orphan = NULL;
	}
	if (!orphan) {
		orphan = orphans_find(orphans, 0);
		if (!orphan)
			return NULL;
		*orphan = (struct orphan){ .pid = proc->pid,
			                   .start_ticks = proc->start_ticks };
		orphans_attribute(orphans, proc, parent, orphan);
		if (orphan->is_ours)
			orphans_count(orphans, orphan, proc);
	}
	orphan->is_seen = true;
	return orphan;
}

/* Killing */

/* Kills the whole process group at once, however fast it forks. */
static void orphans_kill(const struct orphans *orphans, struct proc *proc)
{
	const struct orphans_kin *kin;

	if (!proc_kill(proc))
		return;
	kin = orphans_find_kin(orphans, proc->group);
	if (proc->group > 1 && proc->group != getpgrp() && !(kin && kin->is_running))
		(void)kill(-proc->group, SIGKILL);
}

/* Kills @pids, children of @parent (NULL: of moultd), and all that is below them, as
 * far as *@budget goes, which counts the living. Returns how many were dead and are
 * reaped: their children have moved up. */
static size_t orphans_kill_all(struct orphans *orphans, const struct orphan *parent,
                               const pid_t *pids, size_t n, size_t *budget)
{
	size_t n_dead = 0;

	for (size_t i = 0; i < n; i++) {
		pid_t below[ORPHANS_MAX / 8];
		const struct orphans_kin *kin = orphans_find_kin(orphans, pids[i]);
		siginfo_t info = { .si_pid = 0 };
		const struct orphan *orphan;
		struct proc proc;
		size_t n_below;

		if (kin && kin->is_running)
			continue;
		if (!parent &&
		    waitid(P_PID, (id_t)pids[i], &info, WEXITED | WNOHANG) == 0)
			n_dead += info.si_pid != 0;
		if (info.si_pid != 0 || *budget == 0 || !proc_read(pids[i], &proc) ||
		    proc_is_dead(&proc))
			continue;
		(*budget)--;
		orphan = orphans_meet(orphans, &proc, parent);
		if (orphan && orphan->is_ours) {
			n_below = proc_children(proc.pid, below,
			                        sizeof(below) / sizeof(below[0]));
			(void)orphans_kill_all(orphans, orphan, below, n_below, budget);
		}
		if (orphan ? orphan->is_ours : orphans->is_sole)
			orphans_kill(orphans, &proc);
	}
	return n_dead;
}

/* Kills all orphans that are found now. Returns how many are left. */
static size_t orphans_look(struct orphans *orphans)
{
	pid_t pids[ORPHANS_LOOK_MAX];
	size_t budget = ORPHANS_LOOK_MAX;
	size_t n_left = 0;
	size_t n_dead = 1;

	for (size_t i = 0; i < ORPHANS_MAX; i++)
		orphans->rows[i].is_seen = false;
	for (unsigned int i = 0; i < ORPHANS_PASSES && n_dead > 0 && budget > 0; i++) {
		size_t n = proc_children(getpid(), pids, ORPHANS_LOOK_MAX);

		n_dead = orphans_kill_all(orphans, NULL, pids, n, &budget);
	}
	orphans->has_more = n_dead > 0 || budget == 0;
	for (size_t i = 0; i < ORPHANS_MAX; i++) {
		struct orphan *orphan = &orphans->rows[i];

		if (orphan->pid && !orphan->is_seen && !orphans->has_more)
			orphans_forget(orphans, orphan);
		n_left += orphan->is_ours;
	}
	return n_left + orphans->has_more;
}

static void orphans_look_again(struct orphans *orphans, bool is_news)
{
	size_t n_left = orphans_look(orphans);

	if (n_left == 0)
		orphans->poll_s = ORPHANS_IDLE_S;
	else if (is_news || orphans->poll_s > ORPHANS_POLL_MAX_S)
		orphans->poll_s = ORPHANS_POLL_S;
	else if (orphans->poll_s < ORPHANS_POLL_MAX_S)
		orphans->poll_s *= 1.5;
	orphans->timer.repeat = orphans->poll_s;
	ev_timer_again(orphans->loop, &orphans->timer);
}

static void orphans_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	orphans_look_again(timer->data, false);
}

/* SIGCHLD of an orphan or of a loader. The timer lets a loader's owner learn of the end
 * first, from the pidfd, so that its orphans are attributed to it. */
static void orphans_on_child(struct ev_loop *loop, ev_signal *signal, int revents)
{
	struct orphans *orphans = signal->data;

	(void)revents;
	orphans->timer.repeat = orphans->poll_s = ORPHANS_POLL_S;
	ev_timer_again(loop, &orphans->timer);
}

/* Children of moultd */

const char *orphans_mark(struct ev_loop *loop)
{
	const struct orphans *orphans = orphans_of(loop);

	return orphans ? orphans->mark : NULL;
}

bool orphans_prepare(struct ev_loop *loop, struct orphans_kin *kin, char *path,
                     size_t size)
{
	struct orphans *orphans = orphans_of(loop);

	kin->group = orphans && orphans->groups
	                     ? loader_groups_add(orphans->groups, path, size)
	                     : 0;
	return kin->group > 0;
}

unsigned int orphans_limits(struct ev_loop *loop)
{
	const struct orphans *orphans = orphans_of(loop);

	return orphans && orphans->groups ? loader_groups_limits(orphans->groups) : 0;
}

void orphans_limit(struct ev_loop *loop, const struct orphans_kin *kin,
                   const struct config_model *section)
{
	const struct orphans *orphans = orphans_of(loop);

	if (orphans && orphans->groups && kin->group)
		loader_groups_limit(orphans->groups, kin->group, section->max_processes,
		                    section->max_memory_bytes);
}

void orphans_cancel(struct ev_loop *loop, struct orphans_kin *kin)
{
	struct orphans *orphans = orphans_of(loop);

	if (orphans && orphans->groups && kin->group)
		loader_groups_end(orphans->groups, kin->group);
	kin->group = 0;
}

void orphans_add(struct ev_loop *loop, struct orphans_kin *kin, pid_t pid)
{
	struct orphans *orphans = orphans_of(loop);

	orphans_remove(kin);
	*kin = (struct orphans_kin){ .group = kin->group };
	if (!orphans)
		return;
	kin->pid = pid;
	kin->is_running = true;
	LIST_INSERT_HEAD(&orphans->kins, kin, link);
}

void orphans_add_own(struct ev_loop *loop, struct orphans_kin *kin, pid_t pid)
{
	orphans_add(loop, kin, pid);
	kin->leaves_none = true;
}

void orphans_on_end(struct ev_loop *loop, struct orphans_kin *kin)
{
	struct orphans *orphans = orphans_of(loop);

	if (!orphans || kin->pid == 0 || !kin->is_running)
		return;
	orphans->last = kin->pid;
	orphans_look_again(orphans, true);
	kin->is_oom_victim = orphans->groups && kin->group &&
	                     loader_groups_had_oom(orphans->groups, kin->group);
	orphans_cancel(loop, kin);
	/* The child is not reaped yet, so its number is no other group's. */
	if (kill(-kin->pid, SIGKILL) == 0 && kin->left.n > 0)
		(void)orphans_look(orphans);
	kin->is_running = false;
}

void orphans_remove(struct orphans_kin *kin)
{
	if (kin->pid == 0)
		return;
	LIST_REMOVE(kin, link);
	kin->pid = 0;
}

void orphans_move(struct orphans_kin *to, struct orphans_kin *from)
{
	if (from->pid == 0)
		return;
	*to = *from;
	LIST_INSERT_BEFORE(from, to, link);
	orphans_remove(from);
}

bool orphans_are_gone(struct ev_loop *loop, const struct orphans_kin *kin)
{
	struct orphans *orphans = orphans_of(loop);

	if (orphans && orphans->has_more)
		return false;
	for (size_t i = 0; orphans && i < ORPHANS_MAX; i++) {
		const struct orphan *orphan = &orphans->rows[i];

		if (orphan->is_ours && (orphan->kin == kin->pid || !orphan->is_certain))
			return false;
	}
	return true;
}

void orphans_sum(struct orphans_left *left, const struct orphans_left *more)
{
	size_t used = strlen(left->who);

	left->n += more->n;
	left->n_alive += more->n_alive;
	left->bytes += more->bytes;
	(void)snprintf(left->who + used, sizeof(left->who) - used, "%s%s",
	               used && *more->who ? ", " : "", more->who);
	err_clean(left->who);
}

int orphans_new(struct orphans **ret_orphans, struct ev_loop *loop)
{
	struct orphans *orphans = calloc(1, sizeof(*orphans));
	struct leftovers_run run = leftovers_run_self();
	char mark[LEFTOVERS_MARK_MAX];
	pid_t inherited;

	if (!orphans)
		return -ENOMEM;
	orphans->loop = loop;
	LIST_INIT(&orphans->kins);
	leftovers_run_print(&run, mark);
	(void)snprintf(orphans->mark, sizeof(orphans->mark), LEFTOVERS_MARK "=%s", mark);
	orphans->is_sole = getpid() != 1 && proc_children(getpid(), &inherited, 1) == 0;
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		log_event(LOG_LEVEL_WARNING, "no_subreaper", "error=%s",
		          LOG_QUOTED(strerror(errno)));
	ev_init(&orphans->timer, orphans_on_timer);
	orphans->timer.data = orphans;
	ev_signal_init(&orphans->child, orphans_on_child, SIGCHLD);
	orphans->child.data = orphans;
	ev_signal_start(loop, &orphans->child);
	ev_set_userdata(loop, orphans);
	orphans_look_again(orphans, false);
	*ret_orphans = orphans;
	return 0;
}

/* Whether any model is to be kept within limits. */
static bool orphans_want_limits(const struct config *config)
{
	for (size_t i = 0; i < config->n_models; i++)
		if (config->models[i]->max_processes ||
		    config->models[i]->max_memory_bytes)
			return true;
	return false;
}

void orphans_begin(struct orphans *orphans, const struct config *config)
{
	if (loader_groups_new(&orphans->groups, orphans->loop,
	                      orphans_want_limits(config), &orphans->no_groups) < 0)
		log_event(LOG_LEVEL_NOTICE, "no_loader_groups", "reason=%s",
		          LOG_QUOTED(orphans->no_groups.text));
	else
		log_event(LOG_LEVEL_INFO, "loader_groups", "cgroup=%s",
		          LOG_QUOTED(loader_groups_path(orphans->groups)));
	(void)leftovers_sweep();
	if (config_users(config, &orphans->users) && user_may_change())
		leftovers_sweep_users(&orphans->users);
}

const char *orphans_groups(const struct orphans *orphans, const char **ret_why)
{
	if (orphans->groups)
		return loader_groups_path(orphans->groups);
	*ret_why = orphans->no_groups.text;
	return NULL;
}

void orphans_free(struct orphans *orphans)
{
	const struct timespec pause = { .tv_nsec = CLOCK_NS_PER_MS };
	uint64_t deadline_ns = clock_now_ns() + ORPHANS_FINI_NS;

	if (!orphans)
		return;
	while (orphans_look(orphans) > 0 && clock_now_ns() < deadline_ns)
		(void)nanosleep(&pause, NULL);
	loader_groups_free(orphans->groups);
	while (!LIST_EMPTY(&orphans->kins))
		orphans_remove(LIST_FIRST(&orphans->kins));
	ev_timer_stop(orphans->loop, &orphans->timer);
	ev_signal_stop(orphans->loop, &orphans->child);
	ev_set_userdata(orphans->loop, NULL);
	free(orphans);
}
