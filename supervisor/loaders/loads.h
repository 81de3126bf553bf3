/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Bounds how many models are built at once, and says which comes next. Models that are
 * built all together share the processors, and the first one serves when the last one
 * does.
 *
 * A reload has a turn from its beginning until its candidate serves or has failed. A
 * reload that is under way waits for no turn. A turn never waits for something that needs
 * another turn: the reload gives it back first. A model that served and does not any more
 * gets its turn at once, beyond the number if need be.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum loads_class {
	LOADS_URGENT, /* the model served, and nobody does now */
	LOADS_RELOAD, /* another generation serves */
	LOADS_FIRST,  /* the model never served */
};

/* A model's place. The owner sets class, bytes and on_turn; loads.c keeps the rest.
 * Zeroed before the first loads_ask(). */
struct loads_turn {
	TAILQ_ENTRY(loads_turn) link;
	struct loads *loads; /* NULL: neither waits nor has a turn */
	bool is_its;
	enum loads_class class;
	uint64_t bytes; /* in a class the smallest comes first */
	void (*on_turn)(void *context);
	void *context;
};

struct loads {
	struct ev_loop *loop;
	ev_timer next; /* hands turns out when all of this round have asked */
	uint32_t max;
	uint32_t n; /* turns that are out */
	TAILQ_HEAD(loads_waiting, loads_turn) waiting;
};

void loads_init(struct loads *loads, struct ev_loop *loop);
/* Allows @max turns at once; 0: as many as this process has processors. */
void loads_set_max(struct loads *loads, uint32_t max);
/* Hands out no more turns. */
void loads_fini(struct loads *loads);

/* Asks for a turn; asking again does no harm. True: @turn has it. False: on_turn() says
 * when, from the loop. */
bool loads_ask(struct loads *loads, struct loads_turn *turn);
/* Ends @turn, or its waiting. */
void loads_end(struct loads_turn *turn);
/* True: @turn waits for others. */
bool loads_is_waiting(const struct loads_turn *turn);
