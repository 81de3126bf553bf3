/* SPDX-License-Identifier: Apache-2.0 */

/* The supervisor's side of secrets: real directories in, sealed memory out. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "scratch.h"
#include "shared/memfd.h"
#include "shared/proto.h"
#include "supervisor/inputs/secrets.h"

#define NOBODY         65534
#define CONTENT_MAX    512
#define SWAPPING_READS 3000

/* Makes an empty directory "s" for a test and moves beside it. */
static int enter(void **state)
{
	*state = (void *)(uintptr_t)scratch_fds();
	(void)scratch_enter();
	scratch_mkdir("s");
	return 0;
}

static int leave(void **state)
{
	scratch_leave();
	assert_int_equal(scratch_fds(), (uintptr_t)*state);
	return 0;
}

/* Writes "name=value;" for each secret, as the loader will find them; '0' for a NUL byte. */
static void read_back(const struct secrets *secrets, char *ret_text, size_t size)
{
	struct memfd memory;
	struct proto_secret secret;
	const unsigned char *cursor;
	const unsigned char *end;
	uint32_t n = 0;
	size_t at = 0;
	int r;

	assert_int_equal(memfd_map(&memory, dup(secrets->fd), false), 0);
	cursor = memory.base;
	end = cursor + memory.size_bytes;
	while ((r = proto_secrets_next(&cursor, end, &secret)) > 0) {
		at += (size_t)snprintf(ret_text + at, size - at,
		                       "%.*s=", (int)secret.name.bytes, secret.name.data);
		for (size_t i = 0; i < secret.value.bytes && at < size - 2; i++)
			ret_text[at++] =
				secret.value.data[i] ? secret.value.data[i] : '0';
		ret_text[at++] = ';';
		n++;
	}
	ret_text[at] = '\0';
	assert_int_equal(r, 0);
	assert_int_equal(n, secrets->count);
	memfd_fini(&memory);
}

/* The directory's content */

static void make_two(void)
{
	scratch_write("s/b", "2\n");
	scratch_write("s/a", "1");
}

