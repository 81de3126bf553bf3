/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Resolves names in the configuration ("cuda", "cuda:1", "cuda:GPU-...") to cards.
 *
 * A name is looked up once and stays with its card, because the driver counts another
 * way when a card falls off the bus. Two names of one card lead to one struct device,
 * so that its memory counts once. Where the driver says nothing, no name is refused:
 * budgets alone decide then. moult-nvml is started only when a model or a section names
 * a GPU.
 */

#include "supervisor/devices/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/log.h"

#define DEVICES_PREFIX "cuda:"

static const char *devices_uuid_part(const char *name)
{
	size_t bytes = strlen(DEVICES_PREFIX);

	return strncmp(name, DEVICES_PREFIX "GPU-", bytes + 4) == 0 ? name + bytes : NULL;
}

static bool devices_is_gpu(const char *name)
{
	return strcmp(name, "cuda") == 0 ||
	       strncmp(name, DEVICES_PREFIX, strlen(DEVICES_PREFIX)) == 0;
}

/* The only card whose UUID begins with @part, as CUDA accepts a shortened one; NULL:
 * none, or several. */
static const char *devices_complete(const struct nvml *nvml, const char *part)
{
	const char *found = NULL;

	for (unsigned int i = 0; i < NVML_CARDS_MAX; i++) {
		const char *uuid = nvml_uuid(nvml, i);

		if (!uuid || strncmp(uuid, part, strlen(part)) != 0)
			continue;
		if (found)
			return NULL;
		found = uuid;
	}
	return found;
}

/* UUID in the @index-th entry of CUDA_VISIBLE_DEVICES, by which CUDA counts, or of the
 * driver when moultd has none. NULL: not known, as of a part of a card. */
static const char *devices_visible_entry(const struct nvml *nvml, unsigned int index)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");
	char entry[NVML_UUID_BYTES];
	char *end;
	unsigned long number;

	if (!list)
		return nvml_uuid(nvml, index);
	while (index-- > 0) {
		list = strchr(list, ',');
		if (!list)
			return NULL;
		list++;
	}
	(void)snprintf(entry, sizeof(entry), "%.*s", (int)strcspn(list, ","), list);
	if (strncmp(entry, "GPU-", 4) == 0)
		return devices_complete(nvml, entry);
	number = strtoul(entry, &end, 10);
	return end != entry && *end == '\0' && number < NVML_CARDS_MAX
	               ? nvml_uuid(nvml, (unsigned int)number)
	               : NULL;
}

/* UUID of the card that @name means, or NULL. Good until the next report. */
static const char *devices_resolve(const struct devices *devices, const char *name)
{
	const char *uuid = devices_uuid_part(name);
	unsigned long index = 0;

	if (uuid)
		return uuid;
	if (strncmp(name, DEVICES_PREFIX, strlen(DEVICES_PREFIX)) == 0)
		index = strtoul(name + strlen(DEVICES_PREFIX), NULL, 10);
	return devices_visible_entry(&devices->nvml, (unsigned int)index);
}

static struct device *devices_find(struct devices *devices, const char *name,
                                   const char *uuid)
{
	/* A name stays with its card, although the driver may count another way later. */
	for (size_t i = 0; i < devices->n_gpus; i++)
		if (strcmp(devices->gpus[i].name, name) == 0)
			return &devices->gpus[i];
	for (size_t i = 0; uuid && i < devices->n_gpus; i++)
		if (strcmp(devices->gpus[i].uuid, uuid) == 0)
			return &devices->gpus[i];
	return NULL;
}

/* Prints "GPU-..., GPU-...", all cards that the driver has. */
static void devices_list(const struct nvml *nvml, char *text, size_t size)
{
	const char *uuid;
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < NVML_CARDS_MAX && used < size; i++) {
		uuid = nvml_uuid(nvml, i);
		if (uuid)
			used += (size_t)snprintf(text + used, size - used, "%s%s",
			                         used ? ", " : "", uuid);
	}
}

