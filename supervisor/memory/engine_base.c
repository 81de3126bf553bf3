/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/memory/engine_base.h"

#include <stdio.h>
#include <string.h>

/* Index of the engine's row; ENGINE_BASES_MAX: it has none. */
static size_t engine_base_find(const struct engine_bases *bases, const char *engine)
{
	size_t n =
		bases->n_learnt < ENGINE_BASES_MAX ? bases->n_learnt : ENGINE_BASES_MAX;
	size_t i = 0;

	while (i < n && strcmp(bases->rows[i].engine, engine) != 0)
		i++;
	return i < n ? i : ENGINE_BASES_MAX;
}

uint64_t engine_base_bytes(const struct engine_bases *bases, const char *engine)
{
	size_t i = engine_base_find(bases, engine);

	if (i < ENGINE_BASES_MAX)
		return bases->rows[i].bytes;
	return strcmp(engine, "torch") == 0 ? ENGINE_BASE_TORCH_BYTES : ENGINE_BASE_BYTES;
}

void engine_base_learn(struct engine_bases *bases, const char *engine, uint64_t bytes)
{
	size_t i = engine_base_find(bases, engine);

	if (bytes == 0)
		return;
	if (i == ENGINE_BASES_MAX)
		i = bases->n_learnt++ % ENGINE_BASES_MAX;
	(void)snprintf(bases->rows[i].engine, sizeof(bases->rows[i].engine), "%s",
	               engine);
	bases->rows[i].bytes = bytes;
}