/* Secrets are sorted by bytes, in whatever order readdir(3) gives them. */
static void make_unordered(void)
{
	static const char *const names[] = { "z", "a.b", "M", "_", "9", "a", "a-b", "B" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		scratch_write(scratch_path("s/%s", names[i]), "x");
}

static void make_nul(void)
{
	scratch_write_bytes("s/binary", "\0a\0", 3);
}

static void make_hidden(void)
{
	scratch_write("s/.token.swp", "half");
	scratch_write("s/token", "x");
}

static void make_link(void)
{
	scratch_write("elsewhere", "x");
	scratch_link("../elsewhere", "s/token");
}

static void make_linked_directory(void)
{
	assert_int_equal(rename("s", "real"), 0);
	scratch_write("real/token", "x");
	scratch_link("real", "s");
}

static void make_kubernetes(void)
{
	scratch_swap("s", "1", "token", "x");
}

/* Files outside of ..data are no secrets. */
static void make_kubernetes_and_more(void)
{
	scratch_swap("s", "1", "token", "x");
	scratch_write("s/stray", "y");
}

static void make_data_directory(void)
{
	scratch_mkdir("s/..data");
	scratch_write("s/..data/hidden", "x");
	scratch_write("s/token", "x");
}

static void make_nothing(void)
{
}

static void make_missing(void)
{
	scratch_remove("s");
}

static void make_a_file(void)
{
	scratch_remove("s");
	scratch_write("s", "x");
}

static void make_directory_loop(void)
{
	scratch_remove("s");
	scratch_link("s", "s");
}

/* An empty file may be about to be written. */
static void make_empty(void)
{
	scratch_write("s/a", "1");
	scratch_write("s/token", "");
}

static void make_big(void)
{
	scratch_write("s/token", "x");
	assert_int_equal(truncate("s/token", SECRETS_FILE_BYTES_MAX + 1), 0);
}

static void make_many(void)
{
	for (int i = 0; i <= SECRETS_FILES_MAX; i++)
		scratch_write(scratch_path("s/%d", i), "x");
}

static void make_odd_name(void)
{
	scratch_write("s/to ken", "x");
}

static void make_newline_name(void)
{
	scratch_write("s/a\nevent=forged", "x");
}

static void make_utf8_name(void)
{
	scratch_write("s/cl\303\251", "x");
}

static void make_writable(void)
{
	scratch_write("s/token", "x");
	assert_int_equal(chmod("s/token", 0646), 0);
}

static void make_fifo(void)
{
	assert_int_equal(mkfifo("s/token", 0600), 0);
}

static void make_socket(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "s/token" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(close(fd), 0);
}

static void make_folder(void)
{
	scratch_mkdir("s/token");
}

static void make_device(void)
{
	scratch_link("/dev/zero", "s/token");
}

static void make_dangling(void)
{
	scratch_link("nowhere", "s/token");
}

static void make_loop(void)
{
	scratch_link("other", "s/token");
	scratch_link("token", "s/other");
}

static void make_dangling_data(void)
{
	scratch_link("..gone", "s/..data");
	scratch_write("s/token", "x");
}

static void make_data_loop(void)
{
	scratch_link("..data", "s/..data");
	scratch_write("s/token", "x");
}

static void make_unreadable(void)
{
	scratch_write("s/token", "x");
	assert_int_equal(chmod("s/token", 0), 0);
}

static void make_unreadable_directory(void)
{
	scratch_write("s/token", "x");
	assert_int_equal(chmod("s", 0), 0);
}

/* The kernel's own files say 4096 bytes and have fewer, like a file that is being cut short. */
static void make_partial(void)
{
	scratch_link("/sys/kernel/uevent_seqnum", "s/token");
}

static const struct {
	const char *what;
	void (*make)(void);
	int r;
	const char *says; /* the secrets, or a part of the sentence */
} rows[] = {
	{ "two", make_two, 0, "a=1;b=2\n;" },
	{ "order", make_unordered, 0, "9=x;B=x;M=x;_=x;a=x;a-b=x;a.b=x;z=x;" },
	{ "NUL bytes", make_nul, 0, "binary=0a0;" },
	{ "hidden", make_hidden, 0, "token=x;" },
	{ "link", make_link, 0, "token=x;" },
	{ "linked directory", make_linked_directory, 0, "token=x;" },
	{ "Kubernetes", make_kubernetes, 0, "token=x;" },
	{ "beside ..data", make_kubernetes_and_more, 0, "token=x;" },
	{ "..data is no link", make_data_directory, 0, "token=x;" },
	{ "nothing", make_nothing, SECRETS_E_REFUSED, "holds no secret" },
	{ "missing", make_missing, SECRETS_E_REFUSED, "No such file" },
	{ "a file", make_a_file, SECRETS_E_REFUSED, "Not a directory" },
	{ "directory loop", make_directory_loop, SECRETS_E_REFUSED, "symbolic links" },
	{ "empty", make_empty, SECRETS_E_UNSETTLED, "changes while being read" },
	{ "too big", make_big, SECRETS_E_REFUSED, "token (larger than 65536 bytes)" },
	{ "too many", make_many, SECRETS_E_REFUSED, "more than 64" },
	{ "blank in a name", make_odd_name, SECRETS_E_REFUSED,
	  "to ken (its name has characters" },
	{ "newline in a name", make_newline_name, SECRETS_E_REFUSED, "characters" },
	{ "UTF-8 in a name", make_utf8_name, SECRETS_E_REFUSED, "characters" },
	{ "writable by all", make_writable, SECRETS_E_REFUSED, "chmod o-w" },
	{ "FIFO", make_fifo, SECRETS_E_REFUSED, "token (no regular file)" },
	{ "socket", make_socket, SECRETS_E_REFUSED, "no regular file" },
	{ "folder", make_folder, SECRETS_E_REFUSED, "token (a directory)" },
	{ "device", make_device, SECRETS_E_REFUSED, "no regular file" },
	{ "dangling", make_dangling, SECRETS_E_REFUSED, "token (No such file" },
	{ "loop", make_loop, SECRETS_E_REFUSED, "symbolic links" },
	{ "dangling ..data", make_dangling_data, SECRETS_E_REFUSED, "s/..data: No such" },
	{ "..data loop", make_data_loop, SECRETS_E_REFUSED, "symbolic links" },
	{ "unreadable", make_unreadable, SECRETS_E_REFUSED,
	  "token (Permission denied for user 65534" },
	{ "unreadable directory", make_unreadable_directory, SECRETS_E_REFUSED,
	  "directory s: Permission denied for user 65534" },
	{ "partial", make_partial, SECRETS_E_UNSETTLED, "changes while being read" },
};

/* Reads as moultd does: without root's right to read everything. */
static int read_unprivileged(struct secrets *ret_secrets, struct err *err)
{
	bool is_root = geteuid() == 0;
	int r;

	if (is_root)
		assert_int_equal(seteuid(NOBODY), 0);
	r = secrets_read(ret_secrets, "s", err);
	if (is_root)
		assert_int_equal(seteuid(0), 0);
	return r;
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct secrets secrets = SECRETS_NULL;
		struct err err = ERR_NULL;
		char text[CONTENT_MAX] = "";
		int r;

		rows[i].make();
		r = read_unprivileged(&secrets, &err);
		if (r == 0)
			read_back(&secrets, text, sizeof(text));
		if (r != rows[i].r || !strstr(r ? err.text : text, rows[i].says))
			fail_msg("%s: %d, \"%s\"", rows[i].what, r, r ? err.text : text);
		if (r)
			assert_int_equal(secrets.fd, -1);
		secrets_fini(&secrets);
		/* Everything is removed, so that no row depends on another. */
		scratch_leave();
		(void)scratch_enter();
		scratch_mkdir("s");
	}
}

