/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Folders and files that outlive a run and a power cut. The order of writing makes that
 * true: content under another name, fsync, rename, then the manifest and an fsync of the
 * folder; only then keep_sweep() removes what no new manifest names. The digest in a
 * file's name shows when its content is damaged, and a manifest's code (seal.h) that moultd
 * wrote it: a program of moultd's user could write here, too. Owner, rights and links are checked on
 * opening, since whoever can write here chooses what the next start serves.
 */

#include "supervisor/keep/keep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/hex.h"
#include "supervisor/keep/seal.h"

#define KEEP_BYTES_MAX (8L << 20)
/* Name of a file that is being written. */
#define KEEP_NEW "new"
/* Numbers are of one width, so that names sort as numbers do. */
#define KEEP_MANIFEST        "manifest-"
#define KEEP_MANIFEST_FORMAT KEEP_MANIFEST "%020" PRIu64 "-%s"
#define KEEP_NUMBER_DIGITS   20
#define KEEP_SHA256_MEMBER   "_sha256"
/* The last line of a manifest, before its code. */
#define KEEP_SEAL       "\nhmac-sha256 "
#define KEEP_SEAL_BYTES (sizeof(KEEP_SEAL) - 1 + SEAL_HEX) /* with the line's end */

/* Digests and names */

void keep_digest(const void *data, size_t bytes, char *ret_sha256)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha256;

	sha256_init(&sha256);
	sha256_update(&sha256, bytes, data);
	sha256_digest(&sha256, sizeof(digest), digest);
	hex_print(ret_sha256, digest, sizeof(digest));
}

bool keep_is_digest(const char *sha256)
{
	return strlen(sha256) == KEEP_SHA256_HEX - 1 &&
	       strspn(sha256, "0123456789abcdef") == KEEP_SHA256_HEX - 1;
}

void keep_name(char *name, const char *kind, const char *sha256)
{
	(void)snprintf(name, KEEP_NAME_MAX, "%s-%s", kind, sha256);
}

/* False: @name is not the name of a manifest. */
static bool keep_parse_name(const char *name, struct keep_entry *ret_entry)
{
	const size_t head = sizeof(KEEP_MANIFEST) - 1;
	unsigned long long number;
	char *end;

	if (strncmp(name, KEEP_MANIFEST, head) != 0 ||
	    strspn(name + head, "0123456789") != KEEP_NUMBER_DIGITS)
		return false;
	number = strtoull(name + head, &end, 10);
	/* A number that no counter can have reached is none of ours. */
	if (*end != '-' || number >= INT64_MAX || !keep_is_digest(end + 1))
		return false;
	ret_entry->number = number;
	(void)strcpy(ret_entry->name, name);
	return true;
}

/* The digest in the name of a manifest. */
static const char *keep_sha256_of(const char *manifest)
{
	return strrchr(manifest, '-') + 1;
}

/* Folders */

/* Opens the folder @name in @parent_fd if it is ours; @path is for people. */
static int keep_open_folder(int parent_fd, const char *name, enum keep_manner manner,
                            const char *path, struct err *err)
{
	bool is_made = manner != KEEP_LOOK;
	CLOSE_FD int fd = -1;
	struct stat st;

	if (is_made && mkdirat(parent_fd, name, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", path,
		               access_why(&(struct err)ERR_NULL, path, R_OK | X_OK,
		                          errno));
	fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "%s: %s", path,
		               errno == ELOOP || errno == ENOTDIR
		                       ? "is no directory, or a link to one: remove it"
		                       : strerror(errno));
	if (manner == KEEP_MAKE)
		(void)fsync(parent_fd);
	if (st.st_uid != geteuid())
		return err_set(err, -EPERM,
		               "%s belongs to user %u: give it to moultd's, or remove it",
		               path, (unsigned int)st.st_uid);
	if (is_made && (st.st_mode & 077) && fchmod(fd, 0700) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!is_made && (st.st_mode & 022))
		return err_set(err, -EPERM,
		               "%s can be written to by others: look at what is there, "
		               "then chmod 700 it",
		               path);
	return take_fd(&fd);
}

static int keep_open_good(const char *state_dir, enum keep_manner manner, struct err *err)
{
	/* A link here is the administrator's. */
	CLOSE_FD int state_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FREE char *path = NULL;

	if (state_fd < 0)
		return err_set(err, -errno, "%s: %s", state_dir,
		               access_why(&(struct err)ERR_NULL, state_dir, R_OK | X_OK,
		                          errno));
	if (asprintf(&path, "%s/" KEEP_DIR, state_dir) < 0) {
		path = NULL; /* asprintf() left it undefined */
		return err_set(err, -ENOMEM, "out of memory");
	}
	return keep_open_folder(state_fd, KEEP_DIR, manner, path, err);
}

