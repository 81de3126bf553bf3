/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/traffic/evidence.h"

#include <stdlib.h>
#include <string.h>

#include "supervisor/traffic/queue.h"

struct evidence *evidence_new(void)
{
	return calloc(1, sizeof(struct evidence));
}

void evidence_free(struct evidence *evidence)
{
	for (size_t i = 0; evidence && i < EVIDENCE_KIND_COUNT * EVIDENCE_CASES; i++)
		free(evidence->sets[i / EVIDENCE_CASES].cases[i % EVIDENCE_CASES].data);
	free(evidence);
}

/* The place for the case at hand, or NULL: it was not chosen. Vitter's algorithm R. */
static struct evidence_case *evidence_choose(struct evidence_set *set)
{
	uint64_t n_seen = ++set->n_seen;
	uint32_t chosen;

	if (n_seen <= EVIDENCE_CASES)
		return &set->cases[n_seen - 1];
	if (n_seen > UINT32_MAX)
		return NULL;
	chosen = arc4random_uniform((uint32_t)n_seen);
	return chosen < EVIDENCE_CASES ? &set->cases[chosen] : NULL;
}

void evidence_note(struct evidence *evidence, enum evidence_kind kind,
                   const struct request *request)
{
	size_t bytes = request->head_bytes + request->body_bytes;
	const unsigned char *arena = request->queue->memory.base;
	struct evidence_case *place;
	unsigned char *data;

	if (!evidence || bytes > EVIDENCE_BYTES_MAX)
		return;
	place = evidence_choose(&evidence->sets[kind]);
	data = place ? malloc(bytes) : NULL;
	if (!data)
		return;
	memcpy(data, arena + request->offset, request->head_bytes);
	memcpy(data + request->head_bytes, arena + request->body_offset,
	       request->body_bytes);
	free(place->data);
	*place = (struct evidence_case){ .data = data,
		                         .head_bytes = request->head_bytes,
		                         .body_bytes = request->body_bytes };
}