/* Files that are skipped, and keep nobody from the others: each of these beside a good one. */
static void test_skipped(void **state)
{
	static const struct {
		void (*make)(void);
		const char *says;
	} odd[] = {
		{ make_big, "token (larger than 65536 bytes)" },
		{ make_odd_name, "to ken (its name has characters other than" },
		{ make_newline_name, "event=forged (its name has characters" },
		{ make_utf8_name, "(its name has characters other than" },
		{ make_writable, "token (can be written by everybody: chmod o-w it)" },
		{ make_fifo, "token (no regular file)" },
		{ make_socket, "token (no regular file)" },
		{ make_folder, "token (a directory)" },
		{ make_device, "token (no regular file)" },
		{ make_dangling, "token (No such file or directory)" },
		{ make_loop, "other (Too many levels of symbolic links)" },
		{ make_unreadable, "token (Permission denied" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		struct secrets secrets = SECRETS_NULL;
		struct err err = ERR_NULL;
		char text[CONTENT_MAX] = "";

		odd[i].make();
		scratch_write("s/good", "x");
		if (read_unprivileged(&secrets, &err) != 0)
			fail_msg("%s: %s", odd[i].says, err.text);
		read_back(&secrets, text, sizeof(text));
		assert_string_equal(text, "good=x;");
		if (!strstr(secrets.skipped.text, odd[i].says))
			fail_msg("%s: '%s'", odd[i].says, secrets.skipped.text);
		assert_true(secrets_has(&secrets, "good"));
		assert_false(secrets_has(&secrets, "token"));
		secrets_fini(&secrets);
		scratch_leave();
		(void)scratch_enter();
		scratch_mkdir("s");
	}
}

/* An empty file counts as being written for a while, then as an empty secret. */
static void test_empty(void **state)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r;

	(void)state;
	make_empty();
	while ((r = secrets_read(&secrets, "s", &err)) == SECRETS_E_UNSETTLED)
		(void)usleep(10000);
	assert_int_equal(r, 0);
	assert_int_equal(secrets.count, 1);
	assert_string_equal(secrets.skipped.text,
	                    "token (empty: write it whole, or remove it)");
	secrets_fini(&secrets);
}

