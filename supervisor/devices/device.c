/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/devices/device.h"

#include <assert.h>
#include <stdio.h>

#include "shared/clock.h"
#include "shared/saturate.h"

void device_begin(struct device *device, const char *name, const struct device_ops *ops)
{
	*device = (struct device){ .ops = ops };
	(void)snprintf(device->name, sizeof(device->name), "%s", name);
	LIST_INIT(&device->uses);
}

void device_set_neighbour(struct device *device, uint64_t others_bytes)
{
	device->has_neighbour = true;
	device->others_bytes = others_bytes;
}

void device_fini(struct device *device)
{
	assert(LIST_EMPTY(&device->uses));
	(void)device;
}

void device_add(struct device *device, struct device_use *use, pid_t pid,
                uint64_t claim_bytes)
{
	*use = (struct device_use){
		.device = device,
		.pid = pid,
		.fd = -1,
		.claim_bytes = claim_bytes,
		.added_ns = clock_now_ns(),
	};
	if (device->ops->begin)
		device->ops->begin(use);
	LIST_INSERT_HEAD(&device->uses, use, link);
}

void device_add_memory(struct device *device, struct device_use *use, int fd,
                       uint64_t claim_bytes)
{
	device_add(device, use, 0, claim_bytes);
	use->fd = fd;
}

void device_add_tree(struct device_use *use)
{
	use->is_tree = true;
}

void device_remove(struct device_use *use)
{
	if (!use->device)
		return;
	LIST_REMOVE(use, link);
	/* What it held is free, and the next decision may need it. */
	host_forget(&use->device->memory);
	use->device = NULL;
	use->now_bytes = use->claim_bytes = 0;
}

void device_claim(struct device_use *use, uint64_t bytes)
{
	use->claim_bytes = bytes;
	use->unseen_ns = 0;
}

void device_claim_until_seen(struct device_use *use)
{
	use->unseen_ns = clock_now_ns();
}

void device_serve(struct device_use *use, uint64_t bytes)
{
	use->peak_bytes = use->now_bytes = bytes;
	use->base_bytes = 0;
	use->is_serving = true;
}

void device_resize(struct device_use *use, uint64_t bytes)
{
	use->memory_bytes = use->now_bytes = bytes;
}

static void device_note(struct device *device)
{
	struct device_use *use;

	LIST_FOREACH (use, &device->uses, link)
		(void)device_look(use);
}

uint64_t device_look(struct device_use *use)
{
	if (!use->device)
		return 0;
	use->now_bytes = use->device->ops->look(use);
	if (use->now_bytes > use->peak_bytes)
		use->peak_bytes = use->now_bytes;
	if (use->is_serving && use->base_bytes == 0)
		use->base_bytes = use->now_bytes;
	return use->now_bytes;
}

bool device_measure(struct device *device)
{
	bool is_fresh = device->ops->refresh(device);

	device_note(device);
	return is_fresh;
}

struct device_room device_room_seen(struct device *device)
{
	struct device_room room = {
		.budget_bytes = device->config.budget_bytes ? device->config.budget_bytes
		                                            : UINT64_MAX,
		.reserve_bytes = device->config.reserve_bytes,
		.used_bytes = device->others_bytes,
		.has_neighbour = device->has_neighbour,
	};
	struct device_use *use;
	uint64_t claimed_bytes = 0;
	uint64_t leaving_bytes = 0;

	device_note(device);
	room.available_bytes = device->ops->available(device);
	LIST_FOREACH (use, &device->uses, link) {
		uint64_t missing = saturate_minus(use->claim_bytes, use->now_bytes);

		if (use->is_leaving) {
			leaving_bytes += use->now_bytes;
			continue;
		}
		room.used_bytes += use->now_bytes + missing;
		claimed_bytes += missing;
	}
	/* The machine counts memory that is only claimed as available. */
	if (room.available_bytes != UINT64_MAX)
		room.available_bytes += leaving_bytes;
	if (room.available_bytes != UINT64_MAX)
		room.available_bytes -= claimed_bytes < room.available_bytes
		                                ? claimed_bytes
		                                : room.available_bytes;
	return room;
}

void device_room_give(struct device_room *room, uint64_t bytes)
{
	room->used_bytes = saturate_minus(room->used_bytes, bytes);
	if (room->available_bytes != UINT64_MAX)
		room->available_bytes += bytes;
}

struct device_room device_room(struct device *device)
{
	(void)device_measure(device);
	return device_room_seen(device);
}

uint64_t device_peaks(const struct device *device, const struct device_use *except)
{
	const struct device_use *use;
	uint64_t bytes = 0;

	LIST_FOREACH (use, &device->uses, link) {
		uint64_t counted_bytes = use->claim_bytes > use->now_bytes
		                                 ? use->claim_bytes
		                                 : use->now_bytes;

		if (use != except && !use->is_leaving && use->peak_bytes > counted_bytes)
			bytes += use->peak_bytes - counted_bytes;
	}
	return bytes;
}

bool device_has_room(struct device *device, uint64_t need_bytes, uint64_t coming_bytes)
{
	struct device_room room = device_room(device);
	uint64_t used_bytes = saturate_minus(room.used_bytes, coming_bytes);
	uint64_t free_bytes = saturate_minus(room.budget_bytes, used_bytes);

	if (room.available_bytes != UINT64_MAX &&
	    room.available_bytes + coming_bytes < free_bytes)
		free_bytes = room.available_bytes + coming_bytes;
	return free_bytes >= need_bytes && free_bytes - need_bytes >= room.reserve_bytes;
}
