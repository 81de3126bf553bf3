/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/server_folder.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* A folder that was made, and whose loader is gone. */
static void make_left(char path[SERVER_FOLDER_MAX])
{
	char secrets[SERVER_FOLDER_MAX + 32];
	int fd = -1;

	assert_int_equal(server_folder_make(SERVER_FOLDER_SECRET, path, &fd), 0);
	(void)snprintf(secrets, sizeof(secrets), "%s/secrets", path);
	assert_int_equal(mkdir(secrets, 0700), 0);
	(void)strcat(secrets, "/key");
	assert_return_code(close(open(secrets, O_WRONLY | O_CREAT, 0400)), 0);
	assert_int_equal(close(fd), 0);
}

static void test_sweep_takes_what_is_left(void **state)
{
	char path[SERVER_FOLDER_MAX];

	(void)state;
	make_left(path);
	server_folder_sweep(SIZE_MAX);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_sweep_spares_what_is_held(void **state)
{
	char path[SERVER_FOLDER_MAX];
	int fd = -1;

	(void)state;
	assert_int_equal(server_folder_make(SERVER_FOLDER_SECRET, path, &fd), 0);
	server_folder_sweep(SIZE_MAX);
	assert_int_equal(access(path, F_OK), 0);
	server_folder_remove(path);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(close(fd), 0);
}

static void unmark(const char *path)
{
	char file[SERVER_FOLDER_MAX + 32];

	(void)snprintf(file, sizeof(file), "%s/.moult-server-folder", path);
	assert_int_equal(unlink(file), 0);
}

static void widen(const char *path)
{
	assert_int_equal(chmod(path, 0755), 0);
}

static void nothing(const char *path)
{
	(void)path;
}

/* Folders that differ in one thing are somebody else's. */
static void test_sweep_spares_what_is_not_moults(void **state)
{
	static const struct {
		const char *tail; /* of the name */
		void (*alter)(const char *path);
	} rows[] = {
		{ "", unmark },   { "", widen },    { "-backup", nothing },
		{ "7", nothing }, { "-", nothing },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char made[SERVER_FOLDER_MAX];
		char path[SERVER_FOLDER_MAX + 16];
		char key[SERVER_FOLDER_MAX + 32];

		make_left(made);
		(void)snprintf(path, sizeof(path), "%s%s", made, rows[i].tail);
		assert_int_equal(rename(made, path), 0);
		rows[i].alter(path);
		(void)snprintf(key, sizeof(key), "%s/secrets/key", path);
		server_folder_sweep(SIZE_MAX);
		assert_int_equal(access(key, F_OK), 0);
		server_folder_remove(path);
		assert_int_equal(access(path, F_OK), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sweep_takes_what_is_left),
		cmocka_unit_test(test_sweep_spares_what_is_held),
		cmocka_unit_test(test_sweep_spares_what_is_not_moults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
