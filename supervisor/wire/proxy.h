/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The head of the PROXY protocol, which a proxy writes before the first byte of its client's:
 * version 1, a line of text, or version 2, binary. The reader is strict, and sees bytes in any
 * pieces. Pure: no connection, no system call, no allocation.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

/* Of version 1 with its end of line, and what is kept of version 2. */
#define PROXY_BYTES_MAX 107

enum proxy_state {
	PROXY_MORE, /* of the head is to come */
	PROXY_DONE,
	PROXY_BAD
};

union proxy_address {
	struct sockaddr any; /* AF_UNSPEC: the proxy says none */
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

struct proxy {
	enum proxy_state state;
	unsigned char data[PROXY_BYTES_MAX]; /* private, as is the next */
	size_t bytes;                        /* that have come, kept or not */
	const char *fault; /* BAD: what is wrong, a part of a sentence */
	bool is_own; /* DONE: the proxy asks for itself (LOCAL), to see whether all is well */
	union proxy_address client; /* DONE */
};

/* Reads @data on. Returns how many of @bytes belong to the head: all of them, unless it is over. */
size_t proxy_read(struct proxy *proxy, const void *data, size_t bytes);
