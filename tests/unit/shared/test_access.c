/* SPDX-License-Identifier: Apache-2.0 */

/* Sentences for users without rights: who may not do what, and a remedy. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

#include "shared/access.h"

#define NOBODY 65534

static const struct {
	const char *name;
	const char *path;
	int want;
	const char *closed; /* loses all rights; NULL: none */
	const char *culprit;
	const char *rights;
} rows[] = {
	{ "a file", "d/f", R_OK, "d/f", "d/f", "g+r it" },
	{ "to be written", "d/f", R_OK | W_OK, "d/f", "d/f", "g+rw it" },
	{ "its directory", "d/f", R_OK, "d", "d", "g+x it" },
	{ "a directory", "d", R_OK | X_OK, "d", "d", "g+rx it" },
	{ "what is to be made", "d/new", W_OK, NULL, "d", "g+wx it" },
	{ "program", "d/f", X_OK, NULL, "d/f", "g+x it" },
};

static void test_rows(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can look at its files as another user */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err storage;
		char want[512];

		assert_int_equal(chmod(scratch_enter(), 0755), 0);
		scratch_mkdir("d");
		scratch_write("d/f", "x");
		assert_int_equal(chmod("d", 0755), 0);
		assert_int_equal(chmod("d/f", 0644), 0);
		if (rows[i].closed)
			assert_int_equal(chmod(rows[i].closed, 0), 0);
		assert_int_equal(setresuid(NOBODY, NOBODY, 0), 0);
		(void)access_why(&storage, scratch_path("%s", rows[i].path), rows[i].want,
		                 EACCES);
		assert_int_equal(setresuid(0, 0, 0), 0);
		(void)snprintf(want, sizeof(want),
		               "/%s belongs to user 0 (root), group 0, with mode 0",
		               rows[i].culprit);
		if (!strstr(storage.text, "Permission denied for user 65534 (nobody)") ||
		    !strstr(storage.text, want) || !strstr(storage.text, rows[i].rights))
			fail_msg("%s: %s", rows[i].name, storage.text);
		scratch_leave();
	}
}

static void test_others(void **state)
{
	struct err storage;

	(void)state;
	(void)scratch_enter();
	scratch_write("f", "x");
	assert_string_equal(access_why(&storage, "/nowhere", R_OK, ENOENT),
	                    strerror(ENOENT));
	assert_non_null(strstr(access_why(&storage, scratch_path("f"), R_OK, EACCES),
	                       "AppArmor"));
	assert_non_null(strstr(access_why(&storage, "relative", R_OK, EACCES),
	                       "AppArmor"));
	assert_non_null(strstr(access_why(&storage, "/x", W_OK, EROFS),
	                       "ReadWritePaths="));
	assert_string_equal(access_user(&storage, 0), "0 (root)");
	assert_string_equal(access_user(&storage, 4294967290u), "4294967290");
	scratch_leave();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
