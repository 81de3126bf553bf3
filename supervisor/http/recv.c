/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How libmicrohttpd gets its bytes. The library reads with recv(2), under TLS with
 * gnutls_record_recv(3), and a program's own symbols come before those of its libraries: what
 * it finds are the two functions below.
 * So the strict reader sees every byte before the library does and takes out what is at
 * fault, and a request costs no system call more (docs/adr/0015). http_handler_begin() answers
 * nothing whose head has not come this way: a library that read in another manner would
 * serve nobody.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "supervisor/http/conn.h"

/* Reads from a refused client that are thrown away at once; the rest can wait. */
#define HTTP_RECV_ROUNDS 16
/* Bytes of a large body that are read before the other connections get their turn. */
#define HTTP_RECV_TURN_BYTES ((size_t)1024 * 1024)

/* Connections by descriptor. recv() has no argument by which to find them otherwise. */
static struct http_conn **by_fd;
static size_t n_by_fd;
static size_t n_conns;

int http_recv_add(struct http_conn *conn)
{
	size_t fd = (size_t)conn->fd;

	if (fd >= n_by_fd) {
		size_t n = fd + fd / 2 + 64;
		struct http_conn **grown = realloc(by_fd, n * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		memset(grown + n_by_fd, 0, (n - n_by_fd) * sizeof(*grown));
		by_fd = grown;
		n_by_fd = n;
	}
	by_fd[fd] = conn;
	n_conns++;
	return 0;
}

void http_recv_remove(struct http_conn *conn)
{
	size_t fd = (size_t)conn->fd;

	if (fd >= n_by_fd || by_fd[fd] != conn)
		return;
	by_fd[fd] = NULL;
	n_conns--;
}

void http_recv_fini(void)
{
	if (n_conns > 0)
		return; /* of another endpoint */
	free(by_fd);
	by_fd = NULL;
	n_by_fd = 0;
}

/* Reads what the client has sent, as recv(2) does. Of a TLS session: what it has sent
 * encrypted. */
static ssize_t http_recv_plain(struct http_conn *conn, void *data, size_t size)
{
	struct http_ready *ready = &conn->ready;
	unsigned char number[8];
	ssize_t n;

	if (!conn->session)
		return recvfrom(conn->fd, data, size, 0, NULL, NULL);
	ready->has_read = true;
	/* gnutls_record_recv() by its other name, which is not the one below. */
	n = gnutls_record_recv_seq(conn->session, data, size, number);
	if (n >= 0)
		return n;
	/* HTTP says itself where a message ends: a client may leave without a word. */
	if (n == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	ready->code = (int)n;
	errno = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? EAGAIN : EIO;
	return -1;
}

/* libmicrohttpd is to see nothing more but the end. */
static ssize_t http_recv_nothing(struct http_conn *conn, void *data, size_t size)
{
	ssize_t n = 1;

	for (int i = 0; n > 0 && i < HTTP_RECV_ROUNDS; i++)
		n = http_recv_plain(conn, data, size);
	if (n > 0) {
		errno = EAGAIN;
		n = -1;
	}
	return n;
}

/* Whether to read on. Under TLS less than there was room for says nothing, because records have
 * ends of their own; and one read too many meets the end of a client that waits for its
 * answer, after which GnuTLS sends nothing. */
static bool http_recv_has_more(const struct http_conn *conn, bool was_full, size_t done)
{
	if (!conn->session)
		return was_full;
	return done == 0 || gnutls_record_check_pending(conn->session) > 0;
}

/* Reads once; *ret_n is what recv(2) says. Adds to *done the bytes of @data, of @size, that are
 * for libmicrohttpd. True: the kernel may hold more that is wanted. */
static bool http_recv_once(struct http_conn *conn, char *data, size_t size, size_t *done,
                           ssize_t *ret_n)
{
	struct http_wire *wire = &conn->wire;
	struct http_ready *ready = &conn->ready;
	size_t held = wire->holds_space;
	size_t room = size - *done;
	char two[2]; /* a space that was held back, and a byte for which there is no room */
	char *to = held < room ? data + *done : two;
	size_t kept;

	if (to == two)
		room = sizeof(two);
	if (held)
		to[0] = ' ';
	room = http_wire_most(wire, room);
	*ret_n = http_recv_plain(conn, to + held, room - held);
	if (*ret_n <= 0)
		return false;
	kept = http_wire_read(wire, to, held + (size_t)*ret_n);
	if (to == two && kept > 0) {
		data[*done] = two[0];
		ready->is_there = kept > 1;
		ready->byte = two[1];
		kept = 1;
	}
	*done += kept;
	return http_recv_has_more(conn, held + (size_t)*ret_n == room, *done) &&
	       wire->fault == HTTP_WIRE_GOOD && !wire->is_over;
}

/* Reads what goes past libmicrohttpd, to where the body has its place. Positive: that has come.
 * Otherwise as recv(2); EINTR has libmicrohttpd call again, without waiting for more to
 * arrive. */
static ssize_t http_recv_aside(struct http_conn *conn, void *data, size_t size)
{
	struct http_wire *wire = &conn->wire;
	size_t turn_bytes = HTTP_RECV_TURN_BYTES;
	uint64_t left;

	while ((left = http_wire_aside_bytes(wire)) > 0) {
		size_t room = left < turn_bytes ? (size_t)left : turn_bytes;
		void *to = http_body_place(conn, room, &room);
		ssize_t n;

		if (!to)
			return conn->phase == HTTP_PHASE_LINGER
			               ? http_recv_nothing(conn, data, size)
			               : 0;
		n = http_recv_plain(conn, to, room);
		if (n <= 0)
			return n;
		http_wire_pass_aside(wire, (size_t)n);
		http_body_came(conn, (size_t)n);
		turn_bytes -= (size_t)n;
		errno = turn_bytes == 0 ? EINTR : EAGAIN;
		if (turn_bytes == 0 || (!conn->session && (size_t)n < room))
			return -1;
	}
	return 1;
}

/* Fills @data as far as the kernel has bytes: libmicrohttpd takes less than it asked for to
 * mean that there are no more, and waits for others to arrive. */
static ssize_t http_recv_strictly(struct http_conn *conn, char *data, size_t size)
{
	const struct http_wire *wire = &conn->wire;
	struct http_ready *ready = &conn->ready;
	size_t done = 0;
	ssize_t n = 1;

	if (wire->fault != HTTP_WIRE_GOOD || conn->phase == HTTP_PHASE_LINGER)
		return http_recv_nothing(conn, data, size);
	if (http_body_is_aside(conn))
		n = http_recv_aside(conn, data, size);
	if (n <= 0)
		return n;
	if (ready->is_there)
		data[done++] = ready->byte;
	ready->is_there = false;
	while (done < size && http_wire_most(wire, 1) > 0 &&
	       http_recv_once(conn, data, size, &done, &n))
		continue;
	if (wire->fault != HTTP_WIRE_GOOD)
		http_answer_fault(conn);
	if (done > 0)
		return (ssize_t)done;
	if (n <= 0)
		return n;
	errno = EAGAIN;
	return -1;
}

static struct http_conn *http_recv_find(int fd)
{
	return fd >= 0 && (size_t)fd < n_by_fd ? by_fd[fd] : NULL;
}

/* Reads what a proxy says in front of its client's bytes. Positive: those come next; otherwise as
 * recv(2). */
static ssize_t http_recv_peer(struct http_conn *conn)
{
	struct peer *peer = conn->peer;
	int r = peer_read(peer, conn->fd);

	if (r < 0) {
		errno = -r;
		return -1;
	}
	if (r > 0 && http_conn_admit(conn))
		return 1;
	if (r > 0 && conn->phase != HTTP_PHASE_GONE)
		http_conn_refuse(conn);
	return 0;
}

/* Takes the place of the C library's recv(), for the whole program. GnuTLS reads with it what
 * is encrypted. */
ssize_t recv(int fd, void *data, size_t size, int flags)
{
	struct http_conn *conn = http_recv_find(fd);
	ssize_t n = conn && peer_is_unknown(conn->peer) ? http_recv_peer(conn) : 1;

	if (n <= 0)
		return n;
	if (!conn || conn->session || size == 0)
		return recvfrom(fd, data, size, flags, NULL, NULL);
	return http_recv_strictly(conn, data, size);
}

/* Takes the place of GnuTLS' function of that name, for the whole program: libmicrohttpd reads
 * with it what was encrypted. */
ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t size)
{
	struct http_conn *conn = http_recv_find(gnutls_transport_get_int(session));
	unsigned char number[8];
	ssize_t n;

	if (!conn || conn->session != session || size == 0)
		return gnutls_record_recv_seq(session, data, size, number);
	n = http_recv_strictly(conn, data, size);
	if (n >= 0)
		return n;
	if (errno == EINTR)
		return GNUTLS_E_INTERRUPTED;
	return errno == EAGAIN ? GNUTLS_E_AGAIN : conn->ready.code;
}
