/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/queue.h"

#include <assert.h>

int queue_init(struct queue *queue, struct ev_loop *loop, const char *model,
               size_t arena_bytes, uint64_t max_body_bytes)
{
	int r;

	*queue = (struct queue){
		.model = model,
		.loop = loop,
		.memory = MEMFD_NULL,
		.max_body_bytes = max_body_bytes,
	};
	TAILQ_INIT(&queue->held);
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
	assert(TAILQ_EMPTY(&queue->held) && queue->arena.used_bytes == 0);
	memfd_fini(&queue->memory);
	arena_fini(&queue->arena);
}
