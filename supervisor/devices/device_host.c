/* SPDX-License-Identifier: Apache-2.0 */

/* Main memory as a device. A process is measured once in a round of the loop. */

#include <sys/stat.h>

#include "supervisor/devices/device.h"

static bool device_host_refresh(struct device *device)
{
	(void)device; /* each round reads the kernel's figures when they are asked for */
	return true;
}

static uint64_t device_host_look(struct device_use *use)
{
	uint64_t round = host_round(&use->device->memory);
	struct memory_size size;
	struct stat memory;

	if (use->pid == 0)
		return fstat(use->fd, &memory) < 0 ? 0 : (uint64_t)memory.st_blocks * 512;
	if (use->round == round)
		return use->now_bytes;
	size = memory_size_of(use->pid);
	use->round = round;
	use->resident_bytes = size.resident_bytes;
	return size.anon_bytes;
}

static uint64_t device_host_available(struct device *device)
{
	uint64_t available_bytes = host_available(&device->memory);

	return available_bytes ? available_bytes : UINT64_MAX;
}

struct memory_sample device_sample(struct device *host, uint64_t shared_bytes)
{
	return (struct memory_sample){
		.available_bytes = host_available(&host->memory),
		.shared_bytes = shared_bytes,
	};
}

void device_sample_add(struct memory_sample *sample, struct device_use *use,
                       uint64_t pss_bytes)
{
	uint64_t anon_bytes = device_look(use);

	sample->loader_anon_bytes += anon_bytes;
	sample->loader_rss_bytes += use->device ? use->resident_bytes : 0;
	sample->loader_pss_bytes += pss_bytes;
}

void device_init(struct device *device, const char *name, struct ev_loop *loop)
{
	static const struct device_ops ops = {
		.refresh = device_host_refresh,
		.look = device_host_look,
		.available = device_host_available,
	};

	device_begin(device, name, &ops);
	host_init(&device->memory, loop);
}
