/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The timer runs after large answers alone, so small ones cost a comparison. It waits until nothing
 * large has come for a whole turn and nothing is in use: a client with large answers one after
 * the other does not pay for fresh pages with each. Then a slice goes in each round: freeing pages
 * takes the loop's time.
 */
#include "supervisor/traffic/rest.h"

#include "shared/memfd.h"

#define REST_AFTER_S     2.
#define REST_SLICE_BYTES ((size_t)4 << 20)
#define REST_SLICE_S     0.02

static void rest_again(struct rest *rest, double after_s)
{
	ev_timer_stop(rest->loop, &rest->timer);
	ev_timer_set(&rest->timer, after_s, 0.);
	ev_timer_start(rest->loop, &rest->timer);
}

static void rest_on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct rest *rest = timer->data;
	size_t from = rest->touched_bytes - REST_WARM_BYTES > REST_SLICE_BYTES
	                      ? rest->touched_bytes - REST_SLICE_BYTES
	                      : REST_WARM_BYTES;

	(void)loop;
	(void)revents;
	if (rest->has_news || !rest->is_unused(rest->context)) {
		rest->has_news = false;
		rest_again(rest, REST_AFTER_S);
		return;
	}
	/* Memory that the kernel does not take back is used again. */
	(void)memfd_punch(rest->memory, from, rest->touched_bytes - from);
	rest->touched_bytes = from;
	if (from > REST_WARM_BYTES)
		rest_again(rest, REST_SLICE_S);
}

void rest_init(struct rest *rest, struct ev_loop *loop, const struct memfd *memory,
               bool (*is_unused)(const void *context), const void *context)
{
	*rest = (struct rest){
		.loop = loop,
		.memory = memory,
		.is_unused = is_unused,
		.context = context,
	};
	ev_timer_init(&rest->timer, rest_on_timer, REST_AFTER_S, 0.);
	rest->timer.data = rest;
}

void rest_note(struct rest *rest, size_t end_bytes)
{
	if (end_bytes <= REST_WARM_BYTES)
		return;
	rest->has_news = true;
	if (end_bytes > rest->touched_bytes)
		rest->touched_bytes = end_bytes;
	if (!ev_is_active(&rest->timer))
		rest_again(rest, REST_AFTER_S);
}

void rest_stop(struct rest *rest)
{
	if (rest->loop)
		ev_timer_stop(rest->loop, &rest->timer);
}
