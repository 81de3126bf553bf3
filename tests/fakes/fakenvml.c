/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A libnvidia-ml.so.1 whose cards' memory is that of fakegpu.h. The driver's own share is
 * 256 MiB of each card.
 *
 * NVIDIA_FAKE_MIB = N: a card's memory (default 1024). NVIDIA_FAKE_CARDS = N: the number of
 * cards (default 1). NVIDIA_FAKE_CONTROL = PATH: a file that is read at each call, with a fault
 * per line:
 *
 *	ghost PID MIB      a process that stays on the list of the first card, and its memory
 *	slow MS            memory that is given back counts for so long
 *	stick              a process that was on the list once stays there
 *	silent MS          each call takes so long
 *	fail               every call but nvmlInit_v2 fails
 *	blind              no process is charged with any bytes
 *	die                the process that asks ends
 *	garbage            the process that asks sends moultd something that is no report
 *	long-list          processes are listed in structures longer by eight bytes, as
 *	                   drivers 535.43 to 535.98 do
 *	exclusive          the compute mode of every card: one process may have a context
 *	prohibited         or none
 *	xid N SERIAL       the first card has critical error N, once for each serial
 *
 * Compiled with FAKENVML_NAMED a card has a name, and passes for a real one.
 *
 * Compiled with FAKENVML_OLD the library has only the first version of the memory call and the
 * second of the process list, and no events, like a driver from before 2021.
 */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "shared/proto.h"
#include "supervisor/devices/nvml_library.h"
#include "tests/fakes/fakegpu.h"

#define FAKENVML_E_LOST      15
#define FAKENVML_E_NOT_FOUND 6
#define FAKENVML_E_TIMEOUT   10
#define FAKENVML_DRIVER_MIB  256
#define FAKENVML_CARDS_MAX   8
#define FAKENVML_MIB         UINT64_C(1048576)

struct nvml_handle {
	unsigned int index;
	/* State for slow and stick. */
	uint64_t last_bytes;
	uint64_t dropped_ms;
	struct fakegpu_held listed[FAKEGPU_HELD_MAX];
	unsigned int n_listed;
	/* The use at the last call for memory; a list of processes that is asked for next goes
	 * with it. */
	struct fakegpu_use use;
	bool has_use;
};

struct nvml_events {
	uint64_t serial;
};

struct fakenvml_faults {
	int ghost_pid;
	uint64_t ghost_mib;
	unsigned long slow_ms;
	unsigned long silent_ms;
	unsigned long xid;
	uint64_t xid_serial;
	bool is_sticky;
	bool is_failing;
	bool is_blind;
	int compute_mode;
	bool has_long_list;
};

static struct nvml_handle fakenvml_cards[FAKENVML_CARDS_MAX];

int nvmlInit_v2(void);
int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlSystemGetDriverVersion(char *version, unsigned int bytes);
int nvmlDeviceGetCount_v2(unsigned int *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct nvml_handle **card);
int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_handle **card);
int nvmlDeviceGetUUID(struct nvml_handle *card, char *uuid, unsigned int bytes);
int nvmlDeviceGetComputeMode(struct nvml_handle *card, int *mode);
int nvmlDeviceGetName(struct nvml_handle *card, char *name, unsigned int bytes);
int nvmlDeviceGetMemoryInfo(struct nvml_handle *card, struct nvml_memory_v1 *memory);
int nvmlDeviceGetMemoryInfo_v2(struct nvml_handle *card, struct nvml_memory_v2 *memory);
int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_handle *card, unsigned int *count,
                                            struct nvml_process_v2 *processes);
int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_handle *card, unsigned int *count,
                                            struct nvml_process_v2 *processes);
int nvmlEventSetCreate(struct nvml_events **events);
int nvmlEventSetFree(struct nvml_events *events);
int nvmlDeviceRegisterEvents(struct nvml_handle *card, unsigned long long types,
                             struct nvml_events *events);
int nvmlEventSetWait_v2(struct nvml_events *events, struct nvml_event *event,
                        unsigned int timeout_ms);

static uint64_t fakenvml_number(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : fallback;
}

