/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two sources of suspicion, one debounced report.
 *
 * watch_on_io() marks the paths that a batch of inotify events concerns,
 * watch_on_poll() those whose signature of stat has changed or is too young to show a
 * change. Both lead to watch_note() and watch_touch(), which puts the report off until
 * the path was quiet for settle, but not past settle_cap. watch_on_settled() arms the
 * chain, signs, and calls the owner, in that order: a change after the owner's read is
 * an event or a difference for the next poll. watch_chain.c knows which directories
 * have to be watched; nothing here knows what a path means to its owner.
 */

#include "supervisor/inputs/watch.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"
#include "supervisor/inputs/watch_chain.h"

#define WATCH_BUFFER_BYTES 16384
/* Coarsest time stamp of a file system that is provided for. */
#define WATCH_STAMP_NS (2 * CLOCK_NS_PER_SEC)

/* Sum of stat over a path, one level deep. */
struct watch_signature {
	uint64_t hash;
	bool is_young; /* a change now may not show in the time stamps: look again */
};

struct watch_path {
	LIST_ENTRY(watch_path) link;
	struct watch *watch;
	char *path;
	void (*on_change)(void *context, const char *path);
	void *context;
	struct watch_chain chain;
	bool is_touched;   /* in the batch of events being read */
	uint64_t first_ns; /* of the first event not reported yet; 0: none */
	uint64_t due_ns;   /* of the report, while first_ns is set */
	ev_timer settle;
	struct watch_signature signature;
};

struct watch {
	struct ev_loop *loop;
	struct watch_config config;
	struct watch_table table;
	ev_io io; /* active while the table is open */
	ev_timer poll;
	LIST_HEAD(watch_paths, watch_path) paths;
};

/* The poll's signature */

static uint64_t watch_mix(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *byte = data;

	/* FNV-1a: not a digest, only a cheap way to see a difference. */
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ byte[i]) * UINT64_C(1099511628211);
	return hash;
}

static uint64_t watch_mix_stat(uint64_t hash, const struct stat *st, int64_t *newest_ns)
{
	const struct timespec *stamp = &st->st_ctim;
	int64_t ns = (int64_t)stamp->tv_sec * (int64_t)CLOCK_NS_PER_SEC + stamp->tv_nsec;

	if (ns > *newest_ns)
		*newest_ns = ns;
	hash = watch_mix(hash, &st->st_dev, sizeof(st->st_dev));
	hash = watch_mix(hash, &st->st_ino, sizeof(st->st_ino));
	hash = watch_mix(hash, &st->st_size, sizeof(st->st_size));
	hash = watch_mix(hash, &st->st_mtim, sizeof(st->st_mtim));
	return watch_mix(hash, &st->st_ctim, sizeof(st->st_ctim));
}

static uint64_t watch_sign_entries(const char *path, uint64_t hash, int64_t *newest_ns)
{
	DIR *dir = opendir(path);
	uint64_t sum = 0;
	struct stat st;

	for (unsigned int n = 0; dir && n < WATCH_ENTRIES_MAX; n++) {
		const struct dirent *entry = readdir(dir);
		uint64_t one;

		if (!entry)
			break;
		one = watch_mix(hash, entry->d_name, strlen(entry->d_name));
		if (strcmp(entry->d_name, "..") != 0 &&
		    fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			one = watch_mix_stat(one, &st, newest_ns);
		/* A sum, so that the order of entries is no difference. */
		sum += one;
	}
	if (dir)
		(void)closedir(dir);
	return hash ^ sum;
}

static struct watch_signature watch_sign(const char *path)
{
	struct watch_signature signature = { .hash = UINT64_C(14695981039346656037) };
	int64_t newest_ns = 0;
	int64_t age_ns;
	struct timespec now;
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct watch_signature){ 0 };
	signature.hash = watch_mix_stat(signature.hash, &st, &newest_ns);
	if (S_ISDIR(st.st_mode))
		signature.hash = watch_sign_entries(path, signature.hash, &newest_ns);
	/* CLOCK_REALTIME is the clock of file time stamps. */
	(void)clock_gettime(CLOCK_REALTIME, &now);
	age_ns =
		(int64_t)now.tv_sec * (int64_t)CLOCK_NS_PER_SEC + now.tv_nsec - newest_ns;
	signature.is_young =
		age_ns < (int64_t)WATCH_STAMP_NS && age_ns > -(int64_t)WATCH_STAMP_NS;
	return signature;
}

/* Events */

static void watch_resolve(struct watch_path *path)
{
	watch_chain_resolve(&path->chain, &path->watch->table, path->path);
}

static void watch_on_settled(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct watch_path *path = timer->data;

	(void)loop;
	(void)revents;
	path->first_ns = 0;
	/* Armed first, signed then, and the owner reads last: nothing falls between. */
	watch_resolve(path);
	path->signature = watch_sign(path->path);
	/* The last use of @path: the owner may remove it. */
	path->on_change(path->context, path->path);
}

