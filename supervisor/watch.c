/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

/* inotify(7). Directories only: a watch on a file dies with the first rename over it. */
#define WATCH_MASK                                                                       \
	(IN_ONLYDIR | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE |         \
	 IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)
#define WATCH_SELF (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)
/* Directories that one path may need: symlinks in it, its parent, itself. */
#define WATCH_LINKS_MAX 24
/* As the kernel's own limit for one lookup, path_resolution(7). */
#define WATCH_SYMLINKS_MAX 40
/* Entries of a directory that the poll's signature takes in. */
#define WATCH_ENTRIES_MAX  1024
#define WATCH_BUFFER_BYTES 16384

/* One inotify watch, shared by the paths that need it. */
struct watch_dir {
	LIST_ENTRY(watch_dir) link;
	int wd; /* -1: the kernel has dropped it */
	unsigned int refs;
};

/* A path looks at one name in a directory, or at all of them. */
struct watch_link {
	struct watch_dir *dir;
	char name[NAME_MAX + 1]; /* "": any */
};

struct watch_path {
	LIST_ENTRY(watch_path) link;
	struct watch *watch;
	char *path;
	void (*on_change)(void *context, const char *path);
	void *context;
	struct watch_link links[WATCH_LINKS_MAX];
	size_t n_links;
	bool is_touched;   /* in the batch of events being read */
	uint64_t first_ns; /* of the events that are not reported yet; 0: none */
	ev_timer settle;
	uint64_t signature;
};

struct watch {
	struct ev_loop *loop;
	struct watch_config config;
	int inotify_fd; /* -1: polling only */
	ev_io io;
	ev_timer poll;
	LIST_HEAD(watch_dirs, watch_dir) dirs;
	LIST_HEAD(watch_paths, watch_path) paths;
};

/* Directories */

static void watch_dir_unref(struct watch *watch, struct watch_dir *dir)
{
	if (--dir->refs > 0)
		return;
	if (dir->wd >= 0 && watch->inotify_fd >= 0)
		(void)inotify_rm_watch(watch->inotify_fd, dir->wd);
	LIST_REMOVE(dir, link);
	free(dir);
}

/* A reference to the watch on @path, or NULL: the poll has to do then. */
static struct watch_dir *watch_dir_get(struct watch *watch, const char *path)
{
	struct watch_dir *dir;
	int wd;

	if (watch->inotify_fd < 0)
		return NULL;
	wd = inotify_add_watch(watch->inotify_fd, path, WATCH_MASK);
	if (wd < 0) {
		if (errno == ENOSPC)
			log_event(LOG_LEVEL_WARNING, "watch_limit",
			          "path=%s remedy=\"raise fs.inotify.max_user_watches\" "
			          "action=polling",
			          path);
		return NULL;
	}
	LIST_FOREACH (dir, &watch->dirs, link) {
		if (dir->wd == wd) {
			dir->refs++;
			return dir;
		}
	}
	dir = calloc(1, sizeof(*dir));
	if (!dir) {
		(void)inotify_rm_watch(watch->inotify_fd, wd);
		return NULL;
	}
	dir->wd = wd;
	dir->refs = 1;
	LIST_INSERT_HEAD(&watch->dirs, dir, link);
	return dir;
}

static void watch_link_add(struct watch_path *path, const char *directory,
                           const char *name)
{
	struct watch_link *link = &path->links[path->n_links];

	if (path->n_links == WATCH_LINKS_MAX)
		return;
	link->dir = watch_dir_get(path->watch, directory);
	if (!link->dir)
		return;
	(void)snprintf(link->name, sizeof(link->name), "%s", name);
	path->n_links++;
}

/* Follows @target from the root, one component at a time, and watches the parent of every
 * symlink, of the last component, and, when something is missing, of the first gap. */
static void watch_follow(struct watch_path *path, const char *target)
{
	char done[PATH_MAX] = "/";
	char rest[PATH_MAX];
	unsigned int n_symlinks = 0;
	struct stat st;

	(void)snprintf(rest, sizeof(rest), "%s", target);
	for (;;) {
		char name[NAME_MAX + 1];
		char full[PATH_MAX];
		char after[PATH_MAX];
		size_t skip = strspn(rest, "/");
		size_t bytes = strcspn(rest + skip, "/");
		int n;

		if (bytes == 0 || bytes > NAME_MAX)
			break;
		memcpy(name, rest + skip, bytes);
		name[bytes] = '\0';
		(void)snprintf(after, sizeof(after), "%s", rest + skip + bytes);
		n = snprintf(full, sizeof(full), "%s/%s", strcmp(done, "/") ? done : "",
		             name);
		if (n < 0 || (size_t)n >= sizeof(full))
			return;
		if (lstat(full, &st) < 0) {
			watch_link_add(path, done, name);
			return;
		}
		if (S_ISLNK(st.st_mode)) {
			char to[PATH_MAX];
			ssize_t got = readlink(full, to, sizeof(to) - 1);

			watch_link_add(path, done, name);
			if (got < 0 || ++n_symlinks > WATCH_SYMLINKS_MAX)
				return;
			to[got] = '\0';
			if (to[0] == '/')
				(void)strcpy(done, "/");
			n = snprintf(rest, sizeof(rest), "%s%s", to, after);
			if (n < 0 || (size_t)n >= sizeof(rest))
				return;
			continue;
		}
		if (after[strspn(after, "/")] == '\0')
			watch_link_add(path, done, name);
		memcpy(done, full, sizeof(done));
		memcpy(rest, after, sizeof(rest));
	}
	if (stat(done, &st) == 0 && S_ISDIR(st.st_mode))
		watch_link_add(path, done, "");
}

