/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads a directory that somebody may be changing, without locks, and never mixes two
 * states of it.
 *
 * secrets_read_all() lists the directory, reads each file, lists again, and compares
 * the two lists: any difference is SECRETS_E_UNSETTLED, and the caller tries again
 * soon. secrets_read_directory() puts the same check around Kubernetes' ..data link. An
 * entry that is no secret is skipped and named, so that one stray file refuses nothing.
 * Values lie in one mapping that is wiped and kept out of core files, then in a sealed
 * memfd; outside of this file only the keyed digest speaks of them.
 */

#include "supervisor/inputs/secrets.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nettle/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shared/access.h"
#include "shared/cleanup.h"
#include "shared/clock.h"
#include "shared/file.h"
#include "shared/hex.h"
#include "shared/memfd.h"
#include "shared/proto.h"

#define SECRETS_REMEDY ": create it, with one file per secret, or remove the key secrets"
#define SECRETS_BYTES_MAX                                                                \
	((size_t)SECRETS_FILES_MAX * (SECRETS_FILE_BYTES_MAX + NAME_MAX + 8))
#define SECRETS_KEY_BYTES 32
#define SECRETS_LINK      "..data"

/* An empty file counts for this long as one that somebody is writing. */
#define SECRETS_EMPTY_NS (2 * CLOCK_NS_PER_SEC)

struct secrets_row {
	char name[NAME_MAX + 1];
	struct stat file;
};

struct secrets_list {
	struct secrets_row rows[SECRETS_FILES_MAX];
	size_t n;
};

/* A reading of a directory. */
struct secrets_reading {
	const char *directory; /* for people */
	int dir_fd;
	struct err *skipped; /* "NAME (why), ..." */
	struct err *err;
};

/* Digests mean something within one run of one process only: nobody can try out guesses
 * at a secret against a receipt. */
static const uint8_t *secrets_key(void)
{
	static uint8_t key[SECRETS_KEY_BYTES];
	static bool is_made;

	if (!is_made && getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key))
		is_made = true;
	return is_made ? key : NULL;
}

static int secrets_compare(const void *a, const void *b)
{
	const struct secrets_row *left = a;
	const struct secrets_row *right = b;

	return strcmp(left->name, right->name);
}

/* Outcome of a call that failed with @error: a shortage of the machine refuses
 * nothing. */
static int secrets_outcome(int error)
{
	return err_is_shortage(error) ? -error : SECRETS_E_REFUSED;
}

static bool secrets_is_name(const char *name)
{
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
			return false;
	return true;
}

/* Notes @name as skipped; the other secrets stay of use. */
static void secrets_skip(const struct secrets_reading *reading, const char *name,
                         const char *why)
{
	struct err *skipped = reading->skipped;
	size_t used = strlen(skipped->text);

	(void)snprintf(skipped->text + used, sizeof(skipped->text) - used, "%s%.64s (%s)",
	               used ? ", " : "", name, why);
	/* Anybody may choose the names: bytes that are no text are taken out. */
	err_clean(skipped->text);
}

/* Why @name could not be looked at or opened. */
static const char *secrets_why(const struct secrets_reading *reading, const char *name,
                               int error, struct err *storage)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", reading->directory, name) >=
	    sizeof(path))
		return strerror(error);
	return access_why(storage, path, R_OK, error);
}

/* Why the file is no secret; NULL: it may be one. */
static const char *secrets_dislike(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return "a directory";
	if (!S_ISREG(st->st_mode))
		return "no regular file";
	if (st->st_size == 0)
		return "empty: write it whole, or remove it";
	if (st->st_size > SECRETS_FILE_BYTES_MAX)
		return "larger than 65536 bytes";
	if (st->st_mode & S_IWOTH)
		return "can be written by everybody: chmod o-w it";
	return NULL;
}

_Static_assert(SECRETS_FILE_BYTES_MAX == 65536, "said above");

/* True: the file is so young that somebody may be about to write it. */
static bool secrets_is_fresh(const struct stat *st)
{
	struct timespec now;
	int64_t age_ns;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	age_ns = (now.tv_sec - st->st_ctim.tv_sec) * (int64_t)CLOCK_NS_PER_SEC +
	         (now.tv_nsec - st->st_ctim.tv_nsec);
	/* The clock of a file server may differ. */
	return age_ns > -(int64_t)SECRETS_EMPTY_NS && age_ns < (int64_t)SECRETS_EMPTY_NS;
}