static uint64_t fakenvml_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct fakenvml_faults fakenvml_read_faults(void)
{
	const char *path = getenv("NVIDIA_FAKE_CONTROL");
	FILE *file = path ? fopen(path, "re") : NULL;
	struct fakenvml_faults faults = { 0 };
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		(void)sscanf(line, "ghost %d %lu", &faults.ghost_pid, &faults.ghost_mib);
		(void)sscanf(line, "slow %lu", &faults.slow_ms);
		(void)sscanf(line, "xid %lu %lu", &faults.xid, &faults.xid_serial);
		(void)sscanf(line, "silent %lu", &faults.silent_ms);
		faults.is_sticky |= strcmp(line, "stick\n") == 0;
		faults.is_failing |= strcmp(line, "fail\n") == 0;
		faults.is_blind |= strcmp(line, "blind\n") == 0;
		faults.has_long_list |= strcmp(line, "long-list\n") == 0;
		if (strcmp(line, "exclusive\n") == 0)
			faults.compute_mode = NVML_MODE_EXCLUSIVE_PROCESS;
		if (strcmp(line, "prohibited\n") == 0)
			faults.compute_mode = NVML_MODE_PROHIBITED;
		if (strcmp(line, "die\n") == 0)
			(void)raise(SIGKILL);
		if (strcmp(line, "garbage\n") == 0)
			(void)send(PROTO_CONTROL_FD, line, sizeof(line), MSG_NOSIGNAL);
	}
	if (file)
		(void)fclose(file);
	return faults;
}

