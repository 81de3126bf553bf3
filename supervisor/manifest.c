/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/cleanup.h"

#define MANIFEST_DIR       "good"
#define MANIFEST_KEPT      2
#define MANIFEST_BYTES_MAX (256 * 1024)
#define MANIFEST_NAME_MAX  (sizeof("manifest-") + INPUTS_SHA256_HEX)

struct manifest_entry {
	char name[MANIFEST_NAME_MAX];
	struct timespec time;
};

static void manifest_digest(const void *data, size_t bytes, char *ret_hex)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha256;

	sha256_init(&sha256);
	sha256_update(&sha256, bytes, data);
	sha256_digest(&sha256, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

/* The names of our files are made of two words and nothing else. */
static void manifest_name(char *name, const char *kind, const char *sha256)
{
	(void)snprintf(name, MANIFEST_NAME_MAX, "%s-%s", kind, sha256);
}

/* STATE_DIR/good/MODEL, made when it is not there. An fd or -errno. */
static int manifest_open_dir(const char *state_dir, const char *model, bool is_made)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/" MANIFEST_DIR, state_dir);
	int fd;

	if (n < 0 || (size_t)n + CONFIG_NAME_MAX + 2 > sizeof(path))
		return -ENAMETOOLONG;
	if (is_made && mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	(void)snprintf(path + n, sizeof(path) - (size_t)n, "/%s", model);
	if (is_made && mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* Keeping */

/* Renamed into place once @write is done with it. 0 or -errno. */
static int manifest_write_file(int dir_fd, const char *name,
                               int (*write_content)(const void *what, int fd),
                               const void *what)
{
	CLOSE_FD int fd = -1;
	struct timespec times[2];
	int r;

	(void)unlinkat(dir_fd, "new", 0);
	fd = openat(dir_fd, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
	            0600);
	if (fd < 0)
		return -errno;
	r = write_content(what, fd);
	/* The kernel's own times are as coarse as its tick, and the newest one counts. */
	(void)clock_gettime(CLOCK_REALTIME, &times[0]);
	times[1] = times[0];
	if (r == 0 && futimens(fd, times) < 0)
		r = -errno;
	if (r == 0 && renameat(dir_fd, "new", dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, "new", 0);
	return r;
}

static int manifest_write_secrets(const void *what, int fd)
{
	return secrets_save(what, fd);
}

static int manifest_write_text(const void *what, int fd)
{
	const char *text = what;
	size_t bytes = strlen(text);
	ssize_t n = write(fd, text, bytes);

	if (n < 0)
		return -errno;
	return (size_t)n == bytes ? 0 : -ENOSPC;
}

/* A hard link, where the file system and the file's owner allow one. Otherwise the section's
 * path must do. */
static void manifest_link_weights(int dir_fd, const struct inputs *inputs)
{
	char name[MANIFEST_NAME_MAX];
	char from[64];
	int r;

	if (inputs->weights_fd < 0)
		return;
	manifest_name(name, "weights", inputs->weights_sha256);
	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", inputs->weights_fd);
	(void)unlinkat(dir_fd, name, 0);
	r = linkat(AT_FDCWD, from, dir_fd, name, AT_SYMLINK_FOLLOW);
	(void)r;
}

/* What the secrets' file is named by: its content's digest, read back from memory. */
static int manifest_secrets_digest(const struct secrets *secrets, char *ret_hex)
{
	struct stat st;
	void *map;

	if (fstat(secrets->fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return -ENODATA;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, secrets->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	manifest_digest(map, (size_t)st.st_size, ret_hex);
	(void)munmap(map, (size_t)st.st_size);
	return 0;
}

static int manifest_save_secrets(int dir_fd, const struct inputs *inputs,
                                 char *ret_sha256)
{
	char name[MANIFEST_NAME_MAX];
	int r = manifest_secrets_digest(&inputs->secrets, ret_sha256);

	if (r < 0)
		return r;
	manifest_name(name, "secrets", ret_sha256);
	if (faccessat(dir_fd, name, R_OK, 0) == 0)
		return 0;
	return manifest_write_file(dir_fd, name, manifest_write_secrets,
	                           &inputs->secrets);
}

static char *manifest_print(const struct inputs *inputs, const char *secrets_sha256)
{
	FREE char *section = config_model_to_text(inputs->section);
	json_t *json = NULL;
	char *text;

	if (section)
		json = json_pack("{s:i, s:s, s:s*, s:s*}", "format", 1, "section",
		                 section, "weights_sha256",
		                 inputs->weights_fd < 0 ? NULL : inputs->weights_sha256,
		                 "secrets_sha256",
		                 *secrets_sha256 ? secrets_sha256 : NULL);
	text = json ? json_dumps(json, JSON_INDENT(1) | JSON_SORT_KEYS) : NULL;
	json_decref(json);
	return text;
}

/* Taking away */

static int manifest_newest_first(const void *a, const void *b)
{
	const struct timespec *left = &((const struct manifest_entry *)a)->time;
	const struct timespec *right = &((const struct manifest_entry *)b)->time;

	if (left->tv_sec != right->tv_sec)
		return left->tv_sec > right->tv_sec ? -1 : 1;
	return (left->tv_nsec < right->tv_nsec) - (left->tv_nsec > right->tv_nsec);
}

/* The manifests in @dir_fd, newest first. How many, at most @max. */
static size_t manifest_list(int dir_fd, struct manifest_entry *entries, size_t max)
{
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *found;
	struct stat st;
	size_t n = 0;

	if (!dir) {
		close_fd(&copy);
		return 0;
	}
	while (n < max && (found = readdir(dir)) != NULL) {
		if (strncmp(found->d_name, "manifest-", 9) != 0 ||
		    strlen(found->d_name) >= MANIFEST_NAME_MAX ||
		    fstatat(dir_fd, found->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		(void)snprintf(entries[n].name, sizeof(entries[n].name), "%s",
		               found->d_name);
		entries[n++].time = st.st_mtim;
	}
	(void)closedir(dir);
	qsort(entries, n, sizeof(entries[0]), manifest_newest_first);
	return n;
}

/* The content of @name, when it is what its name says. The caller frees it. */
static json_t *manifest_read(int dir_fd, const char *name)
{
	CLOSE_FD int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	FREE char *text = malloc(MANIFEST_BYTES_MAX);
	char sha256[INPUTS_SHA256_HEX];
	ssize_t n;

	if (fd < 0 || !text)
		return NULL;
	n = read(fd, text, MANIFEST_BYTES_MAX);
	if (n <= 0)
		return NULL;
	manifest_digest(text, (size_t)n, sha256);
	if (strcmp(name + strlen("manifest-"), sha256) != 0)
		return NULL;
	return json_loadb(text, (size_t)n, 0, NULL);
}

static const char *manifest_text(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

static bool manifest_names(const json_t *json, const char *name)
{
	static const char *const kinds[] = { "weights", "secrets" };
	char key[32];
	char own[MANIFEST_NAME_MAX];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const char *sha256;

		(void)snprintf(key, sizeof(key), "%s_sha256", kinds[i]);
		sha256 = manifest_text(json, key);
		if (!sha256)
			continue;
		manifest_name(own, kinds[i], sha256);
		if (strcmp(own, name) == 0)
			return true;
	}
	return false;
}

/* Removes all but the newest manifests and what these name. */
static void manifest_sweep(int dir_fd, size_t n_kept)
{
	struct manifest_entry entries[32];
	size_t n = manifest_list(dir_fd, entries, sizeof(entries) / sizeof(entries[0]));
	json_t *kept[MANIFEST_KEPT] = { NULL };
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *found;

	for (size_t i = 0; i < n_kept && i < n; i++)
		kept[i] = manifest_read(dir_fd, entries[i].name);
	while (dir && (found = readdir(dir)) != NULL) {
		bool is_kept = found->d_name[0] == '.';

		for (size_t i = 0; i < n_kept && i < n; i++)
			is_kept |= strcmp(entries[i].name, found->d_name) == 0 ||
			           manifest_names(kept[i], found->d_name);
		if (!is_kept)
			(void)unlinkat(dir_fd, found->d_name, 0);
	}
	if (dir)
		(void)closedir(dir);
	else
		close_fd(&copy);
	for (size_t i = 0; i < MANIFEST_KEPT; i++)
		json_decref(kept[i]);
}

/* The loader computed it, and it becomes part of a file's name. */
static bool manifest_is_digest(const char *sha256)
{
	return strlen(sha256) == INPUTS_SHA256_HEX - 1 &&
	       strspn(sha256, "0123456789abcdef") == INPUTS_SHA256_HEX - 1;
}

static int manifest_save_in(int dir_fd, const struct inputs *inputs, bool with_secrets)
{
	char sha256[INPUTS_SHA256_HEX] = "";
	char name[MANIFEST_NAME_MAX];
	FREE char *text = NULL;
	int r = 0;

	if (inputs->weights_fd >= 0 && !manifest_is_digest(inputs->weights_sha256))
		return -EBADMSG;
	if (with_secrets && inputs->secrets.count > 0)
		r = manifest_save_secrets(dir_fd, inputs, sha256);
	if (r < 0)
		return r;
	manifest_link_weights(dir_fd, inputs);
	text = manifest_print(inputs, sha256);
	if (!text)
		return -ENOMEM;
	manifest_digest(text, strlen(text), sha256);
	manifest_name(name, "manifest", sha256);
	/* Written anew also when it is there: the newest is the one that counts. */
	r = manifest_write_file(dir_fd, name, manifest_write_text, text);
	if (r == 0)
		manifest_sweep(dir_fd, MANIFEST_KEPT);
	return r;
}

int manifest_save(const char *state_dir, const struct inputs *inputs, bool with_secrets,
                  struct err *err)
{
	CLOSE_FD int dir_fd = manifest_open_dir(state_dir, inputs->section->name, true);
	int r = dir_fd < 0 ? dir_fd : manifest_save_in(dir_fd, inputs, with_secrets);

	if (r < 0)
		return err_set(err, r,
		               "what serves now is not kept in %s/" MANIFEST_DIR "/%s: "
		               "%s",
		               state_dir, inputs->section->name, strerror(-r));
	return 0;
}

/* Taking out */

/* The kept file, or the one that the section names. An fd, -1: there is none, or -errno. */
static int manifest_open_weights(int dir_fd, const json_t *json, const char *path)
{
	const char *sha256 = manifest_text(json, "weights_sha256");
	char name[MANIFEST_NAME_MAX];
	int fd;

	if (!sha256 || !path)
		return -1;
	manifest_name(name, "weights", sha256);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static int manifest_take_secrets(struct secrets *ret_secrets, int dir_fd,
                                 const json_t *json, const char *directory,
                                 struct err *err)
{
	const char *sha256 = manifest_text(json, "secrets_sha256");
	char found[INPUTS_SHA256_HEX];
	char name[MANIFEST_NAME_MAX];
	CLOSE_FD int fd = -1;
	int r;

	if (!sha256)
		return secrets_read(ret_secrets, directory, err);
	manifest_name(name, "secrets", sha256);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	r = fd < 0 ? -errno : secrets_load(ret_secrets, fd);
	if (r == 0)
		r = manifest_secrets_digest(ret_secrets, found);
	if (r == 0 && strcmp(found, sha256) != 0)
		r = -EBADMSG;
	return r < 0 ? err_set(err, r, "the kept secrets: %s", strerror(-r)) : 0;
}

static int manifest_build(struct inputs **ret_inputs, int dir_fd, const json_t *json,
                          struct config *config, struct err *err)
{
	const struct config_model *section = config->models[0];
	const char *sha256 = manifest_text(json, "weights_sha256");
	struct secrets secrets = SECRETS_NULL;
	int fd;
	int r = manifest_take_secrets(&secrets, dir_fd, json, section->secrets, err);

	if (r)
		return r;
	fd = manifest_open_weights(dir_fd, json, section->path);
	if (sha256 && fd < 0) {
		secrets_fini(&secrets);
		return err_set(err, fd, "the kept model file: %s", strerror(-fd));
	}
	r = inputs_of(ret_inputs, config, section, &secrets, fd);
	if (r < 0)
		return err_set(err, r, "%s", strerror(-r));
	(*ret_inputs)->is_proven = true; /* or it would not have been kept */
	/* The loader hashes what it reads, and another file is refused then. */
	if (sha256)
		(void)snprintf((*ret_inputs)->weights_sha256, INPUTS_SHA256_HEX, "%s",
		               sha256);
	return 0;
}

static int manifest_try(struct inputs **ret_inputs, int dir_fd, const char *name,
                        const struct config *like, struct err *err)
{
	json_t *json = manifest_read(dir_fd, name);
	const char *section = manifest_text(json, "section");
	struct config *config = NULL;
	int r;

	if (section)
		r = config_of_section(&config, like, section, err);
	else
		r = err_set(err, -EBADMSG, "%s is damaged", name);
	if (r == 0)
		r = manifest_build(ret_inputs, dir_fd, json, config, err);
	config_unref(config);
	json_decref(json);
	return r;
}

int manifest_load(struct inputs **ret_inputs, const char *state_dir, const char *model,
                  const struct config *like, struct err *err)
{
	CLOSE_FD int dir_fd = manifest_open_dir(state_dir, model, false);
	struct manifest_entry entries[32];
	size_t n;

	err->text[0] = '\0';
	if (dir_fd < 0)
		return MANIFEST_E_NONE;
	n = manifest_list(dir_fd, entries, sizeof(entries) / sizeof(entries[0]));
	for (size_t i = 0; i < n; i++)
		if (manifest_try(ret_inputs, dir_fd, entries[i].name, like, err) == 0)
			return 0;
	return MANIFEST_E_NONE;
}

void manifest_prune(const char *state_dir, const struct config *config)
{
	char path[PATH_MAX];
	const struct dirent *found;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/" MANIFEST_DIR, state_dir);
	dir = opendir(path);
	while (dir && (found = readdir(dir)) != NULL) {
		CLOSE_FD int dir_fd = -1;

		if (found->d_name[0] == '.' || config_find(config, found->d_name))
			continue;
		dir_fd = manifest_open_dir(state_dir, found->d_name, false);
		if (dir_fd < 0)
			continue;
		manifest_sweep(dir_fd, 0);
		(void)unlinkat(dirfd(dir), found->d_name, AT_REMOVEDIR);
	}
	if (dir)
		(void)closedir(dir);
}