/* New watches before the old ones go: what both need is never without. */
static void watch_resolve(struct watch_path *path)
{
	struct watch_link old[WATCH_LINKS_MAX];
	size_t n_old = path->n_links;

	memcpy(old, path->links, n_old * sizeof(old[0]));
	path->n_links = 0;
	watch_follow(path, path->path);
	for (size_t i = 0; i < n_old; i++)
		watch_dir_unref(path->watch, old[i].dir);
}

/* The poll's signature: what stat and readlink say, one level deep. */

static uint64_t watch_mix(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *byte = data;

	/* FNV-1a: not a digest, only a cheap way to see a difference. */
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ byte[i]) * UINT64_C(1099511628211);
	return hash;
}

static uint64_t watch_mix_stat(uint64_t hash, const struct stat *st)
{
	hash = watch_mix(hash, &st->st_dev, sizeof(st->st_dev));
	hash = watch_mix(hash, &st->st_ino, sizeof(st->st_ino));
	hash = watch_mix(hash, &st->st_size, sizeof(st->st_size));
	hash = watch_mix(hash, &st->st_mtim, sizeof(st->st_mtim));
	return watch_mix(hash, &st->st_ctim, sizeof(st->st_ctim));
}

static uint64_t watch_sign(const char *path)
{
	uint64_t hash = UINT64_C(14695981039346656037);
	uint64_t sum = 0;
	struct stat st;
	struct dirent *entry;
	unsigned int n = 0;
	DIR *dir;

	if (stat(path, &st) < 0)
		return 0;
	hash = watch_mix_stat(hash, &st);
	dir = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
	while (dir && n++ < WATCH_ENTRIES_MAX && (entry = readdir(dir))) {
		/* A sum: the order of entries is no difference. */
		uint64_t one = watch_mix(hash, entry->d_name, strlen(entry->d_name));

		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 &&
		    strcmp(entry->d_name, "..") != 0)
			one = watch_mix_stat(one, &st);
		sum += one;
	}
	if (dir)
		(void)closedir(dir);
	return hash ^ sum;
}

/* Events */

static void watch_on_settled(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct watch_path *path = timer->data;

	(void)loop;
	(void)revents;
	path->first_ns = 0;
	path->signature = watch_sign(path->path);
	/* The last use of @path: the owner may remove it. */
	path->on_change(path->context, path->path);
}

static void watch_touch(struct watch_path *path)
{
	const struct watch_config *config = &path->watch->config;
	uint64_t now = clock_now_ns();
	uint64_t wait_ns = config->settle_ns;
	uint64_t spent;

	if (path->first_ns == 0)
		path->first_ns = now;
	spent = now - path->first_ns;
	if (spent + wait_ns > config->settle_cap_ns)
		wait_ns =
			spent < config->settle_cap_ns ? config->settle_cap_ns - spent : 0;
	ev_timer_stop(path->watch->loop, &path->settle);
	/* The loop's idea of now may be old after a long round. */
	ev_now_update(path->watch->loop);
	ev_timer_set(&path->settle, (double)wait_ns / 1e9, 0.);
	ev_timer_start(path->watch->loop, &path->settle);
}

static int watch_open_inotify(struct watch *watch);

/* Events were lost, or a file system went away: nothing is known, so look at everything. */
static void watch_rebuild(struct watch *watch)
{
	struct watch_path *path;
	struct watch_dir *dir;

	ev_io_stop(watch->loop, &watch->io);
	close_fd(&watch->inotify_fd);
	LIST_FOREACH (dir, &watch->dirs, link)
		dir->wd = -1;
	(void)watch_open_inotify(watch);
	LIST_FOREACH (path, &watch->paths, link) {
		watch_resolve(path);
		watch_touch(path);
	}
}

static void watch_note_event(struct watch *watch, const struct inotify_event *event)
{
	struct watch_path *path;
	struct watch_dir *dir;

	LIST_FOREACH (path, &watch->paths, link) {
		for (size_t i = 0; i < path->n_links; i++) {
			const struct watch_link *link = &path->links[i];

			if (link->dir->wd != event->wd)
				continue;
			if ((event->mask & WATCH_SELF) || link->name[0] == '\0' ||
			    (event->len > 0 && strcmp(link->name, event->name) == 0))
				path->is_touched = true;
		}
	}
	if (event->mask & IN_IGNORED)
		LIST_FOREACH (dir, &watch->dirs, link)
			if (dir->wd == event->wd)
				dir->wd = -1;
}

