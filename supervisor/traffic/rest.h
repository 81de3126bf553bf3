/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory of an arena that large answers have touched and that nobody has used for a while: given
 * back to the kernel in small steps, down to a part that stays warm. The next user of such memory
 * finds zeros, and pays for fresh pages.
 */

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

struct memfd;

/* Bytes at the start of an arena that are never given back. */
#define REST_WARM_BYTES ((size_t)4 << 20)

struct rest {
	struct ev_loop *loop;
	const struct memfd *memory;
	bool (*is_unused)(const void *context);
	const void *context;
	size_t touched_bytes; /* up to here there may be pages */
	bool has_news;        /* beyond REST_WARM_BYTES, since the timer was set */
	ev_timer timer;
};

/* @memory and @context are borrowed. @is_unused: nothing in @memory is of use to anybody. */
void rest_init(struct rest *rest, struct ev_loop *loop, const struct memfd *memory,
               bool (*is_unused)(const void *context), const void *context);
/* Bytes before @end_bytes are in use, or were. */
void rest_note(struct rest *rest, size_t end_bytes);
/* Nothing more is given back. */
void rest_stop(struct rest *rest);
