/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A directory of secrets in which somebody has put anything: files of any name, content and
 * rights, links, folders, FIFOs, and the link that Kubernetes swaps. A second reader, which only
 * looks at what the harness has put there, agrees on what is a secret and what it holds. The
 * other half of the inputs are texts as moultd keeps them.
 */

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shared/proto.h"
#include "supervisor/inputs/secrets.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/folder.h"

#define ENTRIES_MAX 8u
#define NAME_BYTES  24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind {
	A_FILE,
	A_FOLDER,
	A_FIFO,
	A_LINK,      /* to the entry before */
	A_LOOSE_END, /* a link that leads nowhere */
	KINDS,
};

struct entry {
	char name[NAME_BYTES];
	enum kind kind;
	mode_t mode;
	size_t bytes;
	unsigned char fill;
	const struct entry *target; /* of a link */
};

static const char *folder;
static int folder_fd = -1;
static unsigned char value[SECRETS_FILE_BYTES_MAX + 1];

/* What is put there */

static void choose_name(struct fuzz_bytes *bytes, char *name)
{
	static const char *const names[] = { "a",   "b",       "db-password", "API_KEY",
		                             "..x", "tls.crt", ".hidden",     "a b" };
	uint8_t how = fuzz_u8(bytes);
	size_t n = how % NAME_BYTES;

	if (how < 0xc0) {
		(void)strcpy(name, names[how % FUZZ_COUNT(names)]);
		return;
	}
	fuzz_copy(bytes, name, n);
	name[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if (name[i] == '/')
			name[i] = '_';
}

static void choose(struct fuzz_bytes *bytes, struct entry *entry,
                   const struct entry *before)
{
	static const size_t sizes[] = { 0, SECRETS_FILE_BYTES_MAX,
		                        SECRETS_FILE_BYTES_MAX + 1 };
	uint8_t how = fuzz_u8(bytes);
	uint8_t size = fuzz_u8(bytes);

	choose_name(bytes, entry->name);
	/* Most are files. */
	entry->kind = how < 0xa0 ? A_FILE : how % KINDS;
	entry->mode = how & 8 ? 0606 : how & 16 ? 0444 : 0600;
	entry->bytes = size < FUZZ_COUNT(sizes) ? sizes[size] : size;
	entry->fill = (unsigned char)(how ^ size);
	entry->target = before;
	if (entry->kind == A_LINK && !before)
		entry->kind = A_LOOSE_END;
}

/* False: there is such a name already, or none can be so. */
static bool put(int dir_fd, const struct entry *entry)
{
	struct stat st;

	if (*entry->name == '\0' || strcmp(entry->name, ".") == 0 ||
	    strcmp(entry->name, "..") == 0 || strcmp(entry->name, "..data") == 0 ||
	    fstatat(dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	switch (entry->kind) {
	case A_FILE:
		memset(value, entry->fill, entry->bytes);
		fuzz_folder_write_at(dir_fd, entry->name, value, entry->bytes,
		                     entry->mode);
		return true;
	case A_FOLDER:
		return mkdirat(dir_fd, entry->name, 0700) == 0;
	case A_FIFO:
		return mkfifoat(dir_fd, entry->name, 0600) == 0;
	case A_LINK:
		return symlinkat(entry->target->name, dir_fd, entry->name) == 0;
	case A_LOOSE_END:
	case KINDS:
	default:
		return symlinkat("nowhere", dir_fd, entry->name) == 0;
	}
}

/* What is expected */

/* The file that @entry is or leads to; NULL: none. */
static const struct entry *file_of(const struct entry *entry)
{
	while (entry && entry->kind == A_LINK)
		entry = entry->target;
	return entry && entry->kind == A_FILE ? entry : NULL;
}

static bool has_good_name(const struct entry *entry)
{
	for (const char *c = entry->name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return false;
	return *entry->name != '.';
}

static bool is_secret(const struct entry *entry)
{
	const struct entry *file = file_of(entry);

	return file && has_good_name(entry) && file->bytes > 0 &&
	       file->bytes <= SECRETS_FILE_BYTES_MAX && !(file->mode & S_IWOTH);
}

/* True: a file so young and empty that somebody may be writing it. */
static bool is_unsettled(const struct entry *entry)
{
	return *entry->name != '.' && entry->kind == A_FILE && entry->bytes == 0;
}

static void check_one(const struct proto_secret *secret, const struct entry *entries,
                      size_t n)
{
	const struct entry *file = NULL;

	for (size_t i = 0; i < n; i++)
		if (proto_text_equals(secret->name, entries[i].name) &&
		    is_secret(&entries[i]))
			file = file_of(&entries[i]);
	assert(file && secret->value.bytes == file->bytes);
	for (size_t i = 0; i < file->bytes; i++)
		assert((unsigned char)secret->value.data[i] == file->fill);
}

/* Goes through what was read. Returns how many secrets there are. */
static size_t walk(const struct secrets *secrets, const struct entry *entries, size_t n)
{
	const unsigned char *cursor;
	struct proto_secret secret;
	struct memfd map;
	size_t count = 0;
	int r;

	assert(secrets_map(secrets, &map) == 0);
	cursor = map.base;
	while ((r = proto_secrets_next(&cursor,
	                               (const unsigned char *)map.base + map.size_bytes,
	                               &secret)) > 0) {
		char name[NAME_BYTES];

		if (entries)
			check_one(&secret, entries, n);
		if (secret.name.bytes < sizeof(name) &&
		    !(secret.name.bytes > 0 &&
		      memchr(secret.name.data, '\0', secret.name.bytes))) {
			(void)snprintf(name, sizeof(name), "%.*s", (int)secret.name.bytes,
			               secret.name.data);
			assert(secrets_has(secrets, name));
		}
		count++;
	}
	assert(r == 0);
	memfd_fini(&map);
	return count;
}

static void check_read(const struct entry *entries, size_t n)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r = secrets_read(&secrets, folder, &err);
	bool may_wait = false;
	size_t expected = 0;

	for (size_t i = 0; i < n; i++) {
		expected += is_secret(&entries[i]);
		may_wait |= is_unsettled(&entries[i]);
	}
	if (r == SECRETS_E_UNSETTLED) {
		assert(may_wait && secrets.fd < 0 && *err.text);
		return;
	}
	assert(r == (expected > 0 ? 0 : SECRETS_E_REFUSED));
	if (r == 0) {
		assert(secrets.count == expected);
		assert(walk(&secrets, entries, n) == expected);
		assert(strlen(secrets.digest) == SECRETS_DIGEST_HEX - 1);
	} else {
		assert(secrets.fd < 0 && *err.text);
	}
	secrets_fini(&secrets);
}

static void play_directory(struct fuzz_bytes *bytes, bool is_swapped)
{
	struct entry entries[ENTRIES_MAX];
	int dir_fd = folder_fd;
	size_t n = 0;

	if (is_swapped) {
		assert(mkdirat(folder_fd, "..2026", 0700) == 0);
		assert(symlinkat("..2026", folder_fd, "..data") == 0);
		dir_fd = openat(folder_fd, "..2026", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert(dir_fd >= 0);
	}
	while (bytes->left > 0 && n < ENTRIES_MAX) {
		choose(bytes, &entries[n], n > 0 ? &entries[n - 1] : NULL);
		n += put(dir_fd, &entries[n]);
	}
	if (is_swapped)
		(void)close(dir_fd);
	check_read(entries, n);
	fuzz_folder_clear(folder_fd, ".");
}

/* A kept text: it is one whole, or is refused. */
static void play_text(const struct fuzz_bytes *bytes)
{
	struct secrets secrets = SECRETS_NULL;
	int fd = memfd_create("text", MFD_CLOEXEC);
	int r;

	assert(fd >= 0 && (bytes->left == 0 ||
	                   write(fd, bytes->at, bytes->left) == (ssize_t)bytes->left));
	assert(lseek(fd, 0, SEEK_SET) == 0);
	r = secrets_load(&secrets, fd);
	assert(r == 0 || (r == -EINVAL && secrets.fd < 0));
	if (r == 0)
		assert(walk(&secrets, NULL, 0) == secrets.count);
	secrets_fini(&secrets);
	(void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_bytes bytes = { data, size };
	uint8_t what = fuzz_u8(&bytes);
	int next_fd;

	if (folder_fd < 0) {
		folder = fuzz_folder_enter();
		folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert(folder_fd >= 0);
	}
	next_fd = fuzz_next_fd();
	if (what % 4 == 0)
		play_text(&bytes);
	else
		play_directory(&bytes, what & 4);
	assert(fuzz_next_fd() == next_fd);
	return 0;
}
