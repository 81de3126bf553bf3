/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A device whose memory models share, and who holds how much of it. "host" is main memory:
 * what a loader holds is its RssAnon, what nobody else can use. What loaders share counts
 * once.
 *
 * A loader that is being built has a claim, the bytes that it is expected to need, so that
 * two reloads at once do not both count on the same free memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "supervisor/config.h"

struct device_use {
	LIST_ENTRY(device_use) link;
	struct device *device; /* NULL: not registered */
	pid_t pid;             /* 0: memory without a process */
	int fd;                /* that memory's, borrowed */
	bool is_leaving;       /* killed: what it holds counts as free already */
	uint64_t claim_bytes;  /* 0: it holds what it will hold */
	uint64_t now_bytes;    /* as of the last device_measure() */
	uint64_t peak_bytes;   /* most that was ever measured */
};

struct device {
	const char *name;
	struct config_device config;
	LIST_HEAD(device_uses, device_use) uses;
};

/* What there is, in bytes. */
struct device_room {
	uint64_t budget_bytes;  /* UINT64_MAX: none is set */
	uint64_t reserve_bytes; /* to be left free */
	uint64_t used_bytes;    /* by all loaders, claims included */
	uint64_t
		available_bytes; /* what the machine has to give; UINT64_MAX: not known */
};

void device_init(struct device *device, const char *name);
/* No use may be left. */
void device_fini(struct device *device);

void device_add(struct device *device, struct device_use *use, pid_t pid,
                uint64_t claim_bytes);
/* Memory that no process has to itself: the memfd @fd. */
void device_add_memory(struct device *device, struct device_use *use, int fd,
                       uint64_t claim_bytes);
/* It is gone. Nothing happens when it was never added. */
void device_remove(struct device_use *use);

/* Looks at what each loader holds now: microseconds for each. */
void device_measure(struct device *device);
/* The same and sums up. */
struct device_room device_room(struct device *device);
/* Room for @need_bytes more, once @coming_bytes are given back; the reserve stays free. */
bool device_has_room(struct device *device, uint64_t need_bytes, uint64_t coming_bytes);
