/* SPDX-License-Identifier: Apache-2.0 */
#include "shared/chan.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "shared/cleanup.h"

union chan_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int) * PROTO_FDS_MAX)];
};

int chan_pair(struct chan *ret_ours, int *ret_theirs_fd)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) <
	    0)
		return -errno;
	ret_ours->fd = fds[0];
	*ret_theirs_fd = fds[1];
	return 0;
}

int chan_send(struct chan *chan, enum proto_type type, uint64_t generation,
              const char *payload, const int *fds, size_t n_fds)
{
	struct proto_header header = {
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
		.type = (uint16_t)type,
		.generation = generation,
		.payload_bytes = (uint32_t)(payload ? strlen(payload) : 0),
	};
	/* sendmsg() does not write through iov_base; the const is lost to its type only. */
	struct iovec iov[2] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)(uintptr_t)payload,
		  .iov_len = header.payload_bytes },
	};
	union chan_control control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = payload ? 2 : 1 };

	assert(n_fds <= PROTO_FDS_MAX);
	if (header.payload_bytes > PROTO_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (n_fds > 0) {
		struct cmsghdr *cmsg;

		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg = CMSG_FIRSTHDR(&message);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	if (sendmsg(chan->fd, &message, MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static void chan_take_fds(struct msghdr *header, struct chan_message *message)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg;
	     cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		message->n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		assert(message->n_fds <= PROTO_FDS_MAX);
		memcpy(message->fds, CMSG_DATA(cmsg), message->n_fds * sizeof(int));
	}
}

/* An empty datagram and the end of the connection both read as 0 bytes; poll(2) tells them
 * apart. */
static bool chan_is_over(const struct chan *chan)
{
	struct pollfd pollfd = { .fd = chan->fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLHUP);
}

static int chan_check(const struct chan_message *message, size_t bytes, int flags,
                      struct err *err)
{
	const struct proto_header *header = &message->header;

	if (flags & (MSG_TRUNC | MSG_CTRUNC))
		return err_set(err, CHAN_E_MALFORMED, "a message is larger than allowed");
	if (bytes < sizeof(*header) || header->magic != PROTO_MAGIC)
		return err_set(err, CHAN_E_MALFORMED, "a message has no proper header");
	if (header->version != PROTO_VERSION)
		return err_set(err, CHAN_E_MALFORMED,
		               "the peer speaks protocol version %u, this is version %d: "
		               "install moultd and moult-loader of one build",
		               header->version, PROTO_VERSION);
	if (header->payload_bytes != bytes - sizeof(*header) || header->reserved != 0)
		return err_set(err, CHAN_E_MALFORMED, "a message has the wrong length");
	if (message->n_fds > 0 && header->type != PROTO_LOAD &&
	    header->type != PROTO_COMMIT && header->type != PROTO_COMMITTED)
		return err_set(err, CHAN_E_MALFORMED,
		               "a message of type %u carries descriptors", header->type);
	return 0;
}

int chan_recv(struct chan *chan, struct chan_message *message, struct err *err)
{
	struct iovec iov[2] = {
		{ .iov_base = &message->header, .iov_len = sizeof(message->header) },
		{ .iov_base = message->payload, .iov_len = PROTO_PAYLOAD_MAX },
	};
	union chan_control control = { .space = { 0 } };
	struct msghdr header = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.space,
		/* CMSG_LEN and not CMSG_SPACE: the kernel would use the padding, if any, for
		 * one more descriptor. */
		.msg_controllen = CMSG_LEN(sizeof(int) * PROTO_FDS_MAX),
	};
	ssize_t bytes;
	int r;

	message->n_fds = 0;
	message->header = (struct proto_header){ 0 };
	do {
		bytes = recvmsg(chan->fd, &header, MSG_CMSG_CLOEXEC);
	} while (bytes < 0 && errno == EINTR);
	if (bytes < 0 && errno == EAGAIN)
		return CHAN_E_EMPTY;
	if (bytes < 0)
		return errno == ECONNRESET ? CHAN_E_CLOSED : -errno;
	chan_take_fds(&header, message);
	if (bytes == 0 && message->n_fds == 0 && chan_is_over(chan))
		return CHAN_E_CLOSED;
	r = chan_check(message, (size_t)bytes, header.msg_flags, err);
	if (r) {
		chan_message_fini(message);
		return r;
	}
	message->payload[message->header.payload_bytes] = '\0';
	return 0;
}

void chan_message_fini(struct chan_message *message)
{
	for (size_t i = 0; i < message->n_fds; i++)
		close_fd(&message->fds[i]);
	message->n_fds = 0;
}

void chan_fini(struct chan *chan)
{
	close_fd(&chan->fd);
}