/* Values exactly at the limits are allowed, all at once. */
static void test_limits(void **state)
{
	static char value[SECRETS_FILE_BYTES_MAX];
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	char name[256] = "";
	struct stat st;

	(void)state;
	memset(value, 'v', sizeof(value));
	memset(name, 'n', 253);
	for (int i = 0; i < SECRETS_FILES_MAX; i++)
		scratch_write_bytes(scratch_path("s/%s%02d", name, i), value,
		                    sizeof(value));
	assert_int_equal(secrets_read(&secrets, "s", &err), 0);
	assert_int_equal(secrets.count, SECRETS_FILES_MAX);
	assert_int_equal(fstat(secrets.fd, &st), 0);
	assert_int_equal(st.st_size,
	                 SECRETS_FILES_MAX * proto_secret_bytes(255, sizeof(value)));
	secrets_fini(&secrets);
}

static void test_none(void **state)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	struct stat st;

	(void)state;
	assert_int_equal(secrets_read(&secrets, NULL, &err), 0);
	assert_int_equal(secrets.count, 0);
	assert_string_equal(secrets.digest, "");
	assert_int_equal(fstat(secrets.fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	secrets_fini(&secrets);
	assert_int_equal(secrets.fd, -1);
	secrets_fini(&secrets);
}

/* No holder of the descriptor can change what another one reads, or undo the seals. */
static void test_sealed(void **state)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	char text[CONTENT_MAX];

	(void)state;
	scratch_write("s/token", "x");
	assert_int_equal(secrets_read(&secrets, "s", &err), 0);
	assert_int_equal(pwrite(secrets.fd, "y", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(secrets.fd, 1), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(secrets.fd, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fallocate(secrets.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                           0, 1),
	                 -1);
	assert_int_equal(errno, EPERM);
	assert_ptr_equal(mmap(NULL, 1, PROT_WRITE, MAP_SHARED, secrets.fd, 0),
	                 MAP_FAILED);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(secrets.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_int_equal(errno, EPERM);
	assert_true(fcntl(secrets.fd, F_GETFD) & FD_CLOEXEC);
	read_back(&secrets, text, sizeof(text));
	assert_string_equal(text, "token=x;");
	secrets_fini(&secrets);
}

static void read_digest(char *ret_digest)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;

	assert_int_equal(secrets_read(&secrets, "s", &err), 0);
	(void)snprintf(ret_digest, SECRETS_DIGEST_HEX, "%s", secrets.digest);
	secrets_fini(&secrets);
}

/* The digest stands for names and values, and for nothing else. */
static void test_digest(void **state)
{
	char first[SECRETS_DIGEST_HEX];
	char other[SECRETS_DIGEST_HEX];

	(void)state;
	scratch_write("s/a", "1");
	scratch_write("s/b", "2");
	read_digest(first);
	assert_int_equal(strspn(first, "0123456789abcdef"), SECRETS_DIGEST_HEX - 1);

	scratch_replace("s/a", "1");
	assert_int_equal(chmod("s/b", 0600), 0);
	scratch_write("s/.hidden", "3");
	read_digest(other);
	assert_string_equal(first, other);

	scratch_remove("s");
	scratch_mkdir("s");
	scratch_swap("s", "1", "b", "2");
	scratch_write("s/..1/a", "1");
	read_digest(other);
	assert_string_equal(first, other);

	scratch_write("s/..1/a", "1\n");
	read_digest(other);
	assert_string_not_equal(first, other);

	/* The same bytes under another name: values that change places are a change. */
	scratch_write("s/..1/a", "2");
	scratch_write("s/..1/b", "1");
	read_digest(other);
	assert_string_not_equal(first, other);
}

/* Another process has another key: receipts of two runs say nothing about a value. */
static void test_digest_is_of_this_process(void **state)
{
	char mine[SECRETS_DIGEST_HEX];
	char theirs[SECRETS_DIGEST_HEX] = "";
	FILE *other;

	(void)state;
	scratch_write("s/a", "1");
	read_digest(mine);
	other = popen("/proc/$PPID/exe digest s", "re");
	assert_non_null(other);
	assert_non_null(fgets(theirs, sizeof(theirs), other));
	assert_int_equal(pclose(other), 0);
	assert_int_equal(strlen(theirs), SECRETS_DIGEST_HEX - 1);
	assert_string_not_equal(mine, theirs);
}

/* Rotations while it reads */

static atomic_bool is_over;

static void *swap_forever(void *context)
{
	unsigned int *n = context;

	while (!atomic_load(&is_over)) {
		const unsigned int i = ++*n;
		char stamp[32];
		char old[32];

		(void)snprintf(stamp, sizeof(stamp), "s/..%u", i);
		(void)snprintf(old, sizeof(old), "s/..%u", i - 1);
		scratch_mkdir(stamp);
		for (const char *name = "abcd"; *name; name++) {
			char path[64];
			char value[32];

			(void)snprintf(path, sizeof(path), "%s/%c", stamp, *name);
			(void)snprintf(value, sizeof(value), "%u", i);
			scratch_write(path, value);
		}
		scratch_link(stamp + 2, "s/..data_tmp");
		assert_int_equal(rename("s/..data_tmp", "s/..data"), 0);
		scratch_remove(old);
	}
	return NULL;
}

/* Reads a directory that is being swapped. 1: a whole rotation; 0: none; -1: @ret_text says
 * what is wrong. */
static int read_while_swapped(char *ret_text, size_t size)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	unsigned int v[4];
	int r = secrets_read(&secrets, "s", &err);

	if (r == SECRETS_E_UNSETTLED)
		return 0;
	(void)snprintf(ret_text, size, "%d: %s", r, err.text);
	if (r)
		return -1;
	read_back(&secrets, ret_text, size);
	secrets_fini(&secrets);
	if (strcmp(ret_text, "a=1;") == 0)
		return 0;
	if (sscanf(ret_text, "a=%u;b=%u;c=%u;d=%u;", &v[0], &v[1], &v[2], &v[3]) != 4)
		return -1;
	return v[0] == v[1] && v[0] == v[2] && v[0] == v[3] ? 1 : -1;
}

/* No snapshot mixes two rotations, and a reader never fails for good: at worst it has to try
 * again. */
static void test_swapped_while_reading(void **state)
{
	unsigned int n_swaps = 1;
	unsigned int n_whole = 0;
	char text[CONTENT_MAX];
	pthread_t swapper;
	int r = 0;

	(void)state;
	atomic_store(&is_over, false);
	scratch_mkdir("s/..1");
	scratch_write("s/..1/a", "1");
	scratch_link("..1", "s/..data");
	assert_int_equal(pthread_create(&swapper, NULL, swap_forever, &n_swaps), 0);
	for (int i = 0; i < SWAPPING_READS && r >= 0; i++) {
		r = read_while_swapped(text, sizeof(text));
		n_whole += r > 0;
	}
	/* Nothing is asserted while the other thread runs. */
	atomic_store(&is_over, true);
	assert_int_equal(pthread_join(swapper, NULL), 0);
	if (r < 0)
		fail_msg("%s", text);
	assert_true(n_whole > 0);
	assert_true(n_swaps > 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table, enter, leave),
		cmocka_unit_test_setup_teardown(test_skipped, enter, leave),
		cmocka_unit_test_setup_teardown(test_empty, enter, leave),
		cmocka_unit_test_setup_teardown(test_limits, enter, leave),
		cmocka_unit_test_setup_teardown(test_none, enter, leave),
		cmocka_unit_test_setup_teardown(test_sealed, enter, leave),
		cmocka_unit_test_setup_teardown(test_digest, enter, leave),
		cmocka_unit_test_setup_teardown(test_digest_is_of_this_process, enter,
		                                leave),
		cmocka_unit_test_setup_teardown(test_swapped_while_reading, enter, leave),
	};

	if (argc == 3 && strcmp(argv[1], "digest") == 0) {
		struct secrets secrets = SECRETS_NULL;
		struct err err = ERR_NULL;
		int r = secrets_read(&secrets, argv[2], &err);

		(void)fputs(secrets.digest, stdout);
		secrets_fini(&secrets);
		return r;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
