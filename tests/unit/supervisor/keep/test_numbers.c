/* SPDX-License-Identifier: Apache-2.0 */

/* Generation numbers only grow, however a run has ended. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/keep/numbers.h"

static char directory[] = "/tmp/moult-numbers-XXXXXX";
static char file[sizeof(directory) + 16];

static int make_directory(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(file, sizeof(file), "%s/generation", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	(void)unlink(file);
	return rmdir(directory);
}

static void test_runs(void **state)
{
	struct numbers numbers;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(numbers_init(&numbers, directory, 0, &err), 0);
	assert_int_equal(numbers_next(&numbers), 1);
	assert_int_equal(numbers_next(&numbers), 2);
	numbers_fini(&numbers);
	assert_int_equal(numbers_init(&numbers, directory, 0, &err), 0);
	assert_int_equal(numbers_next(&numbers), 3);
	numbers_fini(&numbers);
	assert_int_equal(numbers_init(&numbers, directory, 999, &err), 0);
	assert_int_equal(numbers_next(&numbers), 1000);
	numbers_fini(&numbers);
	assert_int_equal(numbers_init(&numbers, directory, 7, &err), 0);
	assert_int_equal(numbers_next(&numbers), 1001);
	numbers_fini(&numbers);
}

static void test_what_is_no_number(void **state)
{
	static const char *const texts[] = { "", "x", "-5", "99999999999999999999999" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct numbers numbers;
		struct err err = ERR_NULL;
		int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		assert_true(fd >= 0);
		assert_true(write(fd, texts[i], strlen(texts[i])) >= 0);
		(void)close(fd);
		assert_int_equal(numbers_init(&numbers, directory, 41, &err), 0);
		assert_int_equal(numbers_next(&numbers), 42);
		numbers_fini(&numbers);
	}
}

static void test_one_at_a_time(void **state)
{
	struct numbers first;
	struct numbers second;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(numbers_init(&first, directory, 0, &err), 0);
	assert_int_equal(numbers_init(&second, directory, 0, &err), -EBUSY);
	assert_non_null(strstr(err.text, "another moultd"));
	numbers_fini(&first);
	assert_int_equal(numbers_init(&second, directory, 0, &err), 0);
	numbers_fini(&second);
}

static void test_no_directory(void **state)
{
	struct numbers numbers;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(numbers_init(&numbers, "/dev/null", 0, &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "/dev/null"));
	/* A run goes on without the file. */
	assert_int_equal(numbers_init(&numbers, "/nonexistent", 5, &err), 0);
	assert_int_equal(numbers_next(&numbers), 6);
	numbers_fini(&numbers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_what_is_no_number),
		cmocka_unit_test(test_one_at_a_time),
		cmocka_unit_test(test_no_directory),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