/* A card that was there once is known, and may come back. */
static bool devices_is_known(const struct devices *devices, const char *name,
                             const char *uuid)
{
	for (size_t i = 0; i < devices->n_gpus; i++)
		if (devices->gpus[i].uuid[0] != '\0' &&
		    (strcmp(devices->gpus[i].name, name) == 0 ||
		     (uuid && strcmp(devices->gpus[i].uuid, uuid) == 0)))
			return true;
	for (unsigned int i = 0; uuid && i < NVML_CARDS_MAX; i++) {
		const char *present = nvml_uuid(&devices->nvml, i);

		if (present && strcmp(present, uuid) == 0)
			return true;
	}
	return false;
}

int devices_check(const struct devices *devices, const char *device, struct err *err)
{
	const char *name = strcmp(device, "cuda") == 0 ? "cuda:0" : device;
	char list[300];

	/* CUDA_VISIBLE_DEVICES may name a part of a card, which is in no list. */
	if (!devices_is_gpu(device) || devices->nvml.as_of_ns == 0 ||
	    (getenv("CUDA_VISIBLE_DEVICES") && !devices_uuid_part(name)) ||
	    devices_is_known(devices, name, devices_resolve(devices, name)))
		return 0;
	devices_list(&devices->nvml, list, sizeof(list));
	return err_set(err, -ENODEV,
	               "%s: there is no such GPU: set device to one of those that there "
	               "are (%s)",
	               device, list);
}

/* A section may call the card by another of its names. */
static void devices_configure(struct devices *devices, struct device *gpu)
{
	const struct config *config = devices->config;

	gpu->config = config->gpu_fallback;
	for (size_t i = 0; i < config->n_gpus; i++) {
		const char *name = config->gpus[i].name;
		const char *uuid = devices_resolve(devices, name);

		if (strcmp(name, gpu->name) == 0 ||
		    (uuid && strcmp(uuid, gpu->uuid) == 0))
			gpu->config = config->gpus[i].device;
	}
}

struct device *devices_gpu(struct devices *devices, const char *device)
{
	const char *name = strcmp(device, "cuda") == 0 ? "cuda:0" : device;
	const char *uuid;
	struct device *gpu;

	if (!devices_is_gpu(device) || devices_check(devices, device, NULL) < 0)
		return NULL;
	uuid = devices_resolve(devices, name);
	gpu = devices_find(devices, name, uuid);
	if (!gpu && devices->n_gpus < DEVICES_GPUS_MAX) {
		gpu = &devices->gpus[devices->n_gpus++];
		device_init_nvml(gpu, name, &devices->nvml);
	}
	if (gpu && gpu->uuid[0] == '\0' && uuid) {
		(void)snprintf(gpu->uuid, sizeof(gpu->uuid), "%s", uuid);
		nvml_want(&devices->nvml, uuid);
		log_event(LOG_LEVEL_INFO, "gpu_found", "device=%s uuid=%s", name, uuid);
	}
	if (gpu)
		devices_configure(devices, gpu);
	return gpu;
}

static bool devices_are_needed(const struct config *config)
{
	if (config->n_gpus > 0)
		return true;
	for (size_t i = 0; i < config->n_models; i++)
		if (devices_is_gpu(config->models[i]->device))
			return true;
	return false;
}

void devices_init(struct devices *devices, struct ev_loop *loop)
{
	*devices = (struct devices){ 0 };
	device_init(&devices->host, "host", loop);
	nvml_init(&devices->nvml, loop, NULL);
}

void devices_fini(struct devices *devices)
{
	nvml_fini(&devices->nvml);
	for (size_t i = 0; i < devices->n_gpus; i++)
		device_fini(&devices->gpus[i]);
	device_fini(&devices->host);
	free(devices->helper);
}

