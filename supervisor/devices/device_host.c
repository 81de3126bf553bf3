/* SPDX-License-Identifier: Apache-2.0 */

/* Main memory as a device. A process is measured once in a round of the loop. */

#include <sys/stat.h>

#include "shared/clock.h"
#include "supervisor/devices/device.h"
#include "supervisor/process/proc.h"

/* Processes of one tree that are measured; each costs microseconds, and so does each thread. */
#define DEVICE_TREE_MAX 128
/* The time between two measurings of a tree. */
#define DEVICE_TREE_NS (100 * CLOCK_NS_PER_MS)

static bool device_host_refresh(struct device *device)
{
	(void)device; /* each round reads the kernel's figures when they are asked for */
	return true;
}

static void device_host_add(struct memory_size *size, pid_t pid)
{
	struct memory_size one = memory_size_of(pid);

	size->resident_bytes += one.resident_bytes;
	size->anon_bytes += one.anon_bytes;
}

/* Measures all processes below that of @use, each behind its parent in the list. */
static struct memory_size device_host_tree(const struct device_use *use)
{
	pid_t pids[DEVICE_TREE_MAX];
	struct memory_size size = { 0 };
	size_t n = proc_children(use->pid, pids, DEVICE_TREE_MAX);

	for (size_t i = 0; i < n; i++) {
		device_host_add(&size, pids[i]);
		n += proc_children(pids[i], pids + n, DEVICE_TREE_MAX - n);
	}
	return size;
}

/* Measures a process, and with it those below it, which change more seldom and cost more. */
static struct memory_size device_host_size(struct device_use *use)
{
	uint64_t now_ns = clock_now_ns();
	struct memory_size size = memory_size_of(use->pid);

	if (use->is_tree && now_ns - use->tree_ns > DEVICE_TREE_NS) {
		use->tree = device_host_tree(use);
		use->tree_ns = now_ns;
	}
	size.resident_bytes += use->tree.resident_bytes;
	size.anon_bytes += use->tree.anon_bytes;
	return size;
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
	size = device_host_size(use);
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
