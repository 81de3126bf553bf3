/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is to be done before the loop blocks and after it woke up, once for all who have
 * work. A client without work is in no list and costs nothing, however many there are.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum pump_outcome {
	PUMP_DONE,  /* no work is left: the client is removed */
	PUMP_STAYS, /* the client is called in the next round, too */
	PUMP_AGAIN, /* and that round is to begin without blocking */
};

struct pump_client {
	TAILQ_ENTRY(pump_client) link; /* while it has work */
	bool is_listed;
	uint64_t round; /* in which it was added or called last */
	/* Called before the loop blocks; adds and removes no client. */
	enum pump_outcome (*on_block)(struct pump_client *client);
	/* Called after the loop woke up; may add and remove any client. */
	void (*on_wake)(struct pump_client *client);
};

struct pump {
	struct ev_loop *loop;
	TAILQ_HEAD(, pump_client) clients; /* those that have work */
	uint64_t round;
	ev_prepare prepare;
	ev_check check;
	ev_idle again; /* makes the loop go round once more */
};

/* @loop is borrowed. */
void pump_init(struct pump *pump, struct ev_loop *loop);

/* @client, borrowed until it is removed, has work from now on. Does nothing for one that
 * has some already. */
void pump_add(struct pump *pump, struct pump_client *client);
/* Does nothing for a client without work. */
void pump_remove(struct pump *pump, struct pump_client *client);

/* The two halves of a round, for the loop and for tests. pump_block() is false when the
 * loop must not block. */
bool pump_block(struct pump *pump);
void pump_wake(struct pump *pump);