static void watch_on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	struct watch *watch = io->data;
	_Alignas(struct inotify_event) char buffer[WATCH_BUFFER_BYTES];
	struct watch_path *path;
	bool is_lost = false;
	ssize_t bytes;

	(void)loop;
	(void)revents;
	/* One buffer a round: a storm must not hold the loop. */
	bytes = read(watch->inotify_fd, buffer, sizeof(buffer));
	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	for (ssize_t at = 0; at < bytes;) {
		const struct inotify_event *event =
			(const struct inotify_event *)(const void *)(buffer + at);

		is_lost = is_lost || (event->mask & (IN_Q_OVERFLOW | IN_UNMOUNT));
		watch_note_event(watch, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
	if (bytes <= 0 || is_lost) {
		log_event(LOG_LEVEL_WARNING, "watch_lost", "action=rescan");
		watch_rebuild(watch);
		return;
	}
	LIST_FOREACH (path, &watch->paths, link) {
		if (!path->is_touched)
			continue;
		path->is_touched = false;
		watch_resolve(path);
		watch_touch(path);
	}
}

static void watch_on_poll(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct watch *watch = timer->data;
	struct watch_path *path;

	(void)loop;
	(void)revents;
	LIST_FOREACH (path, &watch->paths, link) {
		/* What inotify has reported already is on its way. */
		if (path->first_ns || watch_sign(path->path) == path->signature)
			continue;
		watch_resolve(path);
		watch_touch(path);
	}
}

/* Birth and death */

static int watch_open_inotify(struct watch *watch)
{
	watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (watch->inotify_fd < 0) {
		log_event(LOG_LEVEL_WARNING, "watch_polls",
		          "error=%s remedy=\"raise fs.inotify.max_user_instances or the "
		          "open files limit\" poll_s=%.0f",
		          LOG_QUOTED(strerror(errno)),
		          (double)watch->config.poll_ns / 1e9);
		return -errno;
	}
	ev_io_init(&watch->io, watch_on_io, watch->inotify_fd, EV_READ);
	watch->io.data = watch;
	ev_io_start(watch->loop, &watch->io);
	return 0;
}

static void watch_start_poll(struct watch *watch)
{
	watch->poll.repeat = (double)watch->config.poll_ns / 1e9;
	ev_timer_again(watch->loop, &watch->poll);
}

int watch_new(struct watch **ret_watch, struct ev_loop *loop,
              const struct watch_config *config)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return -ENOMEM;
	watch->loop = loop;
	watch->config = *config;
	LIST_INIT(&watch->dirs);
	LIST_INIT(&watch->paths);
	(void)watch_open_inotify(watch);
	ev_timer_init(&watch->poll, watch_on_poll, 0., 0.);
	watch->poll.data = watch;
	watch_start_poll(watch);
	*ret_watch = watch;
	return 0;
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	while (!LIST_EMPTY(&watch->paths))
		watch_remove(LIST_FIRST(&watch->paths));
	ev_timer_stop(watch->loop, &watch->poll);
	if (watch->inotify_fd >= 0)
		ev_io_stop(watch->loop, &watch->io);
	close_fd(&watch->inotify_fd);
	free(watch);
}

void watch_set_config(struct watch *watch, const struct watch_config *config)
{
	bool is_other_poll = watch->config.poll_ns != config->poll_ns;

	watch->config = *config;
	if (is_other_poll)
		watch_start_poll(watch);
}

int watch_add(struct watch *watch, const char *path,
              void (*on_change)(void *context, const char *path), void *context,
              struct watch_path **ret_path)
{
	struct watch_path *added = calloc(1, sizeof(*added));

	if (!added)
		return -ENOMEM;
	added->path = strdup(path);
	if (!added->path) {
		free(added);
		return -ENOMEM;
	}
	added->watch = watch;
	added->on_change = on_change;
	added->context = context;
	ev_timer_init(&added->settle, watch_on_settled, 0., 0.);
	added->settle.data = added;
	LIST_INSERT_HEAD(&watch->paths, added, link);
	watch_resolve(added);
	added->signature = watch_sign(path);
	*ret_path = added;
	return 0;
}

void watch_remove(struct watch_path *path)
{
	if (!path)
		return;
	ev_timer_stop(path->watch->loop, &path->settle);
	for (size_t i = 0; i < path->n_links; i++)
		watch_dir_unref(path->watch, path->links[i].dir);
	LIST_REMOVE(path, link);
	free(path->path);
	free(path);
}

int watch_move(struct watch *watch, const char *path,
               void (*on_change)(void *context, const char *path), void *context,
               struct watch_path **slot)
{
	struct watch_path *old = *slot;
	int r = 0;

	if (old && path && strcmp(old->path, path) == 0)
		return 0;
	*slot = NULL;
	if (path)
		r = watch_add(watch, path, on_change, context, slot);
	watch_remove(old);
	return r;
}

size_t watch_count(const struct watch *watch)
{
	const struct watch_dir *dir;
	size_t n = 0;

	LIST_FOREACH (dir, &watch->dirs, link)
		n++;
	return n;
}
