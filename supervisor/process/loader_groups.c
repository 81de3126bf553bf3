/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control groups as folders: one for this moultd, one below it for each loader, and a
 * lock that tells a living moultd's folder from a dead one's.
 *
 * groups_make() makes the folder and locks it; since a starting moultd may sweep it
 * away between the two steps, the inode is compared and the steps are repeated.
 * groups_sweep() takes every folder whose lock is free for a dead moultd's. A group
 * with processes cannot be removed, so a loader's end is two steps: loader_groups_end()
 * writes cgroup.kill, and a timer removes the folder once the kernel has emptied it.
 * Limits take controllers, which groups_enable() hands down; at the end everything is as
 * it was. Nothing waits but start and end.
 */

#include "supervisor/process/loader_groups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/config/config.h"
#include "supervisor/process/leftovers.h"
#include "supervisor/memory/memory.h"
#include "supervisor/process/proc.h"

#define GROUPS_PREFIX "moultd."
/* Of the group of a moultd that has stepped aside. */
#define GROUPS_ASIDE "moultd-"
/* Most groups of ended loaders that wait to be empty; further ones go at the end. */
#define GROUPS_ENDED_MAX 64
#define GROUPS_POLL_S    0.05
#define GROUPS_WAIT_NS   (2 * CLOCK_NS_PER_SEC)
/* Until the lock is held, another moultd may take the new group for left over. */
#define GROUPS_TRIES 8
/* Depth of groups within a group: a loader may make some. */
#define GROUPS_DEPTH_MAX 8

struct loader_groups {
	struct ev_loop *loop;
	ev_timer timer;
	int fd;             /* of the folder, locked */
	int base;           /* the folder that it is in */
	unsigned int given; /* controllers that this moultd gave to groups in @base */
	unsigned int
		limits; /* that groups can keep, of enum config_limit, as the one above */
	char aside[sizeof(GROUPS_ASIDE) + LEFTOVERS_MARK_MAX]; /* moultd's; "": none */
	char path[LOADER_GROUPS_PATH_MAX];
	unsigned int last;
	unsigned int ended[GROUPS_ENDED_MAX];
	size_t n_ended;
	bool has_said; /* a failure has been logged */
};

/* The folder */

bool loader_groups_locate(const char *line, const char *own, char *path, size_t size)
{
	char root[PATH_MAX];
	char point[PATH_MAX];
	const char *type = strstr(line, " - ");
	size_t bytes;

	if (!type || strncmp(type, " - cgroup2 ", 11) != 0 ||
	    sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) != 2)
		return false;
	bytes = strcmp(root, "/") == 0 ? 0 : strlen(root);
	/* A mount may show a part of the tree only, without our group. */
	if (strncmp(own, root, bytes) != 0 || (own[bytes] != '/' && own[bytes] != '\0') ||
	    strstr(own, "/.."))
		return false;
	own += bytes;
	if (strcmp(own, "/") == 0)
		own = "";
	return (size_t)snprintf(path, size, "%s%s", point, own) < size;
}

static int groups_find_own(char *path, size_t size, struct err *err)
{
	char text[2 * PATH_MAX];
	FREE char *line = NULL;
	size_t room = 0;
	bool is_found = false;
	char *own = NULL;
	FILE *mounts;

	if (memory_read_file("/proc/self/cgroup", text, sizeof(text)))
		own = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!own)
		return err_set(err, -ENOENT, "there are no control groups of version 2");
	own = strchr(own, '/');
	if (!own)
		return err_set(err, -ENOENT, "the control group has no name");
	own[strcspn(own, "\n")] = '\0';
	mounts = fopen("/proc/self/mountinfo", "re");
	while (mounts && !is_found && getline(&line, &room, mounts) > 0)
		is_found = loader_groups_locate(line, own, path, size);
	if (mounts)
		(void)fclose(mounts);
	if (!is_found)
		return err_set(err, -ENOENT,
		               "no file system cgroup2 is mounted that shows group %s",
		               own);
	return 0;
}

/* Contents */

