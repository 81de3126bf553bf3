/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A message that takes the place of an older one frees it at once: reading copies, so that nobody
 * holds a text between two calls.
 */

#include "supervisor/page/feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/cleanup.h"

/* "event: NAME\ndata: {...}\n\n"; JSON in its compact form has no line's end. NULL: no memory. */
static char *feed_print(const char *event, const json_t *json, size_t *ret_bytes)
{
	FREE char *data =
		json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
	char *text = NULL;
	int bytes = data ? asprintf(&text, "event: %s\ndata: %s\n\n", event, data) : -1;

	if (bytes < 0)
		return NULL;
	*ret_bytes = (size_t)bytes;
	return text;
}

void feed_fini(struct feed *feed)
{
	for (size_t i = 0; i < FEED_MESSAGES; i++)
		free(feed->texts[i]);
	*feed = (struct feed){ .next = 0 };
}

int feed_push(struct feed *feed, const char *event, const json_t *json)
{
	size_t bytes;
	char *text = feed_print(event, json, &bytes);
	size_t at = feed->next % FEED_MESSAGES;

	if (!text)
		return -ENOMEM;
	free(feed->texts[at]);
	feed->texts[at] = text;
	feed->bytes[at] = bytes;
	feed->next++;
	return 0;
}

int feed_open(const struct feed *feed, struct feed_reader *reader, const char *event,
              const json_t *json)
{
	*reader = (struct feed_reader){ .next = feed->next };
	reader->first = feed_print(event, json, &reader->first_bytes);
	return reader->first ? 0 : -ENOMEM;
}

void feed_close(struct feed_reader *reader)
{
	free(reader->first);
	*reader = (struct feed_reader){ .next = 0 };
}

static ssize_t feed_copy(struct feed_reader *reader, const char *text, size_t bytes,
                         char *buffer, size_t size)
{
	size_t n = bytes - reader->sent < size ? bytes - reader->sent : size;

	memcpy(buffer, text + reader->sent, n);
	reader->sent += n;
	return (ssize_t)n;
}

bool feed_has_lost(const struct feed *feed, const struct feed_reader *reader)
{
	return feed->next - reader->next > FEED_MESSAGES;
}

ssize_t feed_read(const struct feed *feed, struct feed_reader *reader, char *buffer,
                  size_t size)
{
	size_t at = reader->next % FEED_MESSAGES;
	ssize_t n;

	/* Also while the first message is on its way: one that takes that long is slow. */
	if (feed_has_lost(feed, reader))
		return -ESTALE;
	if (reader->first) {
		n = feed_copy(reader, reader->first, reader->first_bytes, buffer, size);
		if (reader->sent == reader->first_bytes) {
			free(reader->first);
			reader->first = NULL;
			reader->sent = 0;
		}
		return n;
	}
	if (reader->next == feed->next)
		return 0;
	n = feed_copy(reader, feed->texts[at], feed->bytes[at], buffer, size);
	if (reader->sent == feed->bytes[at]) {
		reader->sent = 0;
		reader->next++;
	}
	return n;
}
