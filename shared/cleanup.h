/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Scope-owned things: CLOSE_FD int fd = -1; FREE char *text = NULL; are given back when
 * the scope ends. take_fd() and take_ptr() hand ownership on. errno stays as it was.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CLOSE_FD __attribute__((cleanup(cleanup_close)))
#define FREE     __attribute__((cleanup(cleanup_free)))

static inline void cleanup_close(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd);
	errno = saved;
}

static inline void cleanup_free(void *ptr_to_ptr)
{
	void **ptr = ptr_to_ptr;

	free(*ptr);
}

/* Closes *fd when it is open and leaves -1 there. */
static inline void close_fd(int *fd)
{
	cleanup_close(fd);
	*fd = -1;
}

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *take_ptr(void *ptr_to_ptr)
{
	void **ptr = ptr_to_ptr;
	void *taken = *ptr;

	*ptr = NULL;
	return taken;
}
