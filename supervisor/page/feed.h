/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Server-sent events for some readers: the last FEED_MESSAGES of them, once for all. A reader is a
 * place in there, and has no buffer of its own but for its first message. One that reads so slowly
 * that its place is gone has to go: nobody waits for it. Pure: no connection, no clock.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FEED_MESSAGES 8

struct feed {
	char *texts[FEED_MESSAGES]; /* by number modulo FEED_MESSAGES; owned */
	size_t bytes[FEED_MESSAGES];
	uint64_t next; /* the number of the next message */
};

struct feed_reader {
	uint64_t next; /* the number of the message that it is at */
	size_t sent;   /* of it, or of the first one */
	char *first;   /* for this reader alone, before others; owned; NULL: over */
	size_t first_bytes;
};

/* All zero is a feed, and a reader of nothing. */
void feed_fini(struct feed *feed);
/* Adds the message @event with the data @json. 0 or -ENOMEM: it is left out. */
int feed_push(struct feed *feed, const char *event, const json_t *json);

/* Begins behind the newest message, after one of its own. 0 or -ENOMEM. */
int feed_open(const struct feed *feed, struct feed_reader *reader, const char *event,
              const json_t *json);
/* Accepts a reader that was never opened. */
void feed_close(struct feed_reader *reader);
/* True: its place is gone, and feed_read() fails. */
bool feed_has_lost(const struct feed *feed, const struct feed_reader *reader);
/* Copies up to @size bytes of what comes next. Their number; 0: nothing is there yet; -ESTALE: the
 * reader was too slow. */
ssize_t feed_read(const struct feed *feed, struct feed_reader *reader, char *buffer,
                  size_t size);
