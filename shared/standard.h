/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <fcntl.h>
#include <unistd.h>

/* Opens /dev/null (read-only) on each standard descriptor that is closed. Without that the next
 * files to be opened would get the numbers 0 to 2, and lines for people would be written
 * into them. */
static inline void standard_fds_take(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}
