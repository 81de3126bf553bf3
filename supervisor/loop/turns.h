/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Rations the loop's time for answers that are no model's, and says who goes next when
 * more is asked for. Time that was not taken is kept, up to TURNS_KEPT_NS, so that a
 * client that asks now and then goes at once. Clients that ask all the time share one
 * part in TURNS_PART.
 *
 * Waiting turns are in one queue for each address (several addresses may have the same
 * hash), and the queues are served in turn: many clients at one address delay another by
 * one answer. Pure: times come from outside.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct sockaddr;

/* The ration is one part in so many of the loop's time. */
#define TURNS_PART 20
/* Kept of the ration at most: some dozens of answers of half a megabyte. */
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
	uint64_t paid_ns; /* when the time that was taken will have been allowed */
	uint64_t seed;
	unsigned int n_waiting;
	unsigned int last; /* the queue that was served last */
	struct turn_list queues[TURNS_QUEUES];
	unsigned int lengths[TURNS_QUEUES];
};

/* @seed must be unknown to clients, who could choose an address that shares a queue. */
void turns_init(struct turns *turns, uint64_t seed);

/* When the next turn may go; a time in the past means now. */
static inline uint64_t turns_due_ns(const struct turns *turns)
{
	return turns->paid_ns;
}

/* True: nobody waits, and there is time for one. */
bool turns_is_free(const struct turns *turns, uint64_t now_ns);
/* An answer has taken @cost_ns. */
void turns_charge(struct turns *turns, uint64_t cost_ns, uint64_t now_ns);

/* @turn, @owner's, waits from now on, borrowed until it is next or is removed. @address is its
 * client's, or NULL. */
void turns_add(struct turns *turns, struct turn *turn, void *owner,
               const struct sockaddr *address);
/* Does nothing for a turn that does not wait. */
void turns_remove(struct turns *turns, struct turn *turn);
/* Takes the turn that is next, or NULL: nobody waits, or it is not time. */
struct turn *turns_next(struct turns *turns, uint64_t now_ns);
/* The youngest turn of the address with the most that wait; it stays in its queue. NULL:
 * nobody waits. */
struct turn *turns_most_crowded(const struct turns *turns);
