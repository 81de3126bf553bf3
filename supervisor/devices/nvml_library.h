/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The driver's libnvidia-ml.so.1, by dlopen() and by explicit versions of its symbols:
 * the names without one mean the oldest structures. No header of NVIDIA's is needed;
 * the declarations here have the layout of its ABI (nvml.h of the CUDA toolkit), which
 * does not change under a versioned name.
 *
 * Every call may block for as long as the driver likes: for moult-nvml alone, never for
 * moultd. Nothing here makes a CUDA context.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"
#include "supervisor/devices/nvml_wire.h"

#define NVML_LIBRARY "libnvidia-ml.so.1"

struct nvml_handle; /* of a card, the driver's */
struct nvml_events; /* a set of events, the driver's */

enum nvml_code {
	NVML_SUCCESS = 0,
	NVML_E_NOT_SUPPORTED = 3,
	NVML_E_NO_PERMISSION = 4,
	NVML_E_INSUFFICIENT_SIZE = 7,
};

/* nvmlComputeMode_t */
enum nvml_mode {
	NVML_MODE_DEFAULT = 0,
	NVML_MODE_PROHIBITED = 2,
	NVML_MODE_EXCLUSIVE_PROCESS = 3,
};

/* nvmlEventTypeXidCriticalError */
#define NVML_EVENT_XID UINT64_C(8)

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

/* nvmlEventData_t, of the second version of the wait */
struct nvml_event {
	struct nvml_handle *card;
	unsigned long long type;
	unsigned long long data; /* number of the Xid */
	unsigned int gpu_instance;
	unsigned int compute_instance;
};

/* Mark of the second structure: its size and its number. */
#define NVML_MEMORY_V2 ((unsigned int)sizeof(struct nvml_memory_v2) | 2u << 24)

_Static_assert(sizeof(struct nvml_memory_v1) == 24, "ABI of nvmlMemory_t");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "ABI of nvmlMemory_v2_t");
_Static_assert(offsetof(struct nvml_memory_v2, used) == 32, "ABI of nvmlMemory_v2_t");
_Static_assert(sizeof(struct nvml_process_v2) == 24, "ABI of nvmlProcessInfo_v2_t");
_Static_assert(offsetof(struct nvml_process_v2, gpu_instance) == 16,
               "ABI of nvmlProcessInfo_v2_t");
_Static_assert(sizeof(struct nvml_event) == 32, "ABI of nvmlEventData_t");

struct nvml_library {
	void *dl;
	struct nvml_handle *cards[NVML_CARDS_MAX]; /* NULL: never seen */
	bool is_lost[NVML_CARDS_MAX];
	char uuids[NVML_CARDS_MAX][NVML_UUID_BYTES];
	unsigned int n_cards;
	char driver[80];
	struct nvml_events *events; /* NULL: the driver gives none */
	int (*shutdown)(void);
	const char *(*error)(int code);
	int (*by_uuid)(const char *uuid, struct nvml_handle **card);
	int (*uuid)(struct nvml_handle *card, char *uuid, unsigned int bytes);
	int (*memory_v2)(struct nvml_handle *card, struct nvml_memory_v2 *memory);
	int (*memory_v1)(struct nvml_handle *card, struct nvml_memory_v1 *memory);
	int (*compute_mode)(struct nvml_handle *card, int *mode);
	int (*processes)(struct nvml_handle *card, unsigned int *count,
	                 struct nvml_process_v2 *processes);
	int (*register_events)(struct nvml_handle *card, unsigned long long types,
	                       struct nvml_events *events);
	int (*wait)(struct nvml_events *events, struct nvml_event *event,
	            unsigned int timeout_ms);
	int (*free_events)(struct nvml_events *events);
};

/* Opens the library @name and every card, which stay open: the driver keeps the state of a
 * card only while somebody has it open. 0, or -errno with a sentence. */
int nvml_library_open(struct nvml_library *library, const char *name, struct err *err);
void nvml_library_close(struct nvml_library *library);

/* Fills @ret_report but for its number; of the cards, those in the bit set @cards. A
 * lost card is looked for again. */
void nvml_library_read(struct nvml_library *library, uint64_t cards,
                       struct nvml_report *ret_report);
