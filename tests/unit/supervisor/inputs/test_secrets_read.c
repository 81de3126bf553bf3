/* SPDX-License-Identifier: Apache-2.0 */

/* What a directory of secrets may hold, and what becomes of each thing in it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "tests/unit/supervisor/inputs/secrets_bench.h"

#define NOBODY 65534

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
		char text[SECRETS_BENCH_TEXT_MAX] = "";
		int r;

		rows[i].make();
		r = read_unprivileged(&secrets, &err);
		if (r == 0)
			secrets_bench_text(&secrets, text, sizeof(text));
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
		char text[SECRETS_BENCH_TEXT_MAX] = "";

		odd[i].make();
		scratch_write("s/good", "x");
		if (read_unprivileged(&secrets, &err) != 0)
			fail_msg("%s: %s", odd[i].says, err.text);
		secrets_bench_text(&secrets, text, sizeof(text));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		SECRETS_BENCH_TEST(test_table),
		SECRETS_BENCH_TEST(test_skipped),
		SECRETS_BENCH_TEST(test_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
