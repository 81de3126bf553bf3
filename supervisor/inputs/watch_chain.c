/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Turns a path into the set of directories whose events can change what the path means.
 *
 * chain_follow() walks component by component, as the kernel would, and each
 * chain_step() adds a watch where a rename, a removal or a new name could lead
 * elsewhere. Watches are shared: one inode has one watch, counted by struct watch_dir,
 * for all chains that need it. Looking and watching cannot be one step, so
 * watch_chain_resolve() repeats the walk until it finds nothing that was not watched
 * before; a path that never settles is left to the poll.
 */

#include "supervisor/inputs/watch_chain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/log.h"

/* inotify(7): events of a directory itself, and of the names in it. */
#define CHAIN_MASK_SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define CHAIN_MASK_NAMES                                                                 \
	(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_DELETE | IN_ATTRIB)
/* Events without a name that concern everybody who watches the directory. */
#define CHAIN_EVENTS_SELF (CHAIN_MASK_SELF | IN_IGNORED | IN_UNMOUNT)
/* Most links of one chain: a directory full of symlinks may want more. The poll has the
 * rest. */
#define CHAIN_LINKS_MAX 1024
/* Most symlinks of one lookup, as in the kernel: path_resolution(7). */
#define CHAIN_SYMLINKS_MAX 40
/* Most walks until one finds the same as the one before. */
#define CHAIN_WALKS_MAX 5

/* An inotify watch. */
struct watch_dir {
	LIST_ENTRY(watch_dir) link;
	int wd; /* -1: the kernel has dropped it */
	unsigned int refs;
};

void watch_table_init(struct watch_table *table)
{
	*table = (struct watch_table){ .fd = -1 };
	LIST_INIT(&table->dirs);
}

int watch_table_open(struct watch_table *table)
{
	table->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return table->fd < 0 ? -errno : 0;
}

void watch_table_close(struct watch_table *table)
{
	struct watch_dir *dir;

	close_fd(&table->fd);
	LIST_FOREACH (dir, &table->dirs, link)
		dir->wd = -1;
}

void watch_table_fini(struct watch_table *table)
{
	close_fd(&table->fd);
}

void watch_table_forget(struct watch_table *table, int wd)
{
	struct watch_dir *dir;

	LIST_FOREACH (dir, &table->dirs, link)
		if (dir->wd == wd)
			dir->wd = -1;
}

size_t watch_table_count(const struct watch_table *table)
{
	const struct watch_dir *dir;
	size_t n = 0;

	LIST_FOREACH (dir, &table->dirs, link)
		n++;
	return n;
}

static void chain_unref(struct watch_table *table, struct watch_dir *dir)
{
	if (--dir->refs > 0)
		return;
	if (dir->wd >= 0 && table->fd >= 0)
		(void)inotify_rm_watch(table->fd, dir->wd);
	LIST_REMOVE(dir, link);
	free(dir);
}

/* A reference to the watch on @path. NULL: the poll has to do, and errno says why. */
static struct watch_dir *chain_ref(struct watch_table *table, const char *path,
                                   uint32_t mask)
{
	struct watch_dir *dir;
	/* An inode has one watch, and another path may want more of it than this one:
	 * only adding to its mask loses nobody's event. The mask shrinks when its last
	 * user goes. */
	int wd = inotify_add_watch(table->fd, path, mask | IN_ONLYDIR | IN_MASK_ADD);

	if (wd < 0)
		return NULL;
	LIST_FOREACH (dir, &table->dirs, link) {
		if (dir->wd == wd) {
			dir->refs++;
			return dir;
		}
	}
	dir = calloc(1, sizeof(*dir));
	if (!dir) {
		(void)inotify_rm_watch(table->fd, wd);
		errno = ENOMEM;
		return NULL;
	}
	dir->wd = wd;
	dir->refs = 1;
	LIST_INSERT_HEAD(&table->dirs, dir, link);
	return dir;
}

