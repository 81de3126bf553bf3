/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How many models are being built at once, and which comes next. Started all together they
 * share the processors, and the first one serves when the last one does.
 *
 * A reload has a turn from its beginning until its candidate serves or has failed. What is
 * under way waits for no turn, and a turn waits for nothing that needs another one: what
 * would have to gives its own back. A model that served and does not any more takes its turn
 * at once, beyond the number if need be.
 */

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum loads_class {
	LOADS_URGENT, /* it served, and nobody does now */
	LOADS_RELOAD, /* another one serves */
	LOADS_FIRST,  /* it never served */
};

/* A model's place. Zeroed until it asks for a turn. */
struct loads_turn {
	TAILQ_ENTRY(loads_turn) link;
	struct loads *loads; /* NULL: neither waits nor has a turn */
	bool is_its;
	enum loads_class class;
	uint64_t bytes; /* of a class the smallest comes first, then who asked first */
	void (*on_turn)(void *context);
	void *context;
};

struct loads {
	struct ev_loop *loop;
	ev_timer next; /* hands turns out, when all of this round have asked */
	uint32_t max;
	uint32_t n; /* turns that are out */
	TAILQ_HEAD(loads_waiting, loads_turn) waiting;
};

void loads_init(struct loads *loads, struct ev_loop *loop);
/* At most @max at once; 0: as many as there are processors for this process. */
void loads_set_max(struct loads *loads, uint32_t max);
void loads_fini(struct loads *loads);

/* True: it is @turn's. False: on_turn() says when, from the loop. Asking again is no harm. */
bool loads_ask(struct loads *loads, struct loads_turn *turn);
/* Its turn is over, or is not wanted any more. */
void loads_end(struct loads_turn *turn);
/* It waits for others. */
bool loads_is_waiting(const struct loads_turn *turn);
