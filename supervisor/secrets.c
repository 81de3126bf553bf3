/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/secrets.h"

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
#include <unistd.h>

#include "shared/cleanup.h"
#include "shared/memfd.h"
#include "shared/proto.h"

#define SECRETS_BYTES_MAX                                                                \
	((size_t)SECRETS_FILES_MAX * (SECRETS_FILE_BYTES_MAX + NAME_MAX + 8))
#define SECRETS_KEY_BYTES 32
#define SECRETS_LINK      "..data"

struct secrets_list {
	char names[SECRETS_FILES_MAX][NAME_MAX + 1];
	struct stat stats[SECRETS_FILES_MAX];
	size_t n;
};

/* Digests mean something within one run of one process only: nobody can use a receipt to
 * try out guesses at a secret. */
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
	return strcmp(a, b);
}

/* Of a call that failed with @error: nobody refused anything where the machine was short. */
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

/* A name that has just gone comes with another change; one that stays and leads nowhere,
 * or may not be looked at, would be waited for in vain. */
static int secrets_stat(int dir_fd, const char *directory, const char *name,
                        struct stat *ret_stat, struct err *err)
{
	int error;

	if (fstatat(dir_fd, name, ret_stat, 0) == 0)
		return 0;
	error = errno;
	if (fstatat(dir_fd, name, ret_stat, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return SECRETS_E_UNSETTLED;
	return err_set(err, SECRETS_E_REFUSED, "secret %s/%s: %s", directory, name,
	               strerror(error));
}

/* The names in @dir_fd, sorted, and what stat says of each. */
static int secrets_list(int dir_fd, const char *directory, struct secrets_list *list,
                        struct err *err)
{
	int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		close_fd(&copy);
		return err_set(err, secrets_outcome(errno), "secrets directory %s: %s",
		               directory, strerror(errno));
	}
	list->n = 0;
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (list->n == SECRETS_FILES_MAX)
			r = err_set(err, SECRETS_E_REFUSED,
			            "secrets directory %s holds more than %d files",
			            directory, SECRETS_FILES_MAX);
		else if (!secrets_is_name(entry->d_name))
			r = err_set(err, SECRETS_E_REFUSED,
			            "secrets directory %s: a name has characters other "
			            "than letters, digits, '.', '_' and '-'",
			            directory);
		else
			(void)strcpy(list->names[list->n++], entry->d_name);
	}
	(void)closedir(dir);
	if (r)
		return r;
	qsort(list->names, list->n, sizeof(list->names[0]), secrets_compare);
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = secrets_stat(dir_fd, directory, list->names[i], &list->stats[i], err);
	return r;
}

/* The time of the change, too: who writes in place may set the other one back. */
static bool secrets_is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size &&
	       memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) == 0 &&
	       memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0;
}

static bool secrets_is_same(const struct secrets_list *a, const struct secrets_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->names[i], b->names[i]) != 0 ||
		    !secrets_is_same_file(&a->stats[i], &b->stats[i]))
			return false;
	return true;
}

static int secrets_check(const struct stat *st, const char *directory, const char *name,
                         struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, SECRETS_E_REFUSED, "secret %s/%s is no regular file",
		               directory, name);
	if (st->st_size == 0)
		return err_set(err, SECRETS_E_REFUSED,
		               "secret %s/%s is empty: write it whole, or remove it",
		               directory, name);
	if (st->st_size > SECRETS_FILE_BYTES_MAX)
		return err_set(err, SECRETS_E_REFUSED,
		               "secret %s/%s is larger than %d bytes", directory, name,
		               SECRETS_FILE_BYTES_MAX);
	if (st->st_mode & S_IWOTH)
		return err_set(err, SECRETS_E_REFUSED,
		               "secret %s/%s can be written by everybody: chmod o-w it",
		               directory, name);
	return 0;
}

/* Appends one secret at *cursor. The file is opened without blocking on a FIFO. */
static int secrets_read_one(int dir_fd, const char *directory, const char *name,
                            unsigned char **cursor, struct err *err)
{
	CLOSE_FD int fd =
		openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	unsigned char value[SECRETS_FILE_BYTES_MAX + 1];
	size_t bytes = 0;
	struct stat st;
	ssize_t n;
	int r;

	if (fd < 0 && errno == ENOENT)
		return SECRETS_E_UNSETTLED;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, secrets_outcome(errno), "secret %s/%s: %s", directory,
		               name, strerror(errno));
	r = secrets_check(&st, directory, name, err);
	if (r)
		return r;
	while ((n = read(fd, value + bytes, sizeof(value) - bytes)) > 0)
		bytes += (size_t)n;
	if (n < 0)
		r = err_set(err, secrets_outcome(errno), "secret %s/%s: %s", directory,
		            name, strerror(errno));
	else if (bytes != (size_t)st.st_size)
		r = SECRETS_E_UNSETTLED;
	else
		*cursor = proto_secret_write(*cursor, proto_text_of(name),
		                             (struct proto_text){ (char *)value, bytes });
	explicit_bzero(value, sizeof(value));
	return r;
}

