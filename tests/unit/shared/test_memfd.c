/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that is handed over, and what is mapped of it. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/memfd.h"

static void test_constant(void **state)
{
	static const char text[] = "some text";
	int fd = memfd_create_constant("test", text, sizeof(text));
	struct memfd map = MEMFD_NULL;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(memfd_map(&map, fd, false), 0);
	assert_int_equal(map.size_bytes, sizeof(text));
	assert_memory_equal(map.base, text, sizeof(text));
	memfd_fini(&map);
	assert_int_equal(map.fd, -1);
}

/* A model without secrets has an empty one, and every reader goes from its base to its end. */
static void test_an_empty_one_has_a_place(void **state)
{
	int fd = memfd_create_constant("test", "", 0);
	struct memfd map = MEMFD_NULL;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(memfd_map(&map, fd, false), 0);
	assert_int_equal(map.size_bytes, 0);
	assert_non_null(map.base);
	memfd_fini(&map);
	memfd_fini(&map);
	assert_int_equal(map.fd, -1);
}

static void test_one_that_can_shrink_is_refused(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct memfd map = MEMFD_NULL;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(memfd_map(&map, fd, false), -EPERM);
	assert_int_equal(map.fd, -1);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_an_empty_one_has_a_place),
		cmocka_unit_test(test_one_that_can_shrink_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
