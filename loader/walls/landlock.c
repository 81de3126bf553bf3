/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A right that the kernel does not know yet is neither denied nor allowed: landlock_known() takes
 * it out. Numbers stand here and not in <linux/landlock.h>, because Debian 12 has the headers of
 * version 2 and may run under a later kernel.
 */
#include "loader/walls/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loader/walls/threads.h"
#include "shared/cleanup.h"

#define ACCESS_EXECUTE     (UINT64_C(1) << 0)
#define ACCESS_WRITE_FILE  (UINT64_C(1) << 1)
#define ACCESS_READ_FILE   (UINT64_C(1) << 2)
#define ACCESS_READ_DIR    (UINT64_C(1) << 3)
#define ACCESS_REMOVE_DIR  (UINT64_C(1) << 4)
#define ACCESS_REMOVE_FILE (UINT64_C(1) << 5)
#define ACCESS_MAKE_DIR    (UINT64_C(1) << 7)
#define ACCESS_MAKE_REG    (UINT64_C(1) << 8)
#define ACCESS_MAKE_SOCK   (UINT64_C(1) << 9)
#define ACCESS_MAKE_FIFO   (UINT64_C(1) << 10)
#define ACCESS_MAKE_SYM    (UINT64_C(1) << 12)
#define ACCESS_ALL_1       ((UINT64_C(1) << 13) - 1)
#define ACCESS_REFER       (UINT64_C(1) << 13) /* since version 2 */
#define ACCESS_TRUNCATE    (UINT64_C(1) << 14) /* 3 */
#define ACCESS_IOCTL_DEV   (UINT64_C(1) << 15) /* 5 */
/* Of a file that is no directory. */
#define ACCESS_OF_FILES                                                                  \
	(ACCESS_EXECUTE | ACCESS_WRITE_FILE | ACCESS_READ_FILE | ACCESS_TRUNCATE |       \
	 ACCESS_IOCTL_DEV)

#define NET_BIND    (UINT64_C(1) << 0) /* 4 */
#define NET_CONNECT (UINT64_C(1) << 1)
#define SCOPE_ALL   UINT64_C(3) /* abstract sockets and signals: 6 */

#define RULE_PATH_BENEATH 1
#define RULE_NET_PORT     2

/* The kernel's; an older one knows a shorter struct. */
struct landlock_attr {
	uint64_t files;
	uint64_t net;
	uint64_t scoped;
};

struct landlock_path_rule {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

struct landlock_port_rule {
	uint64_t access;
	uint64_t port;
};

/* Rules */

static uint64_t landlock_known(int version)
{
	uint64_t access = ACCESS_ALL_1;

	if (version >= 2)
		access |= ACCESS_REFER;
	if (version >= 3)
		access |= ACCESS_TRUNCATE;
	if (version >= 5)
		access |= ACCESS_IOCTL_DEV;
	return access;
}

int landlock_begin(int version, bool has_tcp)
{
	const struct landlock_attr attr = {
		.files = landlock_known(version),
		.net = has_tcp ? NET_BIND | NET_CONNECT : 0,
		.scoped = SCOPE_ALL,
	};
	size_t bytes = version < 4 ? 8 : version < 6 ? 16 : sizeof(attr);
	long fd = syscall(SYS_landlock_create_ruleset, &attr, bytes, 0U);

	return fd < 0 ? -errno : (int)fd;
}

static uint64_t landlock_access(unsigned int rights)
{
	uint64_t access = 0;

	if (rights & LANDLOCK_READ)
		access |= ACCESS_READ_FILE | ACCESS_READ_DIR;
	if (rights & LANDLOCK_LIST)
		access |= ACCESS_READ_DIR;
	if (rights & LANDLOCK_RMDIR)
		access |= ACCESS_REMOVE_DIR;
	if (rights & LANDLOCK_EXECUTE)
		access |= ACCESS_EXECUTE;
	if (rights & (LANDLOCK_WRITE | LANDLOCK_CREATE))
		access |= ACCESS_READ_FILE | ACCESS_WRITE_FILE | ACCESS_TRUNCATE |
		          ACCESS_IOCTL_DEV;
	if (rights & LANDLOCK_CREATE)
		access |= ACCESS_REMOVE_DIR | ACCESS_REMOVE_FILE | ACCESS_MAKE_DIR |
		          ACCESS_MAKE_REG | ACCESS_MAKE_SOCK | ACCESS_MAKE_FIFO |
		          ACCESS_MAKE_SYM | ACCESS_REFER;
	return access;
}

int landlock_allow(int rules, int version, const char *path, unsigned int rights)
{
	CLOSE_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_rule rule = {
		.access = landlock_access(rights) & landlock_known(version),
		.fd = fd,
	};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.access &= ACCESS_OF_FILES;
	if (syscall(SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, &rule, 0U) < 0)
		return -errno;
	return 0;
}

int landlock_allow_port(int rules, unsigned int port)
{
	const struct landlock_port_rule rule = {
		.access = NET_BIND | NET_CONNECT,
		.port = port,
	};

	if (syscall(SYS_landlock_add_rule, rules, RULE_NET_PORT, &rule, 0U) < 0)
		return -errno;
	return 0;
}

static int landlock_restrict(const void *rules)
{
	return syscall(SYS_landlock_restrict_self, *(const int *)rules, 0U) < 0 ? errno
	                                                                        : 0;
}

int landlock_enforce(int rules)
{
	return threads_run(landlock_restrict, &rules);
}