static int secrets_read_all(int dir_fd, const char *directory, unsigned char *memory,
                            size_t *ret_bytes, uint32_t *ret_count, struct err *err)
{
	struct secrets_list *lists = calloc(2, sizeof(*lists));
	unsigned char *cursor = memory;
	int r;

	if (!lists)
		return -ENOMEM;
	r = secrets_list(dir_fd, directory, &lists[0], err);
	if (r == 0 && lists[0].n == 0)
		r = err_set(
			err, SECRETS_E_REFUSED,
			"secrets directory %s holds no secret: put one file per secret "
			"there, or remove the key secrets",
			directory);
	for (size_t i = 0; r == 0 && i < lists[0].n; i++) {
		/* Before it is opened: to open a device may do something. */
		r = secrets_check(&lists[0].stats[i], directory, lists[0].names[i], err);
		if (r == 0)
			r = secrets_read_one(dir_fd, directory, lists[0].names[i],
			                     &cursor, err);
	}
	if (r == 0)
		r = secrets_list(dir_fd, directory, &lists[1], err);
	if (r == 0 && !secrets_is_same(&lists[0], &lists[1]))
		r = SECRETS_E_UNSETTLED;
	*ret_bytes = (size_t)(cursor - memory);
	*ret_count = (uint32_t)lists[0].n;
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
	explicit_bzero(&hmac, sizeof(hmac)); /* it holds the end of what it has read */
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(ret_secrets->digest + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

/* Reads through the link that Kubernetes swaps, when there is one, and says whether it
 * still points to the same place afterwards. */
static int secrets_read_directory(int dir_fd, const char *directory,
                                  unsigned char *memory, size_t *ret_bytes,
                                  uint32_t *ret_count, struct err *err)
{
	char before[PATH_MAX];
	char after[PATH_MAX];
	CLOSE_FD int data_fd = -1;
	ssize_t n_before = readlinkat(dir_fd, SECRETS_LINK, before, sizeof(before));
	ssize_t n_after;
	int r;

	if (n_before < 0)
		return secrets_read_all(dir_fd, directory, memory, ret_bytes, ret_count,
		                        err);
	data_fd = openat(dir_fd, SECRETS_LINK, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (data_fd < 0)
		r = err_set(err, secrets_outcome(errno), "secrets directory %s/%s: %s",
		            directory, SECRETS_LINK, strerror(errno));
	else
		r = secrets_read_all(data_fd, directory, memory, ret_bytes, ret_count,
		                     err);
	n_after = readlinkat(dir_fd, SECRETS_LINK, after, sizeof(after));
	if (n_after != n_before || memcmp(before, after, (size_t)n_before) != 0)
		return SECRETS_E_UNSETTLED;
	return r;
}

/* Pages come with use; none of them goes into a core file. */
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
	unsigned char *memory;
	size_t bytes = 0;
	uint32_t count = 0;
	int r;

	if (!directory)
		return secrets_seal(ret_secrets, "", 0, 0);
	dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return err_set(err, secrets_outcome(errno), "secrets directory %s: %s",
		               directory, strerror(errno));
	memory = secrets_memory();
	if (!memory)
		return err_set(err, -ENOMEM, "no memory for secrets");
	r = secrets_read_directory(dir_fd, directory, memory, &bytes, &count, err);
	if (r == 0)
		r = secrets_seal(ret_secrets, memory, bytes, count);
	secrets_memory_free(memory, bytes);
	if (r == SECRETS_E_UNSETTLED)
		(void)err_set(err, r, "secrets directory %s changes while being read",
		              directory);
	else if (r < 0)
		(void)err_set(err, r, "secrets directory %s: %s", directory,
		              strerror(-r));
	return r;
}

static int secrets_write(int fd, const unsigned char *memory, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(fd, memory, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		memory += n;
		bytes -= (size_t)n;
	}
	return 0;
}

int secrets_save(const struct secrets *secrets, int fd)
{
	struct memfd map;
	CLOSE_FD int copy = fcntl(secrets->fd, F_DUPFD_CLOEXEC, 3);
	int r;

	if (copy < 0)
		return -errno;
	r = memfd_map(&map, copy, false);
	if (r < 0)
		return r;
	copy = -1; /* the mapping's now */
	r = secrets_write(fd, map.base, map.size_bytes);
	memfd_fini(&map);
	return r;
}

/* How many secrets @memory holds, or -EINVAL. */
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

void secrets_fini(struct secrets *secrets)
{
	close_fd(&secrets->fd);
	secrets->count = 0;
	secrets->digest[0] = '\0';
}
