/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/loop/turns.h"

#include <netinet/in.h>
#include <string.h>

/* The first 64 bits of an IPv6 address are the network (RFC 4291 2.5.4); the rest is its
 * client's choice. */
#define TURNS_IPV6_BYTES 8
/* Place of an IPv4 address that came over an IPv6 socket (RFC 4291 2.5.5.2). */
#define TURNS_MAPPED_AT 12

void turns_init(struct turns *turns, uint64_t seed)
{
	*turns = (struct turns){ .seed = seed };
	for (unsigned int i = 0; i < TURNS_QUEUES; i++)
		TAILQ_INIT(&turns->queues[i]);
}

bool turns_is_free(const struct turns *turns, uint64_t now_ns)
{
	return turns->n_waiting == 0 && turns->paid_ns <= now_ns;
}

void turns_charge(struct turns *turns, uint64_t cost_ns, uint64_t now_ns)
{
	const uint64_t kept_ns = TURNS_KEPT_NS * TURNS_PART;
	uint64_t floor_ns = now_ns > kept_ns ? now_ns - kept_ns : 0;

	if (turns->paid_ns < floor_ns)
		turns->paid_ns = floor_ns;
	turns->paid_ns += cost_ns * TURNS_PART;
}

/* Waiting */

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): each bit of the input changes
 * half of the output's bits. */
static uint64_t turns_mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static unsigned int turns_hash(uint64_t seed, const void *data, size_t bytes)
{
	uint64_t text = 0;

	memcpy(&text, data, bytes);
	return (unsigned int)(turns_mix(text ^ seed) % TURNS_QUEUES);
}

static unsigned int turns_queue_of(const struct turns *turns,
                                   const struct sockaddr *address)
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	if (address && address->sa_family == AF_INET) {
		memcpy(&in, address, sizeof(in));
		return turns_hash(turns->seed, &in.sin_addr, sizeof(in.sin_addr));
	}
	if (!address || address->sa_family != AF_INET6)
		return 0;
	memcpy(&in6, address, sizeof(in6));
	if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
		return turns_hash(turns->seed, in6.sin6_addr.s6_addr + TURNS_MAPPED_AT,
		                  sizeof(in.sin_addr));
	return turns_hash(turns->seed, in6.sin6_addr.s6_addr, TURNS_IPV6_BYTES);
}

void turns_add(struct turns *turns, struct turn *turn, void *owner,
               const struct sockaddr *address)
{
	turn->owner = owner;
	turn->queue = turns_queue_of(turns, address);
	turn->is_waiting = true;
	TAILQ_INSERT_TAIL(&turns->queues[turn->queue], turn, link);
	turns->lengths[turn->queue]++;
	turns->n_waiting++;
}

void turns_remove(struct turns *turns, struct turn *turn)
{
	if (!turn->is_waiting)
		return;
	turn->is_waiting = false;
	TAILQ_REMOVE(&turns->queues[turn->queue], turn, link);
	turns->lengths[turn->queue]--;
	turns->n_waiting--;
}

struct turn *turns_next(struct turns *turns, uint64_t now_ns)
{
	struct turn *turn;

	if (turns->n_waiting == 0 || turns->paid_ns > now_ns)
		return NULL;
	do
		turns->last = (turns->last + 1) % TURNS_QUEUES;
	while (turns->lengths[turns->last] == 0);
	turn = TAILQ_FIRST(&turns->queues[turns->last]);
	turns_remove(turns, turn);
	return turn;
}

struct turn *turns_most_crowded(const struct turns *turns)
{
	unsigned int most = 0;

	for (unsigned int i = 1; i < TURNS_QUEUES; i++)
		if (turns->lengths[i] > turns->lengths[most])
			most = i;
	return TAILQ_LAST(&turns->queues[most], turn_list);
}
