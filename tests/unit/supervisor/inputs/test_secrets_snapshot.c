/* SPDX-License-Identifier: Apache-2.0 */

/* What has been read is a snapshot: whole, of one rotation, in memory that nobody can change, and
 * with a digest of its own. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/proto.h"
#include "tests/unit/scratch.h"
#include "tests/unit/supervisor/inputs/secrets_bench.h"

#define SWAPPING_READS 3000

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
	char text[SECRETS_BENCH_TEXT_MAX];

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
	secrets_bench_text(&secrets, text, sizeof(text));
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
	secrets_bench_text(&secrets, ret_text, size);
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
	char text[SECRETS_BENCH_TEXT_MAX];
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

/* Another process for test_digest_is_of_this_process(). */
static int print_digest(const char *directory)
{
	struct secrets secrets = SECRETS_NULL;
	struct err err = ERR_NULL;
	int r = secrets_read(&secrets, directory, &err);

	(void)fputs(secrets.digest, stdout);
	secrets_fini(&secrets);
	return r;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SECRETS_BENCH_TEST(test_limits),
		SECRETS_BENCH_TEST(test_none),
		SECRETS_BENCH_TEST(test_sealed),
		SECRETS_BENCH_TEST(test_digest),
		SECRETS_BENCH_TEST(test_digest_is_of_this_process),
		SECRETS_BENCH_TEST(test_swapped_while_reading),
	};

	if (argc == 3 && strcmp(argv[1], "digest") == 0)
		return print_digest(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
