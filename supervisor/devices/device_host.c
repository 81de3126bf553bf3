/* SPDX-License-Identifier: Apache-2.0 */

/* Main memory as a device. */

#include <stdio.h>
#include <sys/stat.h>

#include "supervisor/devices/device.h"
#include "supervisor/memory/memory.h"

static bool device_host_refresh(struct device *device)
{
	(void)device; /* each figure is read from the kernel */
	return true;
}

static uint64_t device_host_held(const struct device_use *use)
{
	struct stat memory;

	if (use->pid == 0)
		return fstat(use->fd, &memory) < 0 ? 0 : (uint64_t)memory.st_blocks * 512;
	return memory_size_of(use->pid).anon_bytes;
}

static uint64_t device_host_available(const struct device *device)
{
	struct memory_sample machine = memory_read();

	(void)device;
	return machine.available_bytes ? machine.available_bytes : UINT64_MAX;
}

void device_init(struct device *device, const char *name)
{
	static const struct device_ops ops = {
		.kind = "host",
		.refresh = device_host_refresh,
		.held = device_host_held,
		.available = device_host_available,
	};

	*device = (struct device){ .ops = &ops };
	(void)snprintf(device->name, sizeof(device->name), "%s", name);
	LIST_INIT(&device->uses);
}