int keep_open(const char *state_dir, const char *name, enum keep_manner manner,
              struct err *err)
{
	CLOSE_FD int good_fd = keep_open_good(state_dir, manner, err);
	FREE char *path = NULL;

	if (good_fd < 0)
		return good_fd;
	if (asprintf(&path, "%s/" KEEP_DIR "/%s", state_dir, name) < 0) {
		path = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	return keep_open_folder(good_fd, name, manner, path, err);
}

int keep_lock(int dir_fd)
{
	int r;

	do
		r = flock(dir_fd, LOCK_EX);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Opens another stream over @dir_fd, which stays the caller's. NULL: failed. */
static DIR *keep_open_stream(int dir_fd)
{
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir)
		close_fd(&copy);
	return dir;
}

/* Writing */

static int keep_write_all(int fd, const char *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, data, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		data += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int keep_write(int dir_fd, const char *name, const void *data, size_t bytes)
{
	CLOSE_FD int fd = -1;
	int r;

	(void)unlinkat(dir_fd, KEEP_NEW, 0);
	fd = openat(dir_fd, KEEP_NEW, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
	            0600);
	if (fd < 0)
		return -errno;
	r = keep_write_all(fd, data, bytes);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dir_fd, KEEP_NEW, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, KEEP_NEW, 0);
	return r;
}

/* Each link and removal sets the file's time of change, which others look at: so a link
 * that is there is left alone. */
static bool keep_has(int dir_fd, const char *name, int fd)
{
	struct stat there;
	struct stat st;

	return fstat(fd, &st) == 0 &&
	       fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       there.st_dev == st.st_dev && there.st_ino == st.st_ino;
}

int keep_link_soon(int dir_fd, const char *name, int fd)
{
	char from[64];

	if (keep_has(dir_fd, name, fd))
		return 0;
	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, from, dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int keep_link(int dir_fd, const char *name, int fd)
{
	char from[64];
	int r = 0;

	if (keep_has(dir_fd, name, fd))
		return 0;
	(void)unlinkat(dir_fd, KEEP_NEW, 0);
	(void)snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, from, dir_fd, KEEP_NEW, AT_SYMLINK_FOLLOW) < 0 ||
	    renameat(dir_fd, KEEP_NEW, dir_fd, name) < 0)
		r = -errno;
	/* rename(2) leaves both names when they are of one file. */
	(void)unlinkat(dir_fd, KEEP_NEW, 0);
	return r;
}

/* Codes */

/* Opens the folder that all folders of models lie in: its own files are none of a model's. */
static int keep_open_all(int dir_fd)
{
	return openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int keep_open_file(int dir_fd, const char *name, bool is_secret)
{
	CLOSE_FD int fd =
		openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_uid != geteuid() || (st.st_mode & (is_secret ? 077 : 022)))
		return -EPERM;
	return take_fd(&fd);
}

/* Prints the code of a manifest. Of writers that need the first key at once, one makes it. */
static int keep_print_code(int dir_fd, uint64_t number, const char *text, char *ret_code)
{
	CLOSE_FD int all_fd = keep_open_all(dir_fd);
	CLOSE_FD int key_fd = -1;
	CLOSE_FD int made_fd = -1;
	int r = all_fd < 0 ? -errno : keep_lock(all_fd);

	if (r < 0)
		return r;
	key_fd = keep_open_file(all_fd, SEAL_KEY, true);
	if (key_fd >= 0 && seal_print(key_fd, number, text, strlen(text), ret_code) == 0)
		return 0;
	r = seal_make_key(all_fd);
	made_fd = r < 0 ? r : keep_open_file(all_fd, SEAL_KEY, true);
	return made_fd < 0 ? made_fd
	                   : seal_print(made_fd, number, text, strlen(text), ret_code);
}

static int keep_check_code(int dir_fd, uint64_t number, const char *text, size_t bytes,
                           const char *code)
{
	CLOSE_FD int all_fd = keep_open_all(dir_fd);
	CLOSE_FD int key_fd =
		all_fd < 0 ? -errno : keep_open_file(all_fd, SEAL_KEY, true);

	return key_fd < 0 ? key_fd : seal_check(key_fd, number, text, bytes, code);
}

/* Manifests */

