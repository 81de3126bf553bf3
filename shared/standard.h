/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <fcntl.h>
#include <unistd.h>

/* Whoever starts us with standard descriptors closed would have what is opened next take
 * their numbers, and be written over by what is meant for people. Writing to these fails. */
static inline void standard_fds_take(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}
