/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/chan.h"
#include "shared/cleanup.h"

#define FDS_MORE (PROTO_FDS_MAX + 1)

struct pair {
	struct chan ours;
	int theirs;
	int next_fd; /* the lowest free number, which stays while nothing leaks */
	struct chan_message *message;
};

static int lowest_free_fd(void)
{
	int fd = dup(STDERR_FILENO);

	(void)close(fd);
	return fd;
}

static void pair_init(struct pair *pair)
{
	assert_int_equal(chan_pair(&pair->ours, &pair->theirs), 0);
	pair->next_fd = lowest_free_fd();
	pair->message = malloc(sizeof(*pair->message));
	assert_non_null(pair->message);
}

static void pair_fini(struct pair *pair)
{
	assert_int_equal(lowest_free_fd(), pair->next_fd);
	free(pair->message);
	close_fd(&pair->theirs);
	chan_fini(&pair->ours);
}

/* Sends one datagram as a peer may: any header, any payload, any descriptors. */
static void send_raw(const struct pair *pair, const struct proto_header *header,
                     size_t header_bytes, size_t payload_bytes, size_t n_fds)
{
	static char payload[PROTO_PAYLOAD_MAX + 1];
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * FDS_MORE)];
	} control = { .space = { 0 } };
	struct proto_header copy = *header;
	struct iovec iov[2] = {
		{ .iov_base = &copy, .iov_len = header_bytes },
		{ .iov_base = payload, .iov_len = payload_bytes },
	};
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = 2 };

	if (n_fds > 0) {
		const int fd = STDERR_FILENO;
		struct cmsghdr *cmsg = &control.align;

		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		for (size_t i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &fd, sizeof(fd));
	}
	assert_true(sendmsg(pair->theirs, &message, MSG_NOSIGNAL) >= 0);
}

static void test_what_is_sent_arrives(void **state)
{
	struct err err = ERR_NULL;
	struct pair pair;
	struct chan theirs;
	const int fds[PROTO_FDS_MAX] = { 0, 1, 2, 0, 1, 2, 0 };

	(void)state;
	pair_init(&pair);
	theirs.fd = pair.theirs;
	assert_int_equal(chan_recv(&pair.ours, pair.message, &err), CHAN_E_EMPTY);
	assert_int_equal(chan_send(&theirs, PROTO_LOAD, 3, "{}", fds, PROTO_FDS_MAX), 0);
	assert_int_equal(chan_recv(&pair.ours, pair.message, &err), 0);
	assert_int_equal(pair.message->header.generation, 3);
	assert_int_equal(pair.message->n_fds, PROTO_FDS_MAX);
	assert_string_equal(pair.message->payload, "{}");
	chan_message_fini(pair.message);
	pair_fini(&pair);
}

/* Each row is a datagram that costs the peer its life, and the supervisor nothing. */
static void test_malformed(void **state)
{
	static const struct {
		struct proto_header header;
		size_t header_bytes;
		size_t payload_bytes;
		size_t n_fds;
	} rows[] = {
		{ { .magic = 1 }, sizeof(struct proto_header), 0, 0 },
		{ { PROTO_MAGIC, PROTO_VERSION + 1, PROTO_BYE, 1, 0, 0 }, 24, 0, 0 },
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_BYE, 1, 0, 1 }, 24, 0, 0 },
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_BYE, 1, 7, 0 }, 24, 8, 0 },
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_BYE, 1, 0, 0 }, 23, 0, 0 },
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_BYE, 1, PROTO_PAYLOAD_MAX + 1, 0 },
		  24,
		  PROTO_PAYLOAD_MAX + 1,
		  0 },
		/* Descriptors on a message without any, and too many. */
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_BYE, 1, 0, 0 }, 24, 0, 1 },
		{ { PROTO_MAGIC, PROTO_VERSION, PROTO_LOAD, 1, 0, 0 }, 24, 0, FDS_MORE },
		/* An empty datagram, which is not the end; with descriptors. */
		{ { .magic = 0 }, 0, 0, 0 },
		{ { .magic = 0 }, 0, 0, 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_NULL;
		struct pair pair;

		pair_init(&pair);
		send_raw(&pair, &rows[i].header, rows[i].header_bytes,
		         rows[i].payload_bytes, rows[i].n_fds);
		assert_int_equal(chan_recv(&pair.ours, pair.message, &err),
		                 CHAN_E_MALFORMED);
		assert_int_equal(pair.message->n_fds, 0);
		assert_true(err.text[0] != '\0');
		pair_fini(&pair);
	}
}

static void test_closed(void **state)
{
	struct err err = ERR_NULL;
	struct pair pair;

	(void)state;
	pair_init(&pair);
	close_fd(&pair.theirs);
	assert_int_equal(chan_recv(&pair.ours, pair.message, &err), CHAN_E_CLOSED);
	pair.next_fd = lowest_free_fd();
	pair_fini(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_sent_arrives),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