static int groups_open(int fd, const char *name)
{
	return openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* NULL: the folder cannot be read. @fd stays the caller's. */
static DIR *groups_list(int fd)
{
	int again = groups_open(fd, ".");
	DIR *dir = again < 0 ? NULL : fdopendir(again);

	if (!dir && again >= 0)
		(void)close(again);
	return dir;
}

static bool groups_is_group(const struct dirent *entry)
{
	return entry->d_type == DT_DIR && entry->d_name[0] != '.';
}

static void groups_kill(int fd)
{
	CLOSE_FD int kill_fd = openat(fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);

	if (kill_fd >= 0)
		(void)!write(kill_fd, "1", 1);
}

/* Removes the groups below @fd that are empty. */
static void groups_clear(int fd, unsigned int depth)
{
	DIR *dir = depth < GROUPS_DEPTH_MAX ? groups_list(fd) : NULL;
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		CLOSE_FD int below = -1;

		if (!groups_is_group(entry) ||
		    unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		below = groups_open(fd, entry->d_name);
		if (below < 0)
			continue;
		groups_clear(below, depth + 1);
		(void)unlinkat(fd, entry->d_name, AT_REMOVEDIR);
	}
	if (dir)
		(void)closedir(dir);
}

/* Kills all processes in group @name of @fd and removes it. False: something survives. */
static bool groups_remove(int fd, const char *name)
{
	const struct timespec pause = { .tv_nsec = 2 * CLOCK_NS_PER_MS };
	uint64_t deadline_ns = clock_now_ns() + GROUPS_WAIT_NS;
	CLOSE_FD int group = groups_open(fd, name);

	if (group < 0)
		return errno == ENOENT;
	groups_kill(group);
	for (;;) {
		groups_clear(group, 0);
		if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return true;
		if (clock_now_ns() >= deadline_ns)
			return false;
		(void)nanosleep(&pause, NULL);
	}
}

/* Groups of an earlier moultd */

/* Names the processes in a group and kills each of them: cgroup.kill passes over one whose first
 * thread has ended, because it signals that thread (Linux, __cgroup_kill()). */
static void groups_end_each(int fd, unsigned int depth)
{
	int procs = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = procs < 0 ? NULL : fdopen(procs, "r");
	DIR *dir = depth < GROUPS_DEPTH_MAX ? groups_list(fd) : NULL;
	const struct dirent *entry;
	struct proc proc;
	int pid;

	if (procs >= 0 && !file)
		(void)close(procs);
	while (file && fscanf(file, "%d", &pid) == 1)
		if (proc_read(pid, &proc)) {
			leftovers_say(&proc);
			(void)proc_kill(&proc);
		}
	if (file)
		(void)fclose(file);
	while (dir && (entry = readdir(dir)) != NULL) {
		CLOSE_FD int below =
			groups_is_group(entry) ? groups_open(fd, entry->d_name) : -1;

		if (below >= 0)
			groups_end_each(below, depth + 1);
	}
	if (dir)
		(void)closedir(dir);
}

static void groups_sweep(int base)
{
	DIR *dir = groups_list(base);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		struct leftovers_run run;
		CLOSE_FD int fd = -1;

		/* That of a living moultd is not empty. */
		if (groups_is_group(entry) &&
		    strncmp(entry->d_name, GROUPS_ASIDE, strlen(GROUPS_ASIDE)) == 0)
			(void)unlinkat(base, entry->d_name, AT_REMOVEDIR);
		if (!groups_is_group(entry) ||
		    strncmp(entry->d_name, GROUPS_PREFIX, strlen(GROUPS_PREFIX)) != 0 ||
		    !leftovers_run_parse(entry->d_name + strlen(GROUPS_PREFIX), &run))
			continue;
		fd = groups_open(base, entry->d_name);
		/* A living moultd holds the lock of the group that it made. */
		if (fd < 0 || faccessat(fd, "cgroup.kill", W_OK, AT_EACCESS) < 0 ||
		    flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		groups_end_each(fd, 0);
		if (!groups_remove(base, entry->d_name))
			log_event(LOG_LEVEL_ERR, "leftovers_stay",
			          "cgroup=%s reason=\"what is in it survives SIGKILL\"",
			          LOG_QUOTED(entry->d_name));
	}
	if (dir)
		(void)closedir(dir);
}

/* Limits */

static const struct {
	enum config_limit limit;
	const char *controller;
} groups_controllers[] = {
	{ CONFIG_LIMIT_PROCESSES, "pids" },
	{ CONFIG_LIMIT_MEMORY, "memory" },
};

/* 0 or -errno. */
static int groups_write(int fd, const char *name, const char *text)
{
	CLOSE_FD int file = openat(fd, name, O_WRONLY | O_CLOEXEC);

	return file < 0 || write(file, text, strlen(text)) < 0 ? -errno : 0;
}

/* Which controllers the file @name has a word for, as their limits. */
static unsigned int groups_read(int fd, const char *name)
{
	CLOSE_FD int file = openat(fd, name, O_RDONLY | O_CLOEXEC);
	char list[256] = "";
	unsigned int found = 0;

	if (file < 0 || read(file, list, sizeof(list) - 1) <= 0)
		return 0;
	for (size_t i = 0; i < 2; i++)
		if (strstr(list, groups_controllers[i].controller))
			found |= groups_controllers[i].limit;
	return found;
}

/* Gives groups below @fd the controllers of @limits, or takes them away (@sign '-'). Returns
 * those that went well. */
static unsigned int groups_give(int fd, char sign, unsigned int limits)
{
	unsigned int given = 0;

	for (size_t i = 0; i < 2; i++) {
		char text[16];

		(void)snprintf(text, sizeof(text), "%c%s", sign,
		               groups_controllers[i].controller);
		if ((limits & groups_controllers[i].limit) &&
		    groups_write(fd, "cgroup.subtree_control", text) == 0)
			given |= groups_controllers[i].limit;
	}
	return given;
}

/* Moves moultd into a group of its own. */
static bool groups_step_aside(struct loader_groups *groups, const char *mark)
{
	CLOSE_FD int fd = -1;

	(void)snprintf(groups->aside, sizeof(groups->aside), GROUPS_ASIDE "%s", mark);
	if (mkdirat(groups->base, groups->aside, 0755) == 0)
		fd = groups_open(groups->base, groups->aside);
	if (fd >= 0 && groups_write(fd, "cgroup.procs", "0") == 0)
		return true;
	(void)unlinkat(groups->base, groups->aside, AT_REMOVEDIR);
	groups->aside[0] = '\0';
	return false;
}

static void groups_step_back(struct loader_groups *groups)
{
	(void)groups_give(groups->base, '-', groups->given);
	groups->given = 0;
	if (!groups->aside[0])
		return;
	(void)groups_write(groups->base, "cgroup.procs", "0");
	(void)unlinkat(groups->base, groups->aside, AT_REMOVEDIR);
	groups->aside[0] = '\0';
}

static void groups_enable(struct loader_groups *groups, const char *mark)
{
	unsigned int all = groups_read(groups->base, "cgroup.controllers");
	unsigned int before = groups_read(groups->base, "cgroup.subtree_control");
	unsigned int wanted = all & ~before;

	/* The kernel gives pids away beside processes, too, and then lets nobody into the groups
	 * below, because these are of threads; memory it does not. The root of all groups, which
	 * has no type, is free of that. */
	if (wanted && faccessat(groups->base, "cgroup.type", F_OK, 0) == 0)
		(void)groups_step_aside(groups, mark);
	groups->given = groups_give(groups->base, '+', wanted);
	groups->limits = groups_give(groups->fd, '+', before | groups->given);
	if (groups->limits == 0)
		groups_step_back(groups);
}

unsigned int loader_groups_limits(const struct loader_groups *groups)
{
	return groups->limits;
}

static void groups_limit(int fd, const char *name, uint64_t most)
{
	char text[24] = "max";
	int r;

	if (most > 0)
		(void)snprintf(text, sizeof(text), "%" PRIu64, most);
	r = fd < 0 ? fd : groups_write(fd, name, text);
	if (r < 0)
		log_event(LOG_LEVEL_WARNING, "no_limit", "file=%s value=%s error=%s",
		          name, text, LOG_QUOTED(strerror(-r)));
}

void loader_groups_limit(const struct loader_groups *groups, unsigned int number,
                         uint64_t max_processes, uint64_t max_bytes)
{
	CLOSE_FD int fd = -1;
	char name[16];

	(void)snprintf(name, sizeof(name), "%u", number);
	fd = groups_open(groups->fd, name);
	if (groups->limits & CONFIG_LIMIT_PROCESSES)
		groups_limit(fd, "pids.max", max_processes);
	if (!(groups->limits & CONFIG_LIMIT_MEMORY))
		return;
	groups_limit(fd, "memory.max", max_bytes);
	/* Half of a loader is of no use. */
	if (fd >= 0)
		(void)groups_write(fd, "memory.oom.group", "1");
}

/* The group of this moultd */

/* Makes the group and locks it. Returns its descriptor, or -errno. */
static int groups_make(int base, const char *name)
{
	for (unsigned int i = 0; i < GROUPS_TRIES; i++) {
		CLOSE_FD int fd = -1;
		struct stat made;
		struct stat there;

		if (mkdirat(base, name, 0755) < 0 && errno != EEXIST)
			return -errno;
		fd = groups_open(base, name);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
		    fstat(fd, &made) == 0 &&
		    fstatat(base, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    made.st_ino == there.st_ino)
			return take_fd(&fd);
	}
	return -EBUSY;
}

static void groups_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct loader_groups *groups = timer->data;
	size_t kept = 0;

	(void)revents;
	for (size_t i = 0; i < groups->n_ended; i++) {
		CLOSE_FD int fd = -1;
		char name[16];

		(void)snprintf(name, sizeof(name), "%u", groups->ended[i]);
		fd = groups_open(groups->fd, name);
		if (fd >= 0)
			groups_clear(fd, 0);
		if (unlinkat(groups->fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			groups->ended[kept++] = groups->ended[i];
	}
	groups->n_ended = kept;
	if (kept == 0)
		ev_timer_stop(loop, timer);
}

int loader_groups_new(struct loader_groups **ret_groups, struct ev_loop *loop,
                      bool has_limits, struct err *err)
{
	const struct leftovers_run run = leftovers_run_self();
	FREE struct loader_groups *groups = calloc(1, sizeof(*groups));
	char name[sizeof(GROUPS_PREFIX) + LEFTOVERS_MARK_MAX];
	char mark[LEFTOVERS_MARK_MAX];
	char own[LOADER_GROUPS_PATH_MAX - sizeof(name)];
	CLOSE_FD int base = -1;
	int r;

	if (!groups)
		return err_set(err, -ENOMEM, "out of memory");
	r = groups_find_own(own, sizeof(own), err);
	if (r < 0)
		return r;
	base = groups_open(AT_FDCWD, own);
	if (base < 0)
		return err_set(err, -errno, "%s cannot be opened: %s", own,
		               strerror(errno));
	groups_sweep(base);
	/* A process moves only where its mover may write to all that lies between. */
	if (faccessat(base, "cgroup.procs", W_OK, AT_EACCESS) < 0)
		return err_set(err, -errno,
		               "moultd may move nobody out of %s: %s (systemd: "
		               "Delegate=)",
		               own, strerror(errno));
	leftovers_run_print(&run, mark);
	(void)snprintf(name, sizeof(name), GROUPS_PREFIX "%s", mark);
	groups->fd = groups_make(base, name);
	if (groups->fd < 0)
		return err_set(err, groups->fd, "no group can be made in %s: %s", own,
		               strerror(-groups->fd));
	if (faccessat(groups->fd, "cgroup.kill", W_OK, AT_EACCESS) < 0) {
		r = -errno;
		(void)unlinkat(base, name, AT_REMOVEDIR);
		(void)close(groups->fd);
		return err_set(err, r, "there is no cgroup.kill, which Linux 5.14 has");
	}
	groups->loop = loop;
	groups->base = take_fd(&base);
	if (has_limits)
		groups_enable(groups, mark);
	(void)snprintf(groups->path, sizeof(groups->path), "%s/%s", own, name);
	ev_timer_init(&groups->timer, groups_on_timer, 0., GROUPS_POLL_S);
	groups->timer.data = groups;
	*ret_groups = take_ptr(&groups);
	return 0;
}

void loader_groups_free(struct loader_groups *groups)
{
	if (!groups)
		return;
	ev_timer_stop(groups->loop, &groups->timer);
	(void)groups_remove(AT_FDCWD, groups->path);
	groups_step_back(groups);
	(void)close(groups->fd);
	(void)close(groups->base);
	free(groups);
}

const char *loader_groups_path(const struct loader_groups *groups)
{
	return groups->path;
}

unsigned int loader_groups_add(struct loader_groups *groups, char *path, size_t size)
{
	char name[16];
	int r = 0;

	(void)snprintf(name, sizeof(name), "%u", ++groups->last);
	if (mkdirat(groups->fd, name, 0755) < 0)
		r = -errno;
	if (r == 0 && (size_t)snprintf(path, size, "%s/%s", groups->path, name) < size)
		return groups->last;
	if (!groups->has_said)
		log_event(LOG_LEVEL_WARNING, "no_loader_group", "cgroup=%s error=%s",
		          LOG_QUOTED(groups->path), LOG_QUOTED(strerror(-r)));
	groups->has_said = true;
	return 0;
}

bool loader_groups_had_oom(const struct loader_groups *groups, unsigned int number)
{
	char path[LOADER_GROUPS_PATH_MAX + 32];
	char events[512];
	const char *kills;

	(void)snprintf(path, sizeof(path), "%s/%u/memory.events", groups->path, number);
	if (!memory_read_file(path, events, sizeof(events)))
		return false;
	kills = strstr(events, "\noom_kill ");
	return kills && strtoul(kills + sizeof("\noom_kill ") - 1, NULL, 10) > 0;
}

void loader_groups_end(struct loader_groups *groups, unsigned int number)
{
	CLOSE_FD int fd = -1;
	char name[16];

	(void)snprintf(name, sizeof(name), "%u", number);
	fd = groups_open(groups->fd, name);
	if (fd < 0)
		return;
	groups_kill(fd);
	if (unlinkat(groups->fd, name, AT_REMOVEDIR) == 0 ||
	    groups->n_ended == GROUPS_ENDED_MAX)
		return;
	groups->ended[groups->n_ended++] = number;
	ev_timer_again(groups->loop, &groups->timer);
}
