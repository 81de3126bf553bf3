/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The control group that this process is in, as far as memory goes (cgroups(7), both
 * versions), and the kernel's count of processes that it killed for want of memory.
 */

#include <stdint.h>

struct cgroup_memory {
	uint64_t
		free_bytes; /* until the next limit, caches counted as free; UINT64_MAX */
	uint64_t oom_kills; /* in this group where it tells, else on the machine */
};

struct cgroup_memory cgroup_memory_read(void);
