/* SPDX-License-Identifier: Apache-2.0 */

/* The memory that a model holds now, all of its processes together. */

#include "shared/clock.h"
#include "supervisor/reload/reload.h"

/* Room for every generation that may have a process. */
#define MODEL_MEMORY_MAX (FLEET_MAX + FLEET_STUCK)

static uint64_t model_memory_look(struct device_use *use, uint64_t until_ns)
{
	if (!use->device)
		return 0;
	return clock_now_ns() < until_ns ? device_look(use) : use->now_bytes;
}

static size_t model_memory_list(const struct model *model,
                                struct generation *ret_list[MODEL_MEMORY_MAX])
{
	size_t n = fleet_list(&model->fleet, ret_list);

	for (size_t i = 0; i < FLEET_STUCK; i++)
		if (model->fleet.stuck[i])
			ret_list[n++] = model->fleet.stuck[i];
	return n;
}

/* Counts each copy of shared weights once, wherever it lies. */
static void model_memory_add_copies(struct model_memory *memory,
                                    struct generation *const *list, size_t n,
                                    uint64_t until_ns)
{
	for (size_t i = 0; i < n; i++) {
		struct store_copy *copy = list[i]->copy;
		bool is_known = !copy;

		for (size_t j = 0; j < i && !is_known; j++)
			is_known = list[j]->copy == copy;
		if (is_known)
			continue;
		if (store_copy_is_placed(copy))
			memory->gpu_shared_bytes += copy->use.memory_bytes;
		else
			memory->host_shared_bytes +=
				model_memory_look(&copy->use, until_ns);
	}
}

struct model_memory model_memory(const struct model *model, uint64_t until_ns)
{
	struct generation *list[MODEL_MEMORY_MAX];
	size_t n = model_memory_list(model, list);
	struct model_memory memory = { .gpu_index = -1 };
	const struct device *gpu =
		devices_gpu(model->context.devices, model_config(model)->device);

	if (gpu) {
		memory.gpu = gpu->name;
		memory.gpu_index = devices_index(model->context.devices, gpu);
	}
	for (size_t i = 0; i < n; i++) {
		memory.host_bytes += model_memory_look(&list[i]->use, until_ns);
		memory.gpu_bytes += model_memory_look(&list[i]->gpu_use, until_ns);
	}
	model_memory_add_copies(&memory, list, n, until_ns);
	memory.host_bytes += memory.host_shared_bytes;
	memory.gpu_bytes += memory.gpu_shared_bytes;
	return memory;
}
