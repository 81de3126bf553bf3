/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/queue.h"

#include <assert.h>
#include <stdlib.h>

#include "shared/clock.h"
#include "supervisor/loop/pump.h"

/* How long a body stays under suspicion. */
#define QUEUE_SUSPICION_NS (300 * CLOCK_NS_PER_SEC)
/* Freed requests that are kept for the next ones, of half a KiB each: as many as clients mostly
 * have under way. */
#define QUEUE_SPARES_MAX 256

int queue_init(struct queue *queue, struct pump *pump, const char *model,
               size_t arena_bytes, uint64_t max_body_bytes)
{
	int r;

	*queue = (struct queue){
		.model = model,
		.pump = pump,
		.loop = pump->loop,
		.memory = MEMFD_NULL,
		.max_body_bytes = max_body_bytes,
	};
	for (size_t i = 0; i < QUEUE_LEVELS; i++)
		TAILQ_INIT(&queue->levels[i]);
	TAILQ_INIT(&queue->suspects);
	TAILQ_INIT(&queue->spares);
	r = arena_init(&queue->arena, arena_bytes);
	if (r < 0)
		return r;
	r = memfd_create_sealed(&queue->memory, "moult-requests", queue->arena.size_bytes,
	                        MEMFD_PEER_READS);
	if (r < 0)
		arena_fini(&queue->arena);
	return r;
}

void queue_fini(struct queue *queue)
{
	struct request *request;

	assert(queue_is_empty(queue) && queue->arena.used_bytes == 0);
	while ((request = TAILQ_FIRST(&queue->spares))) {
		TAILQ_REMOVE(&queue->spares, request, link);
		free(request);
	}
	memfd_fini(&queue->memory);
	arena_fini(&queue->arena);
}

struct request *queue_new_request(struct queue *queue)
{
	struct request *request = TAILQ_FIRST(&queue->spares);

	if (request) {
		TAILQ_REMOVE(&queue->spares, request, link);
		queue->n_spares--;
	} else {
		request = malloc(sizeof(*request));
	}
	if (request)
		*request = (struct request){ .queue = queue };
	return request;
}

void queue_free_request(struct queue *queue, struct request *request)
{
	if (queue->n_spares == QUEUE_SPARES_MAX) {
		free(request);
		return;
	}
	TAILQ_INSERT_HEAD(&queue->spares, request, link);
	queue->n_spares++;
}

void queue_listen(struct queue *queue,
                  void (*on_answer)(void *context, const struct request *request,
                                    const struct proto_answer *answer, uint64_t now_ns),
                  void *context)
{
	queue->on_answer = on_answer;
	queue->context = context;
}

uint8_t queue_level(uint64_t priority)
{
	if (priority == 0)
		return QUEUE_LEVEL_DEFAULT;
	return priority < QUEUE_LEVELS ? (uint8_t)(priority - 1) : QUEUE_LEVELS - 1;
}

static struct request_list *queue_list_of(struct queue *queue,
                                          const struct request *request)
{
	return request->is_suspect ? &queue->suspects : &queue->levels[request->level];
}

void queue_hold(struct queue *queue, struct request *request)
{
	struct request_list *list = queue_list_of(queue, request);
	const struct request *last = TAILQ_LAST(list, request_list);
	struct request *other;

	request_set_state(request, REQUEST_HELD);
	if (!last || last->accepted_ns <= request->accepted_ns) {
		TAILQ_INSERT_TAIL(list, request, link);
		return;
	}
	/* A request that comes back from a loader: hardly any held one is older. */
	TAILQ_FOREACH (other, list, link)
		if (other->accepted_ns > request->accepted_ns)
			break;
	TAILQ_INSERT_BEFORE(other, request, link);
}

void queue_take(struct queue *queue, struct request *request)
{
	TAILQ_REMOVE(queue_list_of(queue, request), request, link);
}

struct request *queue_next(struct queue *queue, uint32_t leased)
{
	struct request *suspect = TAILQ_FIRST(&queue->suspects);

	if (suspect)
		return leased == 0 ? suspect : NULL;
	for (size_t i = 0; i < QUEUE_LEVELS; i++)
		if (!TAILQ_EMPTY(&queue->levels[i]))
			return TAILQ_FIRST(&queue->levels[i]);
	return NULL;
}

bool queue_is_empty(const struct queue *queue)
{
	return queue->counts.held == 0;
}

size_t queue_json_bytes(const struct request *request)
{
	return request->json_bytes < request->body_bytes ? request->json_bytes
	                                                 : request->body_bytes;
}

const void *queue_body(const struct queue *queue, const struct request *request)
{
	return (const unsigned char *)queue->memory.base + request->body_offset;
}

void queue_set_suspect(struct request *request, bool is_suspect)
{
	request->is_suspect = is_suspect;
}

void queue_note_suspect(struct queue *queue, const struct request *request,
                        bool is_answered)
{
	const void *body = queue_body(queue, request);
	struct poison_print print;

	/* The body alone does not tell one hosted request from another. */
	if (request->is_hosted)
		return;
	if (is_answered) {
		poison_forget(&queue->suspicion, body, request->body_bytes);
		return;
	}
	poison_print_of(&print, body, request->body_bytes);
	poison_add(&queue->suspicion, &print, clock_now_ns());
}

bool queue_is_suspicious(struct queue *queue, const struct request *request)
{
	return !request->is_hosted &&
	       poison_find(&queue->suspicion, queue_body(queue, request),
	                   request->body_bytes, clock_now_ns(), QUEUE_SUSPICION_NS);
}