/* Puts the report off until it has been quiet for a while, but not past the cap. */
static void watch_touch(struct watch_path *path)
{
	const struct watch_config *config = &path->watch->config;
	uint64_t now_ns = clock_now_ns();
	uint64_t due_ns = now_ns + config->settle_ns;
	bool is_first = path->first_ns == 0;

	if (is_first)
		path->first_ns = now_ns;
	if (due_ns > path->first_ns + config->settle_cap_ns)
		due_ns = path->first_ns + config->settle_cap_ns;
	if (!is_first && due_ns == path->due_ns)
		return; /* at the cap, the timer perhaps pending already */
	path->due_ns = due_ns;
	ev_timer_stop(path->watch->loop, &path->settle);
	/* ev_now() may be old after a long round. */
	ev_now_update(path->watch->loop);
	ev_timer_set(&path->settle,
	             due_ns > now_ns ? (double)(due_ns - now_ns) / 1e9 : 0., 0.);
	ev_timer_start(path->watch->loop, &path->settle);
}

/* Notes an event of @path, which may lead elsewhere now: the chain is resolved at the
 * first event and once more before the report, not for each event of a storm. */
static void watch_note(struct watch_path *path)
{
	if (path->first_ns == 0)
		watch_resolve(path);
	watch_touch(path);
}

static void watch_note_all(struct watch *watch)
{
	struct watch_path *path;

	LIST_FOREACH (path, &watch->paths, link) {
		path->is_touched = false;
		watch_resolve(path);
		watch_touch(path);
	}
}

static void watch_on_io(struct ev_loop *loop, ev_io *io, int revents);

static int watch_open(struct watch *watch)
{
	int r = watch_table_open(&watch->table);

	if (r < 0)
		return r;
	ev_io_init(&watch->io, watch_on_io, watch->table.fd, EV_READ);
	watch->io.data = watch;
	ev_io_start(watch->loop, &watch->io);
	return 0;
}

static void watch_close(struct watch *watch)
{
	ev_io_stop(watch->loop, &watch->io);
	watch_table_close(&watch->table);
}

static void watch_log_polling(const struct watch *watch, int r)
{
	log_event(LOG_LEVEL_WARNING, "watch_polls",
	          "error=%s remedy=\"raise fs.inotify.max_user_instances or the open "
	          "files limit\" poll_s=%.1f",
	          LOG_QUOTED(strerror(-r)), (double)watch->config.poll_ns / 1e9);
}

/* Starts anew after lost events, or a file system that went away: any path may have
 * changed. */
static void watch_rebuild(struct watch *watch)
{
	int r;

	log_event(LOG_LEVEL_WARNING, "watch_lost", "action=rescan");
	watch_close(watch);
	r = watch_open(watch);
	if (r < 0)
		watch_log_polling(watch, r);
	watch_note_all(watch);
}

static void watch_note_event(struct watch *watch, const struct inotify_event *event)
{
	struct watch_path *path;

	LIST_FOREACH (path, &watch->paths, link)
		if (watch_chain_wants(&path->chain, event))
			path->is_touched = true;
	if (event->mask & IN_IGNORED)
		watch_table_forget(&watch->table, event->wd);
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
	/* Only one buffer a round: a storm must not hold the loop. */
	bytes = read(watch->table.fd, buffer, sizeof(buffer));
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
		watch_rebuild(watch);
		return;
	}
	LIST_FOREACH (path, &watch->paths, link) {
		if (!path->is_touched)
			continue;
		path->is_touched = false;
		watch_note(path);
	}
}

static void watch_poll_path(struct watch_path *path)
{
	struct watch_signature signature;

	if (path->chain.is_partial)
		watch_resolve(path);
	/* A report is due anyway. */
	if (path->first_ns)
		return;
	signature = watch_sign(path->path);
	if (signature.hash != path->signature.hash || path->signature.is_young)
		watch_note(path);
}

static void watch_on_poll(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct watch *watch = timer->data;
	struct watch_path *path;

	(void)loop;
	(void)revents;
	if (watch->table.fd < 0 && watch_open(watch) == 0) {
		log_event(LOG_LEVEL_NOTICE, "watch_events", "action=watching");
		watch_note_all(watch);
		return;
	}
	LIST_FOREACH (path, &watch->paths, link)
		watch_poll_path(path);
}

/* Birth and death */

static void watch_start_poll(struct watch *watch)
{
	watch->poll.repeat = (double)watch->config.poll_ns / 1e9;
	ev_timer_again(watch->loop, &watch->poll);
}

int watch_new(struct watch **ret_watch, struct ev_loop *loop,
              const struct watch_config *config)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->loop = loop;
	watch->config = *config;
	watch_table_init(&watch->table);
	LIST_INIT(&watch->paths);
	ev_init(&watch->io, watch_on_io);
	r = watch_open(watch);
	if (r < 0)
		watch_log_polling(watch, r);
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
	watch_close(watch);
	watch_table_fini(&watch->table);
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

	assert(path[0] == '/');
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
	watch_touch(added);
	*ret_path = added;
	return 0;
}

void watch_remove(struct watch_path *path)
{
	if (!path)
		return;
	ev_timer_stop(path->watch->loop, &path->settle);
	watch_chain_fini(&path->chain, &path->watch->table);
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

bool watch_is_settled(const struct watch_path *path)
{
	return path && path->first_ns == 0;
}

size_t watch_count(const struct watch *watch)
{
	return watch_table_count(&watch->table);
}
