/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Host memory as the kernel tells it: what the machine has, and what one process holds.
 * Each reading is cheap: /proc/meminfo and /proc/PID/statm cost microseconds however
 * large the process is. The proportional figures of smaps cost a walk over all pages,
 * so each loader measures its own and reports them.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct memory_sample {
	uint64_t available_bytes;   /* MemAvailable, or less by a limit; 0: not known */
	uint64_t loader_rss_bytes;  /* of the loaders asked for, together */
	uint64_t loader_anon_bytes; /* RssAnon: what nobody else can hold */
	uint64_t loader_pss_bytes;  /* as the loaders reported it; 0: not known */
	uint64_t shared_bytes;      /* weights that loaders share, each copy once */
};

/* Memory of one process; all 0 when it is gone. */
struct memory_size {
	uint64_t virtual_bytes;
	uint64_t resident_bytes;
	uint64_t anon_bytes; /* resident, and nobody else's: RssAnon */
};

/* Reads the start of a small file under /proc or /sys into @text, terminated. False:
 * not readable. */
bool memory_read_file(const char *path, char *text, size_t size);

/* What the machine can still give; 0: not known. */
uint64_t memory_available(void);
struct memory_size memory_size_of(pid_t pid);
/* A new reference, each; @bytes that are not known or without limit (UINT64_MAX) are
 * null. */
json_t *memory_bytes_to_json(uint64_t bytes);
json_t *memory_to_json(const struct memory_sample *sample);
