/* SPDX-License-Identifier: Apache-2.0 */

/* Faults on the control channel, the rings and the doorbells. */

#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/log.h"

static struct proto_header wire_header(const struct hostile *hostile,
                                       enum proto_type type, size_t payload_bytes)
{
	return (struct proto_header){
		.magic = PROTO_MAGIC,
		.version = PROTO_VERSION,
		.type = (uint16_t)type,
		.generation = hostile->generation,
		.payload_bytes = (uint32_t)payload_bytes,
	};
}

/* Sends a datagram of @header and @bytes of @payload, whatever the header says. */
static void wire_send(const struct hostile *hostile, const struct proto_header *header,
                      const void *payload, size_t bytes)
{
	unsigned char *datagram = malloc(sizeof(*header) + bytes);

	if (!datagram)
		_exit(PROTO_EXIT_INTERNAL);
	memcpy(datagram, header, sizeof(*header));
	if (bytes > 0)
		memcpy(datagram + sizeof(*header), payload, bytes);
	(void)send(hostile->chan.fd, datagram, sizeof(*header) + bytes, MSG_NOSIGNAL);
	free(datagram);
}

static void wire_send_filler(const struct hostile *hostile,
                             const struct proto_header *header, size_t bytes)
{
	char *filler = malloc(bytes);

	if (!filler)
		_exit(PROTO_EXIT_INTERNAL);
	memset(filler, ' ', bytes);
	wire_send(hostile, header, filler, bytes);
	free(filler);
}

static void wire_send_garbage(const struct hostile *hostile, size_t bytes)
{
	unsigned char garbage[4096];
	uint32_t seed = (uint32_t)getpid();

	for (size_t i = 0; i < sizeof(garbage); i++) {
		seed = seed * 1664525u + 1013904223u;
		garbage[i] = (unsigned char)(seed >> 24);
	}
	(void)send(hostile->chan.fd, garbage,
	           bytes < sizeof(garbage) ? bytes : sizeof(garbage), MSG_NOSIGNAL);
}

static void wire_send_fds(const struct hostile *hostile, size_t n)
{
	int fds[PROTO_FDS_MAX];

	if (n > PROTO_FDS_MAX)
		n = PROTO_FDS_MAX;
	for (size_t i = 0; i < n; i++)
		fds[i] = STDIN_FILENO;
	(void)chan_send(&(struct chan){ .fd = hostile->chan.fd }, PROTO_BYE,
	                hostile->generation, "{}", fds, n);
}

/* Sends messages that a loader may send at its end, as fast as they go. */
static void wire_storm(const struct hostile *hostile, uint64_t ms)
{
	const struct proto_header header = wire_header(hostile, PROTO_BYE, 2);
	struct pollfd pollfd = { .fd = hostile->chan.fd, .events = POLLOUT };
	uint64_t until_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;

	while (clock_now_ns() < until_ns) {
		wire_send(hostile, &header, "{}", 2);
		(void)poll(&pollfd, 1, 1);
	}
}

static void wire_send_header(const struct hostile *hostile,
                             const struct hostile_fault *fault)
{
	struct proto_header header = wire_header(hostile, PROTO_HELLO, 2);

	switch ((int)fault->action) {
	case HOSTILE_CHAN_RESERVED:
		header.reserved = (uint32_t)fault->number;
		break;
	case HOSTILE_CHAN_VERSION:
		header.version = (uint16_t)fault->number;
		break;
	case HOSTILE_CHAN_TYPE:
		header.type = (uint16_t)fault->number;
		break;
	case HOSTILE_CHAN_TURN:
		/* A loader may send BYE only at its end, and LOAD never. */
		header.type = fault->state >= HOSTILE_STOPPING ? PROTO_LOAD : PROTO_BYE;
		break;
	case HOSTILE_CHAN_GENERATION:
		header.generation += fault->number;
		break;
	default:
		break;
	}
	wire_send(hostile, &header, "{}", 2);
}

/* Returns the type that the state expects, so that nothing but the payload is wrong. */
static enum proto_type wire_expected(enum hostile_state state)
{
	return state == HOSTILE_SPAWNED                              ? PROTO_HELLO
	       : state == HOSTILE_STAGING                            ? PROTO_STAGED
	       : state == HOSTILE_COMMITTING                         ? PROTO_COMMITTED
	       : state == HOSTILE_WARMING || state == HOSTILE_STAGED ? PROTO_READY
	                                                             : PROTO_BYE;
}

