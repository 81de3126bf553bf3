/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What answers that are none of a model may take of the loop's time, and who goes next when
 * more is asked for. Time that was not taken is kept, up to TURNS_KEPT_NS, so that whoever
 * asks now and then goes at once; those who ask all the time get TURNS_PART between them.
 *
 * Those who wait are in one queue for each address (of several whose hash is the same), and
 * the queues are served in turn: many who wait at one address delay another by one answer.
 * Pure: times come from outside.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct sockaddr;

/* One part in so many of the loop's time. */
#define TURNS_PART 20
/* Of that time, what is kept: some dozens of answers of half a megabyte. */
#define TURNS_KEPT_NS (UINT64_C(20) * 1000 * 1000)
#define TURNS_QUEUES  256

struct turn {
	TAILQ_ENTRY(turn) link; /* in its queue, oldest first */
	void *owner;
	unsigned int queue;
	bool is_waiting;
};

TAILQ_HEAD(turn_list, turn);

struct turns {
	uint64_t paid_ns; /* when all that was taken will have been allowed */
	uint64_t seed;
	unsigned int n_waiting;
	unsigned int last; /* the queue that was served last */
	struct turn_list queues[TURNS_QUEUES];
	unsigned int lengths[TURNS_QUEUES];
};

/* @seed: not known to clients, who could choose an address that shares a queue. */
void turns_init(struct turns *turns, uint64_t seed);

/* When the next may go; a time that is past: now. */
static inline uint64_t turns_due_ns(const struct turns *turns)
{
	return turns->paid_ns;
}

/* Nobody waits, and there is time for one. */
bool turns_is_free(const struct turns *turns, uint64_t now_ns);
/* An answer has taken @cost_ns. */
void turns_charge(struct turns *turns, uint64_t cost_ns, uint64_t now_ns);

/* @turn waits from now on, borrowed until it is next or removed. @address: of its client;
 * NULL: it has none. */
void turns_add(struct turns *turns, struct turn *turn, const struct sockaddr *address);
/* Nothing, when it does not wait. */
void turns_remove(struct turns *turns, struct turn *turn);
/* Whose turn it is, who waits no more; NULL: nobody waits, or it is not time. */
struct turn *turns_next(struct turns *turns, uint64_t now_ns);
/* The last who came of the address with most who wait; waits on. NULL: nobody waits. */
struct turn *turns_most_crowded(const struct turns *turns);
