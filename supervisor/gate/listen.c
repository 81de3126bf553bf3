/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/gate/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/cleanup.h"

/* The kernel cuts it to net.core.somaxconn. */
#define LISTEN_BACKLOG 4096

static int listen_split(const char *address, char *host, size_t size,
                        const char **ret_port)
{
	const char *colon = strrchr(address, ':');
	size_t bytes;

	if (!colon || colon == address || colon[1] == '\0')
		return -EINVAL;
	bytes = (size_t)(colon - address);
	if (address[0] == '[' && colon[-1] == ']') {
		address++;
		bytes -= 2;
	}
	if (bytes >= size)
		return -EINVAL;
	memcpy(host, address, bytes);
	host[bytes] = '\0';
	*ret_port = colon + 1;
	return 0;
}

int listen_open(const char *address, struct err *err)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
	};
	struct addrinfo *info = NULL;
	const char *port = NULL;
	CLOSE_FD int fd = -1;
	char host[128];
	const int one = 1;
	int r;

	r = listen_split(address, host, sizeof(host), &port);
	if (r == 0)
		r = getaddrinfo(strcmp(host, "*") == 0 ? "0.0.0.0" : host, port, &hints,
		                &info);
	if (r)
		return err_set(
			err, -EINVAL,
			"listen: '%s' must be ADDRESS:PORT or [ADDRESS]:PORT with a "
			"numeric address",
			address);
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	r = fd < 0 || bind(fd, info->ai_addr, info->ai_addrlen) < 0 ||
	                    listen(fd, LISTEN_BACKLOG) < 0
	            ? -errno
	            : 0;
	freeaddrinfo(info);
	if (r < 0)
		return err_set(err, r, "cannot listen on %s: %s%s", address, strerror(-r),
		               r == -EADDRINUSE ? "; stop what uses the port, or choose "
		                                  "another one with listen"
		                                : "");
	return take_fd(&fd);
}

const char *listen_describe(int fd, char *text, size_t size)
{
	struct sockaddr_storage address = { 0 };
	struct sockaddr_un local;
	socklen_t bytes = sizeof(address);
	char host[64];
	char port[16];

	(void)snprintf(text, size, "unknown");
	if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
		return text;
	if (address.ss_family == AF_UNIX) {
		memcpy(&local, &address, sizeof(local));
		(void)snprintf(text, size, "%.*s", (int)sizeof(local.sun_path),
		               local.sun_path);
	} else if (getnameinfo((struct sockaddr *)&address, bytes, host, sizeof(host),
	                       port, sizeof(port),
	                       NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
		(void)snprintf(text, size,
		               address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
		               port);
	}
	return text;
}

static bool listen_is_loopback4(in_addr_t address)
{
	return ntohl(address) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
}

bool listen_is_local(int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t bytes = sizeof(address);
	struct sockaddr_in6 six;
	struct sockaddr_in four;
	in_addr_t mapped;

	if (getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
		return false;
	memcpy(&four, &address, sizeof(four));
	memcpy(&six, &address, sizeof(six));
	memcpy(&mapped, six.sin6_addr.s6_addr + 12, sizeof(mapped));
	switch (address.ss_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return listen_is_loopback4(four.sin_addr.s_addr);
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&six.sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&six.sin6_addr) &&
		        listen_is_loopback4(mapped));
	default:
		return false;
	}
}

bool listen_is_unix(int fd)
{
	struct sockaddr_storage address = { 0 };
	socklen_t bytes = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &bytes) == 0 &&
	       address.ss_family == AF_UNIX;
}
