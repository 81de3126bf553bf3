/* SPDX-License-Identifier: Apache-2.0 */

/* Memory that is handed over, and what is mapped of it. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

static size_t resident_bytes(const struct memfd *memfd)
{
	struct stat st;

	assert_int_equal(fstat(memfd->fd, &st), 0);
	return (size_t)st.st_blocks * 512;
}

static void test_what_is_given_back(void **state)
{
	const size_t bytes = (size_t)1 << 20;
	const size_t part = bytes / 4;
	struct memfd memfd = MEMFD_NULL;
	unsigned char *memory;

	(void)state;
	assert_int_equal(memfd_create_sealed(&memfd, "test", bytes, MEMFD_PEER_WRITES),
	                 0);
	memory = memfd.base;
	memset(memory, 'x', bytes);
	assert_true(resident_bytes(&memfd) >= bytes);
	assert_int_equal(memfd_punch(&memfd, part, bytes - part), 0);
	assert_int_equal(resident_bytes(&memfd), part);
	assert_int_equal(memory[part - 1], 'x');
	assert_int_equal(memory[part], 0);
	memfd_fini(&memfd);
	/* A hole would be a change, and there are to be none from outside. */
	assert_int_equal(memfd_create_sealed(&memfd, "test", bytes, MEMFD_PEER_READS), 0);
	memset(memfd.base, 'x', bytes);
	assert_int_equal(memfd_punch(&memfd, 0, bytes), -EPERM);
	assert_true(resident_bytes(&memfd) >= bytes);
	memfd_fini(&memfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constant),
		cmocka_unit_test(test_an_empty_one_has_a_place),
		cmocka_unit_test(test_one_that_can_shrink_is_refused),
		cmocka_unit_test(test_what_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