void hostile_do_channel(struct hostile *hostile, const struct hostile_fault *fault)
{
	struct proto_header header = wire_header(hostile, wire_expected(fault->state), 0);

	switch ((int)fault->action) {
	case HOSTILE_CHAN_GARBAGE:
		wire_send_garbage(hostile, fault->number);
		break;
	case HOSTILE_CHAN_SHORT:
		(void)send(hostile->chan.fd, &header, fault->number, MSG_NOSIGNAL);
		break;
	case HOSTILE_CHAN_HALF:
		header.payload_bytes = 64;
		wire_send_filler(hostile, &header, 32);
		break;
	case HOSTILE_CHAN_HUGE:
		header.payload_bytes = PROTO_PAYLOAD_MAX + (uint32_t)fault->number;
		wire_send_filler(hostile, &header, header.payload_bytes);
		break;
	case HOSTILE_CHAN_LENGTH:
		wire_send_filler(hostile, &header, fault->number);
		break;
	case HOSTILE_CHAN_JSON:
		header.payload_bytes = 9;
		wire_send(hostile, &header, "[1, 2, {]", 9);
		break;
	case HOSTILE_CHAN_FDS:
		wire_send_fds(hostile, fault->number);
		break;
	case HOSTILE_CHAN_EMPTY:
		(void)send(hostile->chan.fd, "", 0, MSG_NOSIGNAL);
		break;
	case HOSTILE_CHAN_CLOSE:
		(void)shutdown(hostile->chan.fd, SHUT_RDWR);
		break;
	case HOSTILE_CHAN_STORM:
		wire_storm(hostile, fault->number);
		break;
	default:
		wire_send_header(hostile, fault);
		break;
	}
}

void hostile_ring_bell(struct hostile *hostile)
{
	const uint64_t one = 1;

	if (write(hostile->supervisor_bell, &one, sizeof(one)) < 0 && errno != EAGAIN)
		_exit(PROTO_EXIT_INTERNAL);
}

static void wire_bell_storm(struct hostile *hostile, uint64_t ms)
{
	uint64_t until_ns = clock_now_ns() + ms * CLOCK_NS_PER_MS;

	while (clock_now_ns() < until_ns)
		hostile_ring_bell(hostile);
}

/* Fills both bells, so that neither takes one ring more. */
static void wire_bell_full(struct hostile *hostile)
{
	const uint64_t most = UINT64_MAX - 1;

	(void)!write(hostile->loader_bell, &most, sizeof(most));
	(void)!write(hostile->supervisor_bell, &most, sizeof(most));
}

/* Scribbles over the rings, but not over the header, which says how large everything is. */
static void wire_scribble(struct hostile *hostile, int byte)
{
	memset(hostile->head->rings, byte,
	       hostile->rings.size_bytes - offsetof(struct proto_rings, rings));
	hostile->answer.own = (uint32_t)byte * UINT32_C(0x01010101);
}

/* Moves the private count, too: a lie in shared memory alone would be undone by the next
 * answer. */
static void wire_move(struct ring *ring, uint32_t number)
{
	ring->own += number;
	atomic_store(&ring->shared->produced, ring->own);
}

void hostile_do_rings(struct hostile *hostile, const struct hostile_fault *fault)
{
	uint32_t number = (uint32_t)fault->number;

	if (!hostile->has_rings) {
		log_event(LOG_LEVEL_WARNING, "hostile",
		          "what=\"there are no rings yet\"");
		return;
	}
	switch ((int)fault->action) {
	case HOSTILE_RING_BACK:
		wire_move(&hostile->answer, 0 - number);
		break;
	case HOSTILE_RING_JUMP:
	case HOSTILE_RING_STALE:
		wire_move(&hostile->answer, number);
		break;
	case HOSTILE_RING_PASSED:
		atomic_store(&hostile->head->passed_bytes, fault->number);
		break;
	case HOSTILE_RING_SCRIBBLE:
		wire_scribble(hostile, (int)fault->number);
		break;
	case HOSTILE_RING_CONSUMED:
		hostile->submit.own += number;
		hostile->release.own += number;
		atomic_store(&hostile->submit.shared->consumed, hostile->submit.own);
		atomic_store(&hostile->release.shared->consumed, hostile->release.own);
		break;
	case HOSTILE_BELL_STORM:
		wire_bell_storm(hostile, fault->number);
		break;
	case HOSTILE_BELL_FULL:
		wire_bell_full(hostile);
		break;
	default:
		break;
	}
	hostile_ring_bell(hostile);
}
