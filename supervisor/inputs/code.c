/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looks at a tree of source: a watch on each folder says when to look, and a sum over all
 * files whether anything has changed. A folder that comes is watched from the next look
 * on: its own coming is an event of the folder above it.
 *
 * One look serves all folders that have said something: events start a timer, which looks
 * once. The time from one look to the next is at least CODE_REST times what the last one
 * took, so that a large tree, or one that is written to all the time, takes a bounded part
 * of the loop. A look is bounded in entries as well.
 */

#include "supervisor/inputs/code.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/log.h"

/* Entries of all folders that one look reads; those that are no source cost little. */
#define CODE_ENTRIES_MAX 65536
/* The delay from the first event to the look; the others come within it. */
#define CODE_LOOK_S 0.05
/* Changes that come as fast, one after the other, are an application that writes its own
 * source when it is started: after some of them each waits twice as long as the last. */
#define CODE_QUICK_S     10.
#define CODE_QUICK_MAX   6
#define CODE_HOLD_MOST_S 60.
#define CODE_REST        20

struct code {
	struct watch *watch;
	struct ev_loop *loop;
	char *directory;
	void (*on_change)(void *context, const char *directory);
	void *context;
	ev_timer look; /* events have come */
	uint64_t sum;  /* over what was last seen */
	double rest_s; /* the least time to the next look */
	double hold_s; /* and beyond that: changes come too fast */
	uint64_t changed_ns;
	unsigned int n_quick;
	bool is_logged; /* that there is more than is seen */
	struct watch_path *dirs[CODE_DIRS_MAX];
	char *names[CODE_DIRS_MAX]; /* of dirs */
	size_t n_dirs;
};

/* One look. */
struct code_look {
	char *dirs
		[CODE_DIRS_MAX]; /* owned; found so far, those below behind those above */
	size_t n_dirs;
	size_t n_files;
	size_t n_entries;
	uint64_t sum;
	bool is_cut; /* there is more */
};

static uint64_t code_mix(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *byte = data;

	/* FNV-1a: a cheap way to see a difference. */
	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ byte[i]) * UINT64_C(1099511628211);
	return hash;
}

/* Source, or an archive of it. */
static bool code_is_source(const char *name)
{
	const char *end = strrchr(name, '.');

	return end && end > name && (strcmp(end, ".py") == 0 || strcmp(end, ".mar") == 0);
}

static bool code_is_left_out(int dir_fd, const char *name)
{
	static const char *const names[] = { "__pycache__", "site-packages",
		                             "node_modules" };
	char marker[NAME_MAX + sizeof("/pyvenv.cfg")];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	(void)snprintf(marker, sizeof(marker), "%s/pyvenv.cfg", name);
	return faccessat(dir_fd, marker, F_OK, 0) == 0;
}

static void code_see_file(struct code_look *look, const char *directory, int dir_fd,
                          const char *name)
{
	uint64_t hash = UINT64_C(14695981039346656037);
	struct stat st;

	if (fstatat(dir_fd, name, &st, 0) < 0)
		return;
	if (look->n_files == CODE_FILES_MAX) {
		look->is_cut = true;
		return;
	}
	look->n_files++;
	hash = code_mix(hash, directory, strlen(directory) + 1);
	hash = code_mix(hash, name, strlen(name));
	hash = code_mix(hash, &st.st_ino, sizeof(st.st_ino));
	hash = code_mix(hash, &st.st_size, sizeof(st.st_size));
	hash = code_mix(hash, &st.st_mtim, sizeof(st.st_mtim));
	/* A sum, so that the order of entries is no difference. */
	look->sum += hash;
}

static void code_see_dir(struct code_look *look, const char *directory, int dir_fd,
                         const char *name)
{
	char *path = NULL;

	if (code_is_left_out(dir_fd, name))
		return;
	if (look->n_dirs == CODE_DIRS_MAX ||
	    asprintf(&path, "%s/%s", directory, name) < 0) {
		look->is_cut = true;
		return;
	}
	look->dirs[look->n_dirs++] = path;
}

/* A link to a folder is not followed: it may lead back. */
static bool code_is_dir(int dir_fd, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_DIR;
	return fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode);
}

static void code_see_entries(struct code_look *look, const char *directory)
{
	DIR *dir = opendir(directory);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		if (look->n_entries++ == CODE_ENTRIES_MAX) {
			look->is_cut = true;
			break;
		}
		if (entry->d_name[0] == '.')
			continue;
		if (code_is_dir(dirfd(dir), entry))
			code_see_dir(look, directory, dirfd(dir), entry->d_name);
		else if (code_is_source(entry->d_name))
			code_see_file(look, directory, dirfd(dir), entry->d_name);
	}
	if (dir)
		(void)closedir(dir);
}

