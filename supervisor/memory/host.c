/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/memory/host.h"

#include "supervisor/memory/cgroup.h"
#include "supervisor/memory/memory.h"

void host_init(struct host *host, struct ev_loop *loop)
{
	*host = (struct host){ .loop = loop };
}

uint64_t host_round(struct host *host)
{
	/* libev counts when it goes to wait, so no round lasts across a wait. Before the
	 * first one nothing says how much time goes by. */
	unsigned int iteration = host->loop ? ev_iteration(host->loop) : 0;

	if (iteration == 0 || iteration != host->iteration)
		host->round++;
	host->iteration = iteration;
	return host->round;
}

void host_forget(struct host *host)
{
	host->round++;
}

static void host_read(struct host *host)
{
	uint64_t round = host_round(host);
	struct cgroup_memory group;

	if (host->read_round == round)
		return;
	group = cgroup_memory_read();
	host->read_round = round;
	host->oom_kills = group.oom_kills;
	host->available_bytes = memory_available();
	if (group.free_bytes < host->available_bytes)
		host->available_bytes = group.free_bytes;
}

uint64_t host_available(struct host *host)
{
	host_read(host);
	return host->available_bytes;
}

uint64_t host_oom_kills(struct host *host)
{
	host_read(host);
	return host->oom_kills;
}