/* Begins every call: reads the faults, and does those that concern all calls. */
static int fakenvml_begin(struct fakenvml_faults *ret_faults)
{
	*ret_faults = fakenvml_read_faults();
	if (ret_faults->silent_ms) {
		struct timespec pause = {
			.tv_sec = (time_t)(ret_faults->silent_ms / 1000),
			.tv_nsec = (long)(ret_faults->silent_ms % 1000) * 1000000,
		};

		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	return ret_faults->is_failing ? FAKENVML_E_LOST : NVML_SUCCESS;
}

int nvmlInit_v2(void)
{
	for (unsigned int i = 0; i < FAKENVML_CARDS_MAX; i++)
		fakenvml_cards[i].index = i;
	return NVML_SUCCESS;
}

int nvmlShutdown(void)
{
	return NVML_SUCCESS;
}

const char *nvmlErrorString(int code)
{
	return code == FAKENVML_E_LOST ? "GPU is lost" : "Not Found";
}

int nvmlSystemGetDriverVersion(char *version, unsigned int bytes)
{
	(void)snprintf(version, bytes, "999.9");
	return NVML_SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned int *count)
{
	*count = (unsigned int)fakenvml_number("NVIDIA_FAKE_CARDS", 1);
	return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct nvml_handle **card)
{
	unsigned int count;

	(void)nvmlDeviceGetCount_v2(&count);
	if (index >= count || index >= FAKENVML_CARDS_MAX)
		return FAKENVML_E_NOT_FOUND;
	*card = &fakenvml_cards[index];
	return NVML_SUCCESS;
}

int nvmlDeviceGetUUID(struct nvml_handle *card, char *uuid, unsigned int bytes)
{
	(void)snprintf(uuid, bytes, "GPU-00000000-0000-4000-8000-00000000000%u",
	               card->index);
	return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_handle **card)
{
	char mine[NVML_UUID_BYTES];

	for (unsigned int i = 0; i < FAKENVML_CARDS_MAX; i++) {
		(void)nvmlDeviceGetUUID(&fakenvml_cards[i], mine, sizeof(mine));
		*card = &fakenvml_cards[i];
		if (strcmp(mine, uuid) == 0)
			return NVML_SUCCESS;
	}
	return FAKENVML_E_NOT_FOUND;
}

/* Returns the bytes that the card pretends to have in use: with slow, freed memory counts
 * longer. */
static uint64_t fakenvml_used(struct nvml_handle *card,
                              const struct fakenvml_faults *faults)
{
	uint64_t now_ms = fakenvml_now_ms();
	struct fakegpu_use use;

	fakegpu_count(card->index, &card->use);
	card->has_use = true;
	use = card->use;
	if (card->index == 0)
		use.bytes += faults->ghost_mib * FAKENVML_MIB;
	if (use.bytes >= card->last_bytes)
		card->dropped_ms = 0;
	else if (card->dropped_ms == 0)
		card->dropped_ms = now_ms;
	if (card->dropped_ms && now_ms - card->dropped_ms < faults->slow_ms)
		return card->last_bytes;
	card->dropped_ms = 0;
	card->last_bytes = use.bytes;
	return use.bytes;
}

#ifdef FAKENVML_NAMED
int nvmlDeviceGetName(struct nvml_handle *card, char *name, unsigned int bytes)
{
	(void)card;
	(void)snprintf(name, bytes, "Fake GPU");
	return NVML_SUCCESS;
}
#endif

int nvmlDeviceGetComputeMode(struct nvml_handle *card, int *mode)
{
	(void)card;
	*mode = fakenvml_read_faults().compute_mode;
	return NVML_SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct nvml_handle *card, struct nvml_memory_v1 *memory)
{
	struct fakenvml_faults faults;
	int code = fakenvml_begin(&faults);

	memory->total = fakenvml_number("NVIDIA_FAKE_MIB", 1024) * FAKENVML_MIB;
	memory->used = fakenvml_used(card, &faults) + FAKENVML_DRIVER_MIB * FAKENVML_MIB;
	memory->free = memory->total > memory->used ? memory->total - memory->used : 0;
	return code;
}

#ifndef FAKENVML_OLD
int nvmlDeviceGetMemoryInfo_v2(struct nvml_handle *card, struct nvml_memory_v2 *memory)
{
	struct nvml_memory_v1 first;
	int code;

	/* The real library checks the version, too. */
	if (memory->version != NVML_MEMORY_V2)
		return 25;
	code = nvmlDeviceGetMemoryInfo(card, &first);
	memory->total = first.total;
	memory->free = first.free;
	memory->reserved = FAKENVML_DRIVER_MIB * FAKENVML_MIB;
	memory->used = first.used - memory->reserved;
	return code;
}
#endif

static void fakenvml_stick(struct nvml_handle *card, const struct fakegpu_use *use)
{
	for (unsigned int i = 0; i < use->n_held; i++) {
		unsigned int j = 0;

		while (j < card->n_listed && card->listed[j].pid != use->held[i].pid)
			j++;
		if (j < FAKEGPU_HELD_MAX)
			card->listed[j] = use->held[i];
		if (j == card->n_listed && j < FAKEGPU_HELD_MAX)
			card->n_listed++;
	}
}

struct fakenvml_long_process {
	struct nvml_process_v2 process;
	unsigned long long protected_bytes;
};

/* Moves the rows in place, from the last one down. */
static void fakenvml_lengthen(struct nvml_process_v2 *processes, unsigned int n)
{
	for (unsigned int i = n; i-- > 0;) {
		struct fakenvml_long_process one = { .process = processes[i] };

		memcpy((char *)processes + i * sizeof(one), &one, sizeof(one));
	}
}

static int fakenvml_processes(struct nvml_handle *card, unsigned int *count,
                              struct nvml_process_v2 *processes)
{
	struct fakenvml_faults faults;
	int code = fakenvml_begin(&faults);
	struct fakegpu_use use;
	unsigned int n = 0;

	if (!card->has_use)
		fakegpu_count(card->index, &card->use);
	card->has_use = false;
	use = card->use;
	if (!faults.is_sticky)
		card->n_listed = 0;
	fakenvml_stick(card, &use);
	for (unsigned int i = 0; i < card->n_listed && n < *count; i++)
		processes[n++] = (struct nvml_process_v2){
			.pid = (unsigned int)card->listed[i].pid,
			.used_bytes = faults.is_blind ? 0 : card->listed[i].bytes,
		};
	if (faults.ghost_pid && card->index == 0 && n < *count)
		processes[n++] = (struct nvml_process_v2){
			.pid = (unsigned int)faults.ghost_pid,
			.used_bytes = faults.ghost_mib * FAKENVML_MIB,
		};
	if (faults.has_long_list)
		fakenvml_lengthen(processes, n);
	*count = n;
	return code;
}

int nvmlDeviceGetComputeRunningProcesses_v2(struct nvml_handle *card, unsigned int *count,
                                            struct nvml_process_v2 *processes)
{
	return fakenvml_processes(card, count, processes);
}

#ifndef FAKENVML_OLD
int nvmlDeviceGetComputeRunningProcesses_v3(struct nvml_handle *card, unsigned int *count,
                                            struct nvml_process_v2 *processes)
{
	return fakenvml_processes(card, count, processes);
}

int nvmlEventSetCreate(struct nvml_events **events)
{
	static struct nvml_events only;

	*events = &only;
	return NVML_SUCCESS;
}

int nvmlEventSetFree(struct nvml_events *events)
{
	(void)events;
	return NVML_SUCCESS;
}

int nvmlDeviceRegisterEvents(struct nvml_handle *card, unsigned long long types,
                             struct nvml_events *events)
{
	(void)card;
	(void)types;
	(void)events;
	return NVML_SUCCESS;
}

int nvmlEventSetWait_v2(struct nvml_events *events, struct nvml_event *event,
                        unsigned int timeout_ms)
{
	struct fakenvml_faults faults = fakenvml_read_faults();

	(void)timeout_ms;
	if (faults.xid == 0 || faults.xid_serial == events->serial)
		return FAKENVML_E_TIMEOUT;
	events->serial = faults.xid_serial;
	*event = (struct nvml_event){
		.card = &fakenvml_cards[0],
		.type = NVML_EVENT_XID,
		.data = faults.xid,
	};
	return NVML_SUCCESS;
}
#endif
