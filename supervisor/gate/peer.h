/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whom a connection is of, where proxy_protocol is on: who has connected, or whom a proxy names
 * in the head of the PROXY protocol, before the first byte of HTTP or TLS. A proxy is believed if
 * trusted_proxies has its address, and then it has to send a head; who connects over a unix socket
 * is believed, because the rights of the socket say who that is. Of anybody else a head is taken
 * for what it is not, a request.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "supervisor/config/config.h"
#include "supervisor/gate/clients.h"
#include "supervisor/wire/proxy.h"

enum peer_state {
	PEER_KNOWN,   /* what comes next is the client's */
	PEER_AWAITED, /* a head has to come */
	PEER_REFUSED
};

struct peer {
	enum peer_state state;
	const char *why; /* REFUSED: a sentence */
	struct proxy proxy;
};

/* One end of a connection. */
struct peer_end {
	int fd;
	const struct peer *peer; /* NULL: proxy_protocol is off */
};

/* Whoever has connected over @fd, by @config. NULL in *ret_peer: proxy_protocol is off. 0 or
 * -ENOMEM. */
int peer_new(struct peer **ret_peer, const struct config *config, int fd);
void peer_free(struct peer *peer); /* accepts NULL */

/* @peer may be NULL in what follows. */

/* Whether the client is not known (yet): the head is awaited, or was refused. */
bool peer_is_unknown(const struct peer *peer);
/* Reads the head, and nothing behind it. 1: the state is another one; 0: the other side has
 * ended; -errno: -EAGAIN where more is to come. */
int peer_read(struct peer *peer, int fd);
/* Refuses a connection whose client was named, for the reason @why. */
void peer_refuse(struct peer *peer, const char *why);
/* Whether a proxy has connected on behalf of somebody else. */
bool peer_is_named(const struct peer *peer);
/* Bytes that came before the client's. */
size_t peer_bytes(const struct peer *peer);
/* The address of the client, with its port; false: it has none of IP. */
bool peer_address(struct peer_end end, struct sockaddr_storage *ret_address);
/* The same, as limits are counted by. */
bool peer_client(struct peer_end end, struct client_address *ret_address);

/* Logs that it was refused; *said_ns keeps that to once a minute, as anybody can be. */
void peer_log(struct peer_end end, uint64_t *said_ns);
