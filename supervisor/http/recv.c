/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How libmicrohttpd gets its bytes. The library reads with recv(2), and a program's own
 * symbols come before those of its libraries: the recv() that it finds is the one below.
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

/* Connections by descriptor. recv() has no argument by which to find them otherwise. */
static struct http_conn **by_fd;
static size_t n_by_fd;

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
	return 0;
}

void http_recv_remove(struct http_conn *conn)
{
	size_t fd = (size_t)conn->fd;

	if (fd < n_by_fd && by_fd[fd] == conn)
		by_fd[fd] = NULL;
}

void http_recv_fini(void)
{
	free(by_fd);
	by_fd = NULL;
	n_by_fd = 0;
}

static ssize_t http_recv_plain(int fd, void *data, size_t size)
{
	return recvfrom(fd, data, size, 0, NULL, NULL);
}

/* libmicrohttpd is to see nothing more but the end. */
static ssize_t http_recv_nothing(int fd, void *data, size_t size)
{
	ssize_t n = 1;

	for (int i = 0; n > 0 && i < HTTP_RECV_ROUNDS; i++)
		n = http_recv_plain(fd, data, size);
	if (n > 0) {
		errno = EAGAIN;
		n = -1;
	}
	return n;
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
	*ret_n = http_recv_plain(conn->fd, to + held, room - held);
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
	return held + (size_t)*ret_n == room && wire->fault == HTTP_WIRE_GOOD &&
	       !wire->is_over;
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
		return http_recv_nothing(conn->fd, data, size);
	if (ready->is_there)
		data[done++] = ready->byte;
	ready->is_there = false;
	while (done < size && http_recv_once(conn, data, size, &done, &n))
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

/* Takes the place of the C library's recv(), for the whole program. */
ssize_t recv(int fd, void *data, size_t size, int flags)
{
	struct http_conn *conn = NULL;

	if (fd >= 0 && (size_t)fd < n_by_fd)
		conn = by_fd[fd];
	if (!conn || size == 0)
		return recvfrom(fd, data, size, flags, NULL, NULL);
	return http_recv_strictly(conn, data, size);
}
