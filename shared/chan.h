/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control channel: framed messages over a non-blocking SOCK_SEQPACKET pair, with
 * descriptors. The channel checks frames and not meanings: the caller decides which type is
 * allowed when. The format is in shared/proto.h.
 */

#include "shared/err.h"
#include "shared/proto.h"

struct chan {
	int fd; /* owned; -1 when closed */
};

struct chan_message {
	struct proto_header header;
	int fds[PROTO_FDS_MAX]; /* the first n_fds are owned until taken (-1 is left) */
	size_t n_fds;
	char payload[PROTO_PAYLOAD_MAX + 1]; /* terminated */
};

enum {
	_CHAN_E_SUCCESS,
	CHAN_E_EMPTY,     /* nothing to read now */
	CHAN_E_CLOSED,    /* the peer is gone */
	CHAN_E_MALFORMED, /* the peer is not to be trusted any more; @err says why */
};

/* Makes a connected pair, both ends CLOEXEC and non-blocking, both the caller's. 0 or -errno. */
int chan_pair(struct chan *ret_ours, int *ret_theirs_fd);

/* Sends one message. @payload is text (NULL: none). The fds stay the caller's. 0 or -errno.
 * -EAGAIN means that the peer does not read: treat the peer as lost. -EMSGSIZE: the payload is
 * longer than PROTO_PAYLOAD_MAX. */
int chan_send(struct chan *chan, enum proto_type type, uint64_t generation,
              const char *payload, const int *fds, size_t n_fds);

/* Receives one message into @message, which must hold no fds. A message of another type than
 * LOAD, COMMIT and COMMITTED that carries descriptors is malformed; they are closed. 0, CHAN_E_*
 * or -errno. */
int chan_recv(struct chan *chan, struct chan_message *message, struct err *err);

/* Closes the fds that nobody took. */
void chan_message_fini(struct chan_message *message);

void chan_fini(struct chan *chan);