/* Why @name is no secret, or NULL with *ret_file. */
static const char *secrets_look(const struct secrets_reading *reading, const char *name,
                                struct stat *ret_file, struct err *storage)
{
	if (!secrets_is_name(name))
		return "its name has characters other than letters, digits, '.', '_' and "
		       "'-'";
	if (fstatat(reading->dir_fd, name, ret_file, 0) < 0)
		return secrets_why(reading, name, errno, storage);
	return secrets_dislike(ret_file);
}

/* Adds @name to the list. A name that is gone again comes with another change; one that
 * stays and leads nowhere would be waited for in vain, so it is skipped. */
static int secrets_add(const struct secrets_reading *reading, const char *name,
                       struct secrets_list *list)
{
	struct stat file;
	struct err storage;
	const char *why = secrets_look(reading, name, &file, &storage);

	if (!why && list->n == SECRETS_FILES_MAX)
		return err_set(reading->err, SECRETS_E_REFUSED,
		               "secrets directory %s holds more than %d files",
		               reading->directory, SECRETS_FILES_MAX);
	if (!why) {
		(void)strcpy(list->rows[list->n].name, name);
		list->rows[list->n++].file = file;
		return 0;
	}
	if (fstatat(reading->dir_fd, name, &file, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return SECRETS_E_UNSETTLED;
	if (S_ISREG(file.st_mode) && file.st_size == 0 && secrets_is_fresh(&file))
		return SECRETS_E_UNSETTLED;
	secrets_skip(reading, name, why);
	return 0;
}

/* Lists the names that may be secrets, sorted, with their stat. */
static int secrets_list(const struct secrets_reading *reading, struct secrets_list *list)
{
	int copy = openat(reading->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		close_fd(&copy);
		return err_set(reading->err, secrets_outcome(errno),
		               "secrets directory %s: %s", reading->directory,
		               access_why(&(struct err)ERR_NULL, reading->directory,
		                          R_OK | X_OK, errno));
	}
	list->n = 0;
	reading->skipped->text[0] = '\0';
	while (r == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			r = secrets_add(reading, entry->d_name, list);
	(void)closedir(dir);
	qsort(list->rows, list->n, sizeof(list->rows[0]), secrets_compare);
	return r;
}

static bool secrets_is_same(const struct secrets_list *a, const struct secrets_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->rows[i].name, b->rows[i].name) != 0 ||
		    !file_is_same(&a->rows[i].file, &b->rows[i].file))
			return false;
	return true;
}

/* Appends one secret at *cursor, unless the file turns out to be none. Opening does not
 * block on a FIFO. */
static int secrets_read_one(const struct secrets_reading *reading, const char *name,
                            unsigned char **cursor)
{
	CLOSE_FD int fd = openat(reading->dir_fd, name,
	                         O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	unsigned char value[SECRETS_FILE_BYTES_MAX + 1];
	struct err storage;
	size_t bytes = 0;
	struct stat st;
	ssize_t n = 0;
	int r = 0;

	if (fd < 0 && errno == ENOENT)
		return SECRETS_E_UNSETTLED;
	/* The file is not any more what it was when listed. */
	if (fd >= 0 && fstat(fd, &st) == 0 && secrets_dislike(&st))
		return SECRETS_E_UNSETTLED;
	while (fd >= 0 && (n = read(fd, value + bytes, sizeof(value) - bytes)) > 0)
		bytes += (size_t)n;
	if ((fd < 0 || n < 0) && err_is_shortage(errno))
		r = err_set(reading->err, -errno, "secret %s/%s: %s", reading->directory,
		            name, strerror(errno));
	else if (fd < 0 || n < 0)
		secrets_skip(reading, name, secrets_why(reading, name, errno, &storage));
	else if (bytes != (size_t)st.st_size)
		r = SECRETS_E_UNSETTLED;
	else
		*cursor = proto_secret_write(*cursor, proto_text_of(name),
		                             (struct proto_text){ (char *)value, bytes });
	explicit_bzero(value, sizeof(value));
	return r;
}

static int secrets_none(const struct secrets_reading *reading)
{
	const char *skipped = reading->skipped->text;

	return err_set(
		reading->err, SECRETS_E_REFUSED,
		"secrets directory %s holds no secret%s%s: put one file per secret "
		"there, or remove the key secrets",
		reading->directory, *skipped ? " that is of use: " : "", skipped);
}

static int secrets_read_all(const struct secrets_reading *reading, unsigned char *memory,
                            size_t *ret_bytes, uint32_t *ret_count)
{
	struct secrets_list *lists = calloc(2, sizeof(*lists));
	struct err again = ERR_NULL;
	struct secrets_reading second = *reading;
	unsigned char *cursor = memory;
	uint32_t count = 0;
	int r;

	if (!lists)
		return -ENOMEM;
	second.skipped = &again;
	r = secrets_list(reading, &lists[0]);
	for (size_t i = 0; r == 0 && i < lists[0].n; i++) {
		unsigned char *begin = cursor;

		r = secrets_read_one(reading, lists[0].rows[i].name, &cursor);
		count += cursor != begin;
	}
	if (r == 0)
		r = secrets_list(&second, &lists[1]);
	if (r == 0 && !secrets_is_same(&lists[0], &lists[1]))
		r = SECRETS_E_UNSETTLED;
	if (r == 0 && count == 0)
		r = secrets_none(reading);
	*ret_bytes = (size_t)(cursor - memory);
	*ret_count = count;
	free(lists);
	return r;
}

static int secrets_seal(struct secrets *ret_secrets, const void *memory, size_t bytes,
                        uint32_t count)
{
	const uint8_t *key = secrets_key();
	uint8_t digest[(SECRETS_DIGEST_HEX - 1) / 2];
	struct hmac_sha256_ctx hmac;
	int fd;

	if (!key)
		return -EIO;
	fd = memfd_create_constant("moult-secrets", memory, bytes);
	if (fd < 0)
		return fd;
	*ret_secrets = (struct secrets){ .fd = fd, .count = count };
	if (count == 0)
		return 0;
	hmac_sha256_set_key(&hmac, SECRETS_KEY_BYTES, key);
	hmac_sha256_update(&hmac, bytes, memory);
	hmac_sha256_digest(&hmac, sizeof(digest), digest);
	explicit_bzero(&hmac, sizeof(hmac)); /* it holds the end of the values */
	hex_print(ret_secrets->digest, digest, sizeof(digest));
	return 0;
}

/* Reads through the link that Kubernetes swaps, when there is one, and checks that it
 * still points to the same place afterwards. */
static int secrets_read_directory(const struct secrets_reading *reading,
                                  unsigned char *memory, size_t *ret_bytes,
                                  uint32_t *ret_count)
{
	struct secrets_reading inner = *reading;
	char before[PATH_MAX];
	char after[PATH_MAX];
	CLOSE_FD int data_fd = -1;
	ssize_t n_before =
		readlinkat(reading->dir_fd, SECRETS_LINK, before, sizeof(before));
	ssize_t n_after;
	int r;

	if (n_before < 0)
		return secrets_read_all(reading, memory, ret_bytes, ret_count);
	data_fd = openat(reading->dir_fd, SECRETS_LINK, O_PATH | O_DIRECTORY | O_CLOEXEC);
	inner.dir_fd = data_fd;
	if (data_fd < 0)
		r = err_set(reading->err, secrets_outcome(errno),
		            "secrets directory %s/%s: %s", reading->directory,
		            SECRETS_LINK, strerror(errno));
	else
		r = secrets_read_all(&inner, memory, ret_bytes, ret_count);
	n_after = readlinkat(reading->dir_fd, SECRETS_LINK, after, sizeof(after));
	if (n_after != n_before || memcmp(before, after, (size_t)n_before) != 0)
		return SECRETS_E_UNSETTLED;
	return r;
}

/* Memory for all secrets: pages come with use, and none goes into a core file. */
static unsigned char *secrets_memory(void)
{
	void *memory = mmap(NULL, SECRETS_BYTES_MAX, PROT_READ | PROT_WRITE,
	                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	(void)madvise(memory, SECRETS_BYTES_MAX, MADV_DONTDUMP);
	return memory;
}

static void secrets_memory_free(unsigned char *memory, size_t used_bytes)
{
	explicit_bzero(memory, used_bytes);
	(void)munmap(memory, SECRETS_BYTES_MAX);
}

int secrets_read(struct secrets *ret_secrets, const char *directory, struct err *err)
{
	CLOSE_FD int dir_fd = -1;
	struct err skipped = ERR_NULL;
	struct secrets_reading reading = { .directory = directory,
		                           .skipped = &skipped,
		                           .err = err };
	unsigned char *memory;
	size_t bytes = 0;
	uint32_t count = 0;
	int r;

	if (!directory)
		return secrets_seal(ret_secrets, "", 0, 0);
	dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0) {
		int r_open = errno;

		return err_set(err, secrets_outcome(r_open), "secrets directory %s: %s%s",
		               directory,
		               access_why(&(struct err)ERR_NULL, directory, R_OK | X_OK,
		                          r_open),
		               r_open == ENOENT ? SECRETS_REMEDY : "");
	}
	memory = secrets_memory();
	if (!memory)
		return err_set(err, -ENOMEM, "no memory for secrets");
	reading.dir_fd = dir_fd;
	r = secrets_read_directory(&reading, memory, &bytes, &count);
	if (r == 0)
		r = secrets_seal(ret_secrets, memory, bytes, count);
	if (r == 0)
		ret_secrets->skipped = skipped;
	secrets_memory_free(memory, bytes);
	if (r == SECRETS_E_UNSETTLED)
		(void)err_set(err, r, "secrets directory %s changes while being read",
		              directory);
	else if (r < 0)
		(void)err_set(err, r, "secrets directory %s: %s", directory,
		              strerror(-r));
	return r;
}

int secrets_map(const struct secrets *secrets, struct memfd *ret_map)
{
	int copy = fcntl(secrets->fd, F_DUPFD_CLOEXEC, 3);
	int r = copy < 0 ? -errno : memfd_map(ret_map, copy, false);

	if (r < 0)
		close_fd(&copy);
	return r;
}

/* Number of secrets in @memory, or -EINVAL. */
static int secrets_count(const unsigned char *memory, size_t bytes)
{
	const unsigned char *cursor = memory;
	struct proto_secret secret;
	int count = 0;
	int r;

	while ((r = proto_secrets_next(&cursor, memory + bytes, &secret)) > 0)
		count++;
	return r < 0 || count > SECRETS_FILES_MAX ? -EINVAL : count;
}

int secrets_load(struct secrets *ret_secrets, int fd)
{
	unsigned char *memory = secrets_memory();
	size_t bytes = 0;
	ssize_t n = 0;
	int r;

	if (!memory)
		return -ENOMEM;
	while (bytes < SECRETS_BYTES_MAX &&
	       (n = read(fd, memory + bytes, SECRETS_BYTES_MAX - bytes)) > 0)
		bytes += (size_t)n;
	r = n < 0 ? -errno : secrets_count(memory, bytes);
	if (r >= 0)
		r = secrets_seal(ret_secrets, memory, bytes, (uint32_t)r);
	secrets_memory_free(memory, bytes);
	return r;
}

struct secrets secrets_identity(const struct secrets *secrets)
{
	struct secrets identity = *secrets;

	identity.fd = -1;
	return identity;
}

struct secrets secrets_take(struct secrets *secrets)
{
	struct secrets taken = *secrets;

	*secrets = (struct secrets)SECRETS_NULL;
	return taken;
}

int secrets_copy(struct secrets *ret_copy, const struct secrets *secrets)
{
	int fd = fcntl(secrets->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	*ret_copy = *secrets;
	ret_copy->fd = fd;
	return 0;
}

bool secrets_has(const struct secrets *secrets, const char *name)
{
	struct proto_secret secret;
	const unsigned char *cursor;
	struct memfd map;
	bool has = false;

	if (secrets_map(secrets, &map) < 0)
		return true; /* the loader looks again */
	cursor = map.base;
	while (!has &&
	       proto_secrets_next(&cursor,
	                          (const unsigned char *)map.base + map.size_bytes,
	                          &secret) > 0)
		has = secret.name.bytes == strlen(name) &&
		      memcmp(secret.name.data, name, secret.name.bytes) == 0;
	memfd_fini(&map);
	return has;
}

void secrets_fini(struct secrets *secrets)
{
	close_fd(&secrets->fd);
	secrets->count = 0;
	secrets->digest[0] = '\0';
}
