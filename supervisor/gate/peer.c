/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The head is looked at in the socket before it is taken out of it, so that no byte behind it has to
 * be kept.
 */
#include "supervisor/gate/peer.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/clock.h"
#include "shared/log.h"

#define PEER_LOOK_BYTES 256
#define PEER_SAY_NS     (60 * CLOCK_NS_PER_SEC)

#define PEER_STRANGER                                                                    \
	"proxy_protocol = required, and trusted_proxies in moult.conf has not this "     \
	"address"

/* Who has connected. False: the kernel does not say, or it has no address of IP. */
static bool peer_connected(int fd, struct sockaddr_storage *ret_address)
{
	socklen_t bytes = sizeof(*ret_address);

	*ret_address = (struct sockaddr_storage){ .ss_family = AF_UNSPEC };
	return getpeername(fd, (struct sockaddr *)ret_address, &bytes) == 0 &&
	       (ret_address->ss_family == AF_INET || ret_address->ss_family == AF_INET6);
}

static bool peer_is_trusted(const struct config *config, int fd)
{
	struct sockaddr_storage from;
	struct client_address address;

	if (peer_connected(fd, &from))
		return client_address_of(&address, &from) &&
		       client_is_listed(&address, config->trusted_proxies);
	return from.ss_family == AF_UNIX;
}

int peer_new(struct peer **ret_peer, const struct config *config, int fd)
{
	struct peer *peer;

	*ret_peer = NULL;
	if (config->proxy_protocol == CONFIG_PROXY_NO)
		return 0;
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	if (peer_is_trusted(config, fd))
		peer->state = PEER_AWAITED;
	else if (config->proxy_protocol == CONFIG_PROXY_REQUIRED)
		peer_refuse(peer, PEER_STRANGER);
	*ret_peer = peer;
	return 0;
}

void peer_free(struct peer *peer)
{
	free(peer);
}

bool peer_is_unknown(const struct peer *peer)
{
	return peer && peer->state != PEER_KNOWN;
}

/* Looks at what has come, and takes out what is the head's. Returns how many bytes that was, or as
 * recv(2) does. */
static ssize_t peer_take(struct peer *peer, int fd)
{
	char data[PEER_LOOK_BYTES];
	ssize_t n = recvfrom(fd, data, sizeof(data), MSG_PEEK, NULL, NULL);

	if (n <= 0)
		return n;
	n = (ssize_t)proxy_read(&peer->proxy, data, (size_t)n);
	return peer->proxy.state == PROXY_BAD
	               ? 1
	               : recvfrom(fd, data, (size_t)n, 0, NULL, NULL);
}

int peer_read(struct peer *peer, int fd)
{
	struct proxy *proxy = &peer->proxy;
	ssize_t n = 1;

	while (peer->state == PEER_AWAITED && proxy->state == PROXY_MORE && n > 0)
		n = peer_take(peer, fd);
	if (n < 0)
		return -errno;
	if (n == 0)
		return 0;
	if (peer->state != PEER_AWAITED)
		return 1;
	if (proxy->state == PROXY_DONE)
		peer->state = PEER_KNOWN;
	else
		peer_refuse(peer, proxy->fault);
	return 1;
}

void peer_refuse(struct peer *peer, const char *why)
{
	peer->state = PEER_REFUSED;
	peer->why = why;
}

bool peer_is_named(const struct peer *peer)
{
	return peer && peer->proxy.state == PROXY_DONE && !peer->proxy.is_own;
}

size_t peer_bytes(const struct peer *peer)
{
	return peer ? peer->proxy.bytes : 0;
}

bool peer_address(struct peer_end end, struct sockaddr_storage *ret_address)
{
	const union proxy_address *client = end.peer ? &end.peer->proxy.client : NULL;

	if (!client || client->any.sa_family == AF_UNSPEC)
		return peer_connected(end.fd, ret_address);
	*ret_address = (struct sockaddr_storage){ .ss_family = AF_UNSPEC };
	memcpy(ret_address, client, sizeof(*client));
	return true;
}

bool peer_client(struct peer_end end, struct client_address *ret_address)
{
	struct sockaddr_storage from;

	return peer_address(end, &from) && client_address_of(ret_address, &from);
}

void peer_log(struct peer_end end, uint64_t *said_ns)
{
	uint64_t now_ns = clock_now_ns();
	struct sockaddr_storage from;
	char host[64] = "-";

	if (*said_ns && now_ns < *said_ns + PEER_SAY_NS)
		return;
	*said_ns = now_ns;
	if (peer_address(end, &from))
		(void)getnameinfo((struct sockaddr *)&from, sizeof(from), host,
		                  sizeof(host), NULL, 0, NI_NUMERICHOST);
	log_event(LOG_LEVEL_WARNING, "proxy_refused",
	          "client=%s reason=%s action=\"closed, as others like it will be\"",
	          host, LOG_QUOTED(end.peer->why));
}
