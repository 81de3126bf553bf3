/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The driver's libnvidia-ml.so.1, by dlopen() and by explicit versions of its symbols: the
 * names without one mean the oldest structures. No header of NVIDIA's is needed; what is
 * declared here has the layout of its ABI, which does not change under a versioned name.
 *
 * Every call may block for as long as the driver likes: for moult-nvml alone, never for
 * moultd. Nothing here makes a CUDA context.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "supervisor/nvml_wire.h"

#define NVML_LIBRARY "libnvidia-ml.so.1"

enum nvml_code {
	NVML_SUCCESS = 0,
	NVML_E_NOT_SUPPORTED = 3,
	NVML_E_INSUFFICIENT_SIZE = 7,
};

/* nvmlMemory_v2_t */
struct nvml_memory_v2 {
	unsigned int version;
	unsigned long long total;
	unsigned long long reserved;
	unsigned long long free;
	unsigned long long used; /* reserved memory is not in it */
};

/* nvmlMemory_t */
struct nvml_memory_v1 {
	unsigned long long total;
	unsigned long long free;
	unsigned long long used; /* reserved memory is in it */
};

/* nvmlProcessInfo_v2_t, which the third version of the call fills as well */
struct nvml_process_v2 {
	unsigned int pid;
	unsigned long long used_bytes;
	unsigned int gpu_instance;
	unsigned int compute_instance;
};

/* The version that the second structure is marked with: its size and its number. */
#define NVML_MEMORY_V2 ((unsigned int)sizeof(struct nvml_memory_v2) | 2u << 24)

_Static_assert(sizeof(struct nvml_memory_v1) == 24, "ABI of nvmlMemory_t");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "ABI of nvmlMemory_v2_t");
_Static_assert(offsetof(struct nvml_memory_v2, used) == 32, "ABI of nvmlMemory_v2_t");
_Static_assert(sizeof(struct nvml_process_v2) == 24, "ABI of nvmlProcessInfo_v2_t");
_Static_assert(offsetof(struct nvml_process_v2, gpu_instance) == 16,
               "ABI of nvmlProcessInfo_v2_t");

struct nvml_handle; /* the driver's */

struct nvml_library {
	void *dl;
	struct nvml_handle *cards[NVML_CARDS_MAX];
	char uuids[NVML_CARDS_MAX][NVML_UUID_BYTES];
	unsigned int n_cards;
	char driver[80];
	int (*shutdown)(void);
	const char *(*error)(int code);
	int (*memory_v2)(struct nvml_handle *card, struct nvml_memory_v2 *memory);
	int (*memory_v1)(struct nvml_handle *card, struct nvml_memory_v1 *memory);
	int (*processes)(struct nvml_handle *card, unsigned int *count,
	                 struct nvml_process_v2 *processes);
};

/* Opens the library @name and every card, which stay open: the driver keeps the state of a
 * card only while somebody has it open. 0, or -errno with a sentence. */
int nvml_library_open(struct nvml_library *library, const char *name, struct err *err);
void nvml_library_close(struct nvml_library *library);

/* Fills everything but the number. */
void nvml_library_read(struct nvml_library *library, struct nvml_report *ret_report);
