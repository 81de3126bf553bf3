/* SPDX-License-Identifier: Apache-2.0 */
#include "loader/serve/children.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/cleanup.h"

/* Counts the children, dead ones too. 0 where the kernel has no CONFIG_PROC_CHILDREN. */
static size_t children_count(void)
{
	CLOSE_FD int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	char text[4096];
	size_t n = 0;
	ssize_t got;

	while (fd >= 0 && (got = read(fd, text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			n += text[i] == ' ';
	return n;
}

void children_reap(void)
{
	for (size_t n = children_count(); n > CHILDREN_KEPT; n--) {
		siginfo_t info = { .si_pid = 0 };

		/* Linux looks through the children from the oldest on. */
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WNOTHREAD) < 0 ||
		    info.si_pid == 0)
			break;
	}
}