/* Warns of sections for cards that are not there: their budgets would go unnoticed. */
static void devices_check_sections(const struct devices *devices)
{
	for (size_t i = 0; i < devices->config->n_gpus; i++) {
		struct err err = ERR_NULL;

		if (devices_check(devices, devices->config->gpus[i].name, &err) < 0)
			log_event(LOG_LEVEL_WARNING, "gpu_section_unused",
			          "section=%s reason=%s",
			          LOG_QUOTED(devices->config->gpus[i].name),
			          LOG_QUOTED(err.text));
	}
}

void devices_set_config(struct devices *devices, const struct config *config)
{
	devices->config = config;
	devices->host.config = config->host;
	for (size_t i = 0; i < devices->n_gpus; i++)
		devices_configure(devices, &devices->gpus[i]);
	devices_check_sections(devices);
	if (!devices_are_needed(config))
		return;
	/* Out of memory: the next configuration tries again. */
	if (!devices->helper && config_find_helper(NVML_HELPER, &devices->helper) < 0)
		return;
	devices->nvml.program = devices->helper;
	(void)nvml_start(&devices->nvml);
}

void devices_wait(struct devices *devices)
{
	nvml_wait_start(&devices->nvml);
	devices_check_sections(devices);
}

static json_t *devices_bytes(bool is_known, uint64_t bytes)
{
	return memory_bytes_to_json(is_known ? bytes : UINT64_MAX);
}

static json_t *devices_loaders_to_json(const struct device *gpu)
{
	json_t *array = json_array();
	const struct device_use *use;

	LIST_FOREACH (use, &gpu->uses, link)
		(void)json_array_append_new(
			array,
			json_pack("{s:i,s:o,s:o,s:o}", "pid", (int)use->pid, "bytes",
		                  devices_bytes(true, use->now_bytes), "peak_bytes",
		                  devices_bytes(true, use->peak_bytes), "claim_bytes",
		                  devices_bytes(true, use->claim_bytes)));
	return array;
}

int devices_index(const struct devices *devices, const struct device *gpu)
{
	const char *uuid;

	for (unsigned int i = 0; (uuid = nvml_uuid(&devices->nvml, i)); i++)
		if (*gpu->uuid && strcmp(uuid, gpu->uuid) == 0)
			return (int)i;
	return -1;
}

json_t *devices_memory_to_json(struct devices *devices)
{
	struct device_room room = device_room_seen(&devices->host);

	return json_pack("{s:o,s:o,s:o,s:o}", "loaders_bytes",
	                 devices_bytes(true, room.used_bytes), "budget_bytes",
	                 devices_bytes(true, room.budget_bytes), "reserve_bytes",
	                 devices_bytes(true, room.reserve_bytes), "available_bytes",
	                 devices_bytes(true, room.available_bytes));
}

json_t *devices_to_json(struct devices *devices)
{
	json_t *array = json_array();

	if (devices->n_gpus > 0)
		nvml_glance(&devices->nvml);
	for (size_t i = 0; i < devices->n_gpus; i++) {
		struct device *gpu = &devices->gpus[i];
		struct device_room room = device_room_seen(gpu);
		struct device_figures figures = device_figures(gpu);

		(void)json_array_append_new(
			array,
			json_pack(
				"{s:s,s:s?,s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:o,s:o}",
				"name", gpu->name, "uuid",
				gpu->uuid[0] ? gpu->uuid : NULL, "known",
				(int)figures.is_known, "total_bytes",
				devices_bytes(figures.is_known, figures.total_bytes),
				"used_bytes",
				devices_bytes(figures.is_known, figures.used_bytes),
				"free_bytes",
				devices_bytes(figures.is_known, figures.free_bytes),
				"loaders_bytes", devices_bytes(true, room.used_bytes),
				"budget_bytes", devices_bytes(true, room.budget_bytes),
				"reserve_bytes", devices_bytes(true, room.reserve_bytes),
				"age_ms", devices_bytes(figures.is_known, figures.age_ms),
				"xids", (json_int_t)figures.xids, "last_xid",
				devices_bytes(figures.xids > 0, figures.last_xid),
				"loaders", devices_loaders_to_json(gpu)));
	}
	return array;
}
