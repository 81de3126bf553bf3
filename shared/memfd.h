/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Anonymous shared memory with seals: the only kind that moult shares between processes.
 * There are no names, so nothing is left behind by SIGKILL.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

/* One mapping of one memfd. Owns both. */
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

/* Creates, sizes, maps read-write, then seals: size is fixed for ever, and with
 * MEMFD_PEER_READS only this mapping can ever write. Pages are allocated on touch and are
 * left out of core dumps. Returns 0 or -errno. */
int memfd_create_sealed(struct memfd *ret_memfd, const char *name, size_t size_bytes,
                        enum memfd_peer peer);

/* Creates a memfd that holds @size_bytes of @data and that nobody can change any more.
 * Returns the fd (the caller owns it) or -errno. */
int memfd_create_constant(const char *name, const void *data, size_t size_bytes);

/* Maps a memfd that was received, after checking that its size is sealed, so that the
 * sender cannot make a read fault. Consumes @fd on success only. -EPERM: not sealed. */
int memfd_map(struct memfd *ret_memfd, int fd, bool is_writable);

void memfd_fini(struct memfd *memfd);
