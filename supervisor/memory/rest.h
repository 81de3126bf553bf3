/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory of an arena that large bodies or answers have touched and that nobody has used for a
 * while: given back to the kernel, in small steps down to a part that stays warm, or whole where
 * the arena is exchanged. The next user of such memory finds zeros, and pays for fresh pages.
 */

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

struct memfd;

/* Bytes at the start of an arena that are never given back. */
#define REST_WARM_BYTES ((size_t)4 << 20)

struct rest {
	struct ev_loop *loop;
	const struct memfd *memory; /* NULL: renew() exchanges the arena */
	bool (*is_unused)(const void *context);
	bool (*renew)(void *context);
	void *context;
	size_t touched_bytes; /* up to here there may be pages */
	bool has_news;        /* beyond REST_WARM_BYTES, since the timer was set */
	bool is_due;          /* waits for a moment in which nothing is in use */
	ev_timer timer;
};

/* @memory and @context are borrowed. @is_unused: nothing in @memory is of use to anybody. */
void rest_init(struct rest *rest, struct ev_loop *loop, const struct memfd *memory,
               bool (*is_unused)(const void *context), void *context);
/* The same for an arena that @renew exchanges for another one. False: not now. */
void rest_init_whole(struct rest *rest, struct ev_loop *loop,
                     bool (*is_unused)(const void *context), bool (*renew)(void *context),
                     void *context);
/* Bytes before @end_bytes are in use, or were. */
void rest_note(struct rest *rest, size_t end_bytes);
/* Something is not in use any more. */
void rest_look(struct rest *rest);
/* Nothing more is given back. */
void rest_stop(struct rest *rest);