static bool chain_is_name(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool chain_is_link(const struct watch_link *a, const struct watch_link *b)
{
	return a->dir == b->dir && chain_is_name(a->name, b->name);
}

/* Takes over the reference and the name of @link. */
static int chain_append(struct watch_chain *chain, struct watch_link link)
{
	if (chain->n_links == chain->n_allocated) {
		size_t n = chain->n_allocated ? 2 * chain->n_allocated : 16;
		struct watch_link *links = reallocarray(chain->links, n, sizeof(*links));

		if (!links)
			return -ENOMEM;
		chain->links = links;
		chain->n_allocated = n;
	}
	chain->links[chain->n_links++] = link;
	return 0;
}

/* Notes that the kernel refused to watch @directory. A directory that is gone or out of
 * reach shows in the walk or the poll; a limit is for a person to raise. */
static void chain_refused(struct watch_chain *chain, struct watch_table *table,
                          const char *directory, int error)
{
	if (error != ENOSPC && error != ENOMEM)
		return;
	chain->is_partial = true;
	if (!table->is_exhausted)
		log_event(LOG_LEVEL_WARNING, "watch_limit",
		          "path=%s error=%s remedy=\"raise fs.inotify.max_user_watches\" "
		          "action=polling",
		          LOG_QUOTED(directory), LOG_QUOTED(strerror(error)));
	table->is_exhausted = true;
}

static void chain_add(struct watch_chain *chain, struct watch_table *table,
                      const char *directory, const char *name)
{
	uint32_t mask = CHAIN_MASK_SELF | (name ? CHAIN_MASK_NAMES : 0);
	struct watch_link link = { 0 };

	if (chain->n_links == CHAIN_LINKS_MAX)
		return;
	link.dir = chain_ref(table, directory, mask);
	if (!link.dir) {
		chain_refused(chain, table, directory, errno);
		return;
	}
	for (size_t i = 0; i < chain->n_links; i++) {
		const struct watch_link *has = &chain->links[i];

		if (has->dir == link.dir && chain_is_name(has->name, name)) {
			chain_unref(table, link.dir);
			return;
		}
	}
	if (name)
		link.name = strdup(name);
	if ((name && !link.name) || chain_append(chain, link) < 0) {
		free(link.name);
		chain_unref(table, link.dir);
		chain->is_partial = true;
	}
}

/* State of a walk: how far it has come, and the rest of the path. */
struct chain_walk {
	char done[PATH_MAX]; /* resolved: no symlink in it */
	char rest[PATH_MAX];
	unsigned int n_symlinks;
};

/* Puts the target of the symlink @full before @after. */
static bool chain_walk_symlink(struct chain_walk *walk, const char *full,
                               const char *after)
{
	char to[PATH_MAX];
	ssize_t bytes = readlink(full, to, sizeof(to) - 1);
	int n;

	if (bytes < 0 || ++walk->n_symlinks > CHAIN_SYMLINKS_MAX)
		return false;
	to[bytes] = '\0';
	if (to[0] == '/')
		(void)strcpy(walk->done, "/");
	n = snprintf(walk->rest, sizeof(walk->rest), "%s%s", to, after);
	return n >= 0 && (size_t)n < sizeof(walk->rest);
}

/* Walks one component. Returns whether the walk goes on. */
static bool chain_step(struct watch_chain *chain, struct watch_table *table,
                       struct chain_walk *walk)
{
	char name[NAME_MAX + 1];
	char full[PATH_MAX];
	char after[PATH_MAX];
	const char *rest = walk->rest + strspn(walk->rest, "/");
	size_t bytes = strcspn(rest, "/");
	bool is_last = rest[bytes + strspn(rest + bytes, "/")] == '\0';
	struct stat st;
	int n;

	if (bytes == 0 || bytes > NAME_MAX)
		return false;
	(void)snprintf(name, sizeof(name), "%.*s", (int)bytes, rest);
	(void)snprintf(after, sizeof(after), "%s", rest + bytes);
	n = snprintf(full, sizeof(full), "%s/%s",
	             strcmp(walk->done, "/") ? walk->done : "", name);
	if (n < 0 || (size_t)n >= sizeof(full))
		return false;
	if (lstat(full, &st) < 0) {
		chain_add(chain, table, walk->done, name);
		return false;
	}
	if (S_ISLNK(st.st_mode)) {
		chain_add(chain, table, walk->done, name);
		return chain_walk_symlink(walk, full, after);
	}
	if (is_last || !S_ISDIR(st.st_mode))
		chain_add(chain, table, walk->done, name);
	if (!S_ISDIR(st.st_mode))
		return false;
	chain_add(chain, table, full, is_last ? "" : NULL);
	memcpy(walk->done, full, sizeof(walk->done));
	memcpy(walk->rest, after, sizeof(walk->rest));
	return true;
}

/* Follows @target from the directory @start, which is resolved. */
static void chain_follow(struct watch_chain *chain, struct watch_table *table,
                         struct chain_walk *walk, const char *start, const char *target)
{
	walk->n_symlinks = 0;
	(void)snprintf(walk->done, sizeof(walk->done), "%s", start);
	(void)snprintf(walk->rest, sizeof(walk->rest), "%s", target);
	while (chain_step(chain, table, walk))
		;
}

static bool chain_is_symlink(int dir_fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_LNK;
	return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISLNK(st.st_mode);
}

/* Follows the symlinks in @directory: their targets may be swapped elsewhere. */
static void chain_follow_entries(struct watch_chain *chain, struct watch_table *table,
                                 const char *directory)
{
	DIR *dir = opendir(directory);
	struct chain_walk walk;
	struct dirent *entry;

	for (unsigned int n = 0; dir && n < WATCH_ENTRIES_MAX; n++) {
		entry = readdir(dir);
		if (!entry)
			break;
		if (chain_is_symlink(dirfd(dir), entry))
			chain_follow(chain, table, &walk, directory, entry->d_name);
	}
	if (dir)
		(void)closedir(dir);
}

static void chain_walk_path(struct watch_chain *chain, struct watch_table *table,
                            const char *path)
{
	struct chain_walk walk;
	struct stat st;

	chain_follow(chain, table, &walk, "/", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		chain_follow_entries(chain, table, walk.done);
}

static bool chain_is_same(const struct watch_chain *a, const struct watch_chain *b)
{
	if (a->n_links != b->n_links || a->is_partial || b->is_partial)
		return false;
	for (size_t i = 0; i < a->n_links; i++)
		if (!chain_is_link(&a->links[i], &b->links[i]))
			return false;
	return true;
}

void watch_chain_resolve(struct watch_chain *chain, struct watch_table *table,
                         const char *path)
{
	bool is_settled = table->fd < 0;

	if (is_settled)
		watch_chain_fini(chain, table);
	for (unsigned int i = 0; i < CHAIN_WALKS_MAX && !is_settled; i++) {
		struct watch_chain fresh = { 0 };

		/* New watches come before the old ones go: a directory that both need
		 * is never without one. A walk looks before it watches, so only a walk
		 * that finds everything watched already proves that nothing has changed
		 * in between. */
		chain_walk_path(&fresh, table, path);
		is_settled = fresh.is_partial || chain_is_same(chain, &fresh);
		watch_chain_fini(chain, table);
		*chain = fresh;
	}
}

bool watch_chain_wants(const struct watch_chain *chain, const struct inotify_event *event)
{
	for (size_t i = 0; i < chain->n_links; i++) {
		const struct watch_link *link = &chain->links[i];

		if (link->dir->wd != event->wd)
			continue;
		if (event->mask & CHAIN_EVENTS_SELF)
			return true;
		if (link->name &&
		    (link->name[0] == '\0' ||
		     (event->len > 0 && strcmp(link->name, event->name) == 0)))
			return true;
	}
	return false;
}

void watch_chain_fini(struct watch_chain *chain, struct watch_table *table)
{
	for (size_t i = 0; i < chain->n_links; i++) {
		chain_unref(table, chain->links[i].dir);
		free(chain->links[i].name);
	}
	free(chain->links);
	*chain = (struct watch_chain){ 0 };
}