int keep_write_manifest(int dir_fd, const char *text, uint64_t number)
{
	char sha256[KEEP_SHA256_HEX];
	char name[KEEP_NAME_MAX];
	char code[SEAL_HEX];
	FREE char *sealed = NULL;
	int r;

	if (strlen(text) + KEEP_SEAL_BYTES > KEEP_BYTES_MAX)
		return -EFBIG; /* could not be read back */
	keep_digest(text, strlen(text), sha256);
	(void)snprintf(name, sizeof(name), KEEP_MANIFEST_FORMAT, number, sha256);
	r = keep_print_code(dir_fd, number, text, code);
	if (r < 0)
		return r;
	if (asprintf(&sealed, "%s" KEEP_SEAL "%s\n", text, code) < 0) {
		sealed = NULL;
		return -ENOMEM;
	}
	r = keep_write(dir_fd, name, sealed, strlen(sealed));
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	return r;
}

/* Reading */

static int keep_newest_first(const void *a, const void *b)
{
	const struct keep_entry *left = a;
	const struct keep_entry *right = b;

	return (left->number < right->number) - (left->number > right->number);
}

size_t keep_list(int dir_fd, struct keep_entry *entries, size_t max)
{
	DIR *dir = keep_open_stream(dir_fd);
	const struct dirent *found;
	size_t n = 0;

	while (dir && n < max && (found = readdir(dir)) != NULL)
		if (keep_parse_name(found->d_name, &entries[n]))
			n++;
	if (dir)
		(void)closedir(dir);
	qsort(entries, n, sizeof(entries[0]), keep_newest_first);
	return n;
}

/* Reads the whole file; the caller frees it. NULL: out of memory, or the file is too
 * large. */
static char *keep_read_all(int fd, size_t *ret_bytes)
{
	struct stat st;
	FREE char *text = NULL;
	size_t bytes = 0;
	size_t size;
	ssize_t n;

	if (fstat(fd, &st) < 0 || st.st_size > KEEP_BYTES_MAX)
		return NULL;
	size = (size_t)st.st_size;
	text = malloc(size + 1);
	if (!text)
		return NULL;
	while (bytes < size && (n = read(fd, text + bytes, size - bytes)) > 0)
		bytes += (size_t)n;
	*ret_bytes = bytes;
	return take_ptr(&text);
}

/* The length of what is before the code, which is *@ret_code then; NULL: there is none. */
static size_t keep_find_code(const char *text, size_t bytes, const char **ret_code)
{
	size_t body = bytes - KEEP_SEAL_BYTES;

	*ret_code = NULL;
	if (bytes < KEEP_SEAL_BYTES || text[bytes - 1] != '\n' ||
	    memcmp(text + body, KEEP_SEAL, sizeof(KEEP_SEAL) - 1) != 0)
		return bytes;
	*ret_code = text + body + sizeof(KEEP_SEAL) - 1;
	return body;
}

/* Whether the manifest @text is one that moultd wrote, by its name and its code. */
static int keep_check_manifest(int dir_fd, const struct keep_entry *entry,
                               const char *text, size_t bytes, const char *code,
                               struct err *err)
{
	char sha256[KEEP_SHA256_HEX];
	int r;

	keep_digest(text, bytes, sha256);
	if (strcmp(keep_sha256_of(entry->name), sha256) != 0)
		return err_set(err, -EBADMSG, "%s is damaged", entry->name);
	if (!code)
		return err_set(err, -EBADMSG,
		               "%s has no code: an older moultd wrote it, or somebody "
		               "else",
		               entry->name);
	r = keep_check_code(dir_fd, entry->number, text, bytes, code);
	if (r == -EBADMSG)
		return err_set(err, r,
		               "%s has a wrong code: moultd did not write it, or not "
		               "with this key and under this name",
		               entry->name);
	return r < 0 ? err_set(err, r, "the key of %s cannot be used: %s", entry->name,
	                       strerror(-r))
	             : 0;
}

json_t *keep_read_manifest(int dir_fd, const struct keep_entry *entry, struct err *err)
{
	CLOSE_FD int fd = keep_open_file(dir_fd, entry->name, false);
	FREE char *text = NULL;
	const char *code;
	size_t bytes = 0;
	json_t *json = NULL;

	if (fd < 0) {
		(void)err_set(err, fd, "%s: %s", entry->name,
		              fd == -EPERM ? "belongs to another user, or others can "
		                             "write to it"
		                           : strerror(-fd));
		return NULL;
	}
	text = keep_read_all(fd, &bytes);
	if (!text) {
		(void)err_set(err, -EBADMSG, "%s is damaged", entry->name);
		return NULL;
	}
	bytes = keep_find_code(text, bytes, &code);
	if (keep_check_manifest(dir_fd, entry, text, bytes, code, err) < 0)
		return NULL;
	json = json_loadb(text, bytes, 0, NULL);
	if (!json)
		(void)err_set(err, -EBADMSG, "%s is damaged", entry->name);
	return json;
}

