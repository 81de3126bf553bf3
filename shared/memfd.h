/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Anonymous shared memory with seals (memfd_create(2)): the only kind that moult shares between
 * processes. The memory has no name, so SIGKILL leaves nothing behind.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

/* A memfd and its mapping; both are owned. */
struct memfd {
	int fd;
	void *base;
	size_t size_bytes;
};

#define MEMFD_NULL                                                                       \
	{                                                                                \
		.fd = -1                                                                 \
	}

enum memfd_peer {
	MEMFD_PEER_READS,  /* the peer can map it read-only and nothing else */
	MEMFD_PEER_WRITES, /* the peer may write: treat the content as hostile */
};

/* Creates, sizes, maps read-write, then seals: the size is fixed for ever, and with
 * MEMFD_PEER_READS only this mapping can ever write. Pages are allocated on touch and stay
 * out of core dumps. Returns 0 or -errno. */
int memfd_create_sealed(struct memfd *ret_memfd, const char *name, size_t size_bytes,
                        enum memfd_peer peer);

/* Creates a memfd that holds @size_bytes of @data and that nobody can change any more.
 * Returns the fd (the caller owns it) or -errno. */
int memfd_create_constant(const char *name, const void *data, size_t size_bytes);

/* Maps a received memfd after checking that its size is sealed: a sender that could shrink it
 * could make a read fault (SIGBUS). The base is no null pointer, also of an empty one. Consumes
 * @fd on success only. 0 or -errno; -EPERM: the size is not sealed. */
int memfd_map(struct memfd *ret_memfd, int fd, bool is_writable);

/* Gives the pages of @bytes at @offset back to the kernel: they read as zeros, in every process.
 * Of one that is sealed against writers (MEMFD_PEER_READS) the kernel takes none. 0 or -errno. */
int memfd_punch(const struct memfd *memfd, size_t offset, size_t bytes);

void memfd_fini(struct memfd *memfd);