static void code_look_at(struct code_look *look, const char *directory)
{
	*look = (struct code_look){ 0 };
	look->dirs[0] = strdup(directory);
	look->n_dirs = look->dirs[0] ? 1 : 0;
	for (size_t i = 0; i < look->n_dirs; i++)
		code_see_entries(look, look->dirs[i]);
}

static bool code_has(char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void code_drop_dir(struct code *code, size_t i)
{
	watch_remove(code->dirs[i]);
	free(code->names[i]);
	code->n_dirs--;
	code->dirs[i] = code->dirs[code->n_dirs];
	code->names[i] = code->names[code->n_dirs];
}

static void code_on_event(void *context, const char *path)
{
	struct code *code = context;

	(void)path;
	if (ev_is_active(&code->look))
		return;
	ev_timer_set(&code->look, CODE_LOOK_S + code->rest_s + code->hold_s, 0.);
	ev_timer_start(code->loop, &code->look);
}

/* Watches the folders that @look has found, and no others. Takes their names. */
static void code_follow(struct code *code, struct code_look *look)
{
	for (size_t i = code->n_dirs; i-- > 0;)
		if (!code_has(look->dirs, look->n_dirs, code->names[i]))
			code_drop_dir(code, i);
	for (size_t i = 0; i < look->n_dirs; i++) {
		FREE char *name = take_ptr(&look->dirs[i]);

		if (code_has(code->names, code->n_dirs, name) ||
		    watch_add(code->watch, name, code_on_event, code,
		              &code->dirs[code->n_dirs]) < 0)
			continue;
		code->names[code->n_dirs++] = take_ptr(&name);
	}
	if (look->is_cut && !code->is_logged) {
		log_event(LOG_LEVEL_WARNING, "code_limit",
		          "directory=%s folders=%d files=%d entries=%d action=\"what is "
		          "beyond is not watched\"",
		          LOG_QUOTED(code->directory), CODE_DIRS_MAX, CODE_FILES_MAX,
		          CODE_ENTRIES_MAX);
		code->is_logged = true;
	}
}

static void code_see(struct code *code)
{
	uint64_t begun_ns = clock_now_ns();
	struct code_look look;

	code_look_at(&look, code->directory);
	code->sum = look.sum;
	code_follow(code, &look);
	code->rest_s = CODE_REST * (double)(clock_now_ns() - begun_ns) / 1e9;
}

/* Notes a change, and whether it came too fast behind the last. */
static void code_note_change(struct code *code)
{
	uint64_t now_ns = clock_now_ns();
	double since_s = (double)(now_ns - code->changed_ns) / 1e9;

	code->n_quick = since_s < CODE_QUICK_S + 2 * code->hold_s ? code->n_quick + 1 : 0;
	code->changed_ns = now_ns;
	if (code->n_quick < CODE_QUICK_MAX) {
		code->hold_s = 0;
		return;
	}
	code->hold_s = code->hold_s > 0 ? 2 * code->hold_s : 1;
	if (code->hold_s > CODE_HOLD_MOST_S)
		code->hold_s = CODE_HOLD_MOST_S;
	log_event(LOG_LEVEL_WARNING, "code_restless",
	          "directory=%s hold_s=%.0f hint=\"does the application write a .py file "
	          "when it starts? write it elsewhere, or into a hidden folder\"",
	          LOG_QUOTED(code->directory), code->hold_s);
}

static void code_on_look(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct code *code = timer->data;
	uint64_t last = code->sum;

	(void)loop;
	(void)revents;
	code_see(code);
	if (code->sum == last)
		return;
	code_note_change(code);
	/* The last use of @code: the owner may free it. */
	code->on_change(code->context, code->directory);
}

void code_free(struct code *code)
{
	if (!code)
		return;
	while (code->n_dirs > 0)
		code_drop_dir(code, code->n_dirs - 1);
	ev_timer_stop(code->loop, &code->look);
	free(code->directory);
	free(code);
}

static int code_new(struct code **ret_code, const struct code_place *place,
                    void (*on_change)(void *context, const char *directory),
                    void *context)
{
	struct code *code = calloc(1, sizeof(*code));
	char *directory = strdup(place->directory);

	if (!code || !directory) {
		free(code);
		free(directory);
		return -ENOMEM;
	}
	*code = (struct code){
		.watch = place->watch,
		.loop = place->loop,
		.directory = directory,
		.on_change = on_change,
		.context = context,
	};
	ev_timer_init(&code->look, code_on_look, 0., 0.);
	code->look.data = code;
	code_see(code);
	*ret_code = code;
	return 0;
}

int code_move(const struct code_place *place,
              void (*on_change)(void *context, const char *directory), void *context,
              struct code **slot)
{
	struct code *old = *slot;
	int r = 0;

	if (old && place->directory && strcmp(old->directory, place->directory) == 0)
		return 0;
	*slot = NULL;
	if (place->directory)
		r = code_new(slot, place, on_change, context);
	code_free(old);
	return r;
}