const char *keep_text(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

/* Taking away */

/* True: @json names the file @name. */
static bool keep_names(json_t *json, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach(json, key, value)
	{
		size_t bytes = strlen(key);
		size_t tail = strlen(KEEP_SHA256_MEMBER);
		const char *sha256 = json_string_value(value);

		if (!sha256 || bytes <= tail ||
		    strcmp(key + bytes - tail, KEEP_SHA256_MEMBER) != 0)
			continue;
		bytes -= tail;
		if (strncmp(name, key, bytes) == 0 && name[bytes] == '-' &&
		    strcmp(name + bytes + 1, sha256) == 0)
			return true;
	}
	return false;
}

/* True: a manifest of the same content is among the @n @names. */
static bool keep_is_known(char (*names)[KEEP_NAME_MAX], size_t n, const char *manifest)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(keep_sha256_of(names[i]), keep_sha256_of(manifest)) == 0)
			return true;
	return false;
}

/* Reads the newest manifests that are whole and differ, and their names. Returns how
 * many. */
static size_t keep_read_newest(int dir_fd, size_t n_wanted, char (*names)[KEEP_NAME_MAX],
                               json_t **manifests)
{
	struct keep_entry entries[KEEP_LIST_MAX];
	size_t n_entries = keep_list(dir_fd, entries, KEEP_LIST_MAX);
	size_t n = 0;

	for (size_t i = 0; i < n_entries && n < n_wanted; i++) {
		if (keep_is_known(names, n, entries[i].name))
			continue;
		manifests[n] = keep_read_manifest(dir_fd, &entries[i], NULL);
		if (manifests[n])
			(void)strcpy(names[n++], entries[i].name);
	}
	return n;
}

void keep_sweep(int dir_fd, size_t n_kept)
{
	char names[KEEP_MANIFESTS][KEEP_NAME_MAX];
	json_t *manifests[KEEP_MANIFESTS];
	size_t n = n_kept < KEEP_MANIFESTS ? n_kept : KEEP_MANIFESTS;
	DIR *dir = keep_open_stream(dir_fd);
	const struct dirent *found;

	n = keep_read_newest(dir_fd, n, names, manifests);
	while (dir && (found = readdir(dir)) != NULL) {
		bool is_kept = found->d_name[0] == '.';

		for (size_t i = 0; i < n; i++)
			is_kept |= strcmp(names[i], found->d_name) == 0 ||
			           keep_names(manifests[i], found->d_name);
		if (!is_kept)
			(void)unlinkat(dir_fd, found->d_name, 0);
	}
	if (dir)
		(void)closedir(dir);
	for (size_t i = 0; i < n; i++)
		json_decref(manifests[i]);
}

void keep_prune(const char *state_dir,
                bool (*is_wanted)(const void *context, const char *name),
                const void *context)
{
	CLOSE_FD int good_fd = keep_open_good(state_dir, KEEP_LOOK, NULL);
	DIR *dir = good_fd < 0 ? NULL : keep_open_stream(good_fd);
	const struct dirent *found;

	while (dir && (found = readdir(dir)) != NULL) {
		CLOSE_FD int dir_fd = -1;

		if (found->d_name[0] == '.' || is_wanted(context, found->d_name))
			continue;
		dir_fd = keep_open_folder(good_fd, found->d_name, KEEP_LOOK, "", NULL);
		if (dir_fd < 0)
			continue;
		keep_sweep(dir_fd, 0);
		(void)unlinkat(good_fd, found->d_name, AT_REMOVEDIR);
	}
	if (dir)
		(void)closedir(dir);
}

uint64_t keep_last_number(const char *state_dir)
{
	CLOSE_FD int good_fd = keep_open_good(state_dir, KEEP_LOOK, NULL);
	DIR *dir = good_fd < 0 ? NULL : keep_open_stream(good_fd);
	struct keep_entry entries[KEEP_LIST_MAX];
	const struct dirent *found;
	uint64_t last = 0;

	while (dir && (found = readdir(dir)) != NULL) {
		CLOSE_FD int dir_fd = -1;

		if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
			continue;
		dir_fd = keep_open_folder(good_fd, found->d_name, KEEP_LOOK, "", NULL);
		if (dir_fd >= 0 && keep_list(dir_fd, entries, KEEP_LIST_MAX) > 0 &&
		    entries[0].number > last)
			last = entries[0].number;
	}
	if (dir)
		(void)closedir(dir);
	return last;
}
