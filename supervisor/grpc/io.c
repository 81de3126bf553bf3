/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connection's bytes. What the socket has no room for is kept, and nothing more is asked of
 * libnghttp2 until it is gone: a bounded piece of memory for a client that does not read.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/cleanup.h"
#include "supervisor/gate/tls.h"
#include "supervisor/grpc/conn.h"

/* RFC 7301 */
#define GRPC_ALPN "h2"

static int grpc_io_secure(struct grpc_io *io, struct tls *tls)
{
	if (gnutls_init(&io->session, GNUTLS_SERVER | GNUTLS_NONBLOCK) < 0) {
		io->session = NULL;
		return -ENOMEM;
	}
	gnutls_transport_set_int(io->session, io->fd);
	if (gnutls_priority_set_direct(io->session, TLS_PRIORITIES, NULL) < 0)
		return -EINVAL;
	io->pair = tls_begin(tls, io->session, GRPC_ALPN);
	return io->pair ? 0 : -ENOMEM;
}

int grpc_io_init(struct grpc_io *io, int fd, struct peer *peer, struct tls *tls)
{
	const int one = 1;
	int r;

	*io = (struct grpc_io){ .fd = fd, .peer = peer };
	/* Frames are gathered here, so that waiting for more gains nothing. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	r = tls ? grpc_io_secure(io, tls) : 0;
	if (r < 0)
		grpc_io_fini(io, tls);
	return r;
}

void grpc_io_fini(struct grpc_io *io, struct tls *tls)
{
	if (io->session && io->has_shaken)
		(void)gnutls_bye(io->session, GNUTLS_SHUT_WR);
	if (io->session)
		gnutls_deinit(io->session);
	if (io->pair)
		tls_end(tls, io->pair, io->has_shaken);
	free(io->rest);
	peer_free(io->peer);
	close_fd(&io->fd);
	*io = (struct grpc_io){ .fd = -1 };
}

static int grpc_io_error(ssize_t code)
{
	return code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EIO;
}

/* Goes on with the handshake. 0, -EAGAIN or another -errno. */
static int grpc_io_shake(struct grpc_io *io)
{
	gnutls_datum_t protocol = { NULL, 0 };
	int r;

	if (io->has_shaken)
		return 0;
	r = gnutls_handshake(io->session);
	if (r < 0)
		return gnutls_error_is_fatal(r) ? -EIO : -EAGAIN;
	io->has_shaken = true;
	if (gnutls_alpn_get_selected_protocol(io->session, &protocol) == 0 &&
	    protocol.size == strlen(GRPC_ALPN) &&
	    memcmp(protocol.data, GRPC_ALPN, protocol.size) == 0)
		return 0;
	(void)gnutls_alert_send(io->session, GNUTLS_AL_FATAL,
	                        GNUTLS_A_NO_APPLICATION_PROTOCOL);
	return -EPROTO;
}

struct peer_end grpc_io_end(const struct grpc_io *io)
{
	return (struct peer_end){ .fd = io->fd, .peer = io->peer };
}

int grpc_io_read_peer(struct grpc_io *io)
{
	int r = peer_is_unknown(io->peer) ? peer_read(io->peer, io->fd) : 1;

	return r == 0 ? -EPIPE : r < 0 ? r : 0;
}

ssize_t grpc_io_read(struct grpc_io *io, void *data, size_t size)
{
	ssize_t n;
	int r;

	if (!io->session) {
		n = recvfrom(io->fd, data, size, 0, NULL, NULL);
		return n < 0 ? -errno : n;
	}
	r = grpc_io_shake(io);
	if (r < 0)
		return r;
	n = gnutls_record_recv(io->session, data, size);
	if (n >= 0)
		return n;
	return n == GNUTLS_E_PREMATURE_TERMINATION ? 0 : grpc_io_error(n);
}

bool grpc_io_has_input(const struct grpc_io *io)
{
	return io->session && gnutls_record_check_pending(io->session) > 0;
}

/* Sends some of @data. Bytes or -errno. */
static ssize_t grpc_io_send(struct grpc_io *io, const void *data, size_t bytes)
{
	ssize_t n;

	if (!io->session) {
		n = send(io->fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
		return n < 0 ? -errno : n;
	}
	if (!io->has_shaken)
		return -EAGAIN;
	/* GnuTLS has kept the record that the socket had no room for. */
	n = io->has_record ? gnutls_record_send(io->session, NULL, 0)
	                   : gnutls_record_send(io->session, data, bytes);
	io->has_record = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED;
	return n >= 0 ? n : grpc_io_error(n);
}

int grpc_io_flush(struct grpc_io *io)
{
	while (io->rest_sent < io->rest_bytes) {
		ssize_t n = grpc_io_send(io, io->rest + io->rest_sent,
		                         io->rest_bytes - io->rest_sent);

		if (n == -EAGAIN || n == -EINTR)
			return 1;
		if (n < 0)
			return (int)n;
		io->rest_sent += (size_t)n;
	}
	free(io->rest);
	io->rest = NULL;
	io->rest_bytes = io->rest_sent = 0;
	return 0;
}

int grpc_io_write(struct grpc_io *io, const void *data, size_t bytes)
{
	const unsigned char *at = data;
	size_t sent = 0;

	while (sent < bytes) {
		ssize_t n = grpc_io_send(io, at + sent, bytes - sent);

		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n < 0)
			return (int)n;
		sent += (size_t)n;
	}
	if (sent == bytes)
		return 0;
	io->rest = malloc(bytes - sent);
	if (!io->rest)
		return -ENOMEM;
	memcpy(io->rest, at + sent, bytes - sent);
	io->rest_bytes = bytes - sent;
	io->rest_sent = 0;
	return 1;
}
