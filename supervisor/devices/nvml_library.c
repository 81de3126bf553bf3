/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Calls of the driver's library, made so that old drivers and broken cards cost a
 * figure and no more.
 *
 * Symbols are looked up by version, optional ones may be missing. Cards keep the place
 * that they had when the library was opened, because reports name them by place; a lost
 * card is looked up by UUID again at each read. A driver may fill the list of processes
 * in a layout of its own: the buffer is painted before the call, nvml_library_is_list()
 * looks at what was written, and a list in doubt is never used.
 */

#include "supervisor/devices/nvml_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "shared/clock.h"

/* Room for a list of processes; more than are reported, so that one too long is told from
 * one that just fits. */
#define NVML_LIBRARY_LIST_MAX 1024

/* The calls that only opening needs. */
struct nvml_opening {
	int (*init)(void);
	int (*driver)(char *version, unsigned int bytes);
	int (*count)(unsigned int *count);
	int (*by_index)(unsigned int index, struct nvml_handle **card);
	int (*create_events)(struct nvml_events **events);
};

static int nvml_library_load(struct nvml_library *library, struct nvml_opening *opening,
                             const char *name, struct err *err)
{
	/* POSIX lets pointers to functions and to objects share a representation. */
	const struct {
		const char *name;
		void *slot;
		const char *older; /* of the same structures, or NULL */
		bool is_optional;
	} symbols[] = {
		{ "nvmlInit_v2", &opening->init, NULL, false },
		{ "nvmlShutdown", &library->shutdown, NULL, false },
		{ "nvmlErrorString", &library->error, NULL, false },
		{ "nvmlSystemGetDriverVersion", &opening->driver, NULL, false },
		{ "nvmlDeviceGetCount_v2", &opening->count, NULL, false },
		{ "nvmlDeviceGetHandleByIndex_v2", &opening->by_index, NULL, false },
		{ "nvmlDeviceGetHandleByUUID", &library->by_uuid, NULL, false },
		{ "nvmlDeviceGetUUID", &library->uuid, NULL, false },
		{ "nvmlDeviceGetMemoryInfo", &library->memory_v1, NULL, false },
		{ "nvmlDeviceGetMemoryInfo_v2", &library->memory_v2, NULL, true },
		{ "nvmlDeviceGetComputeMode", &library->compute_mode, NULL, true },
		{ "nvmlDeviceGetComputeRunningProcesses_v3", &library->processes,
		  "nvmlDeviceGetComputeRunningProcesses_v2", true },
		{ "nvmlEventSetCreate", &opening->create_events, NULL, true },
		{ "nvmlDeviceRegisterEvents", &library->register_events, NULL, true },
		{ "nvmlEventSetWait_v2", &library->wait, NULL, true },
		{ "nvmlEventSetFree", &library->free_events, NULL, true },
	};

	library->dl = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library->dl)
		return err_set(err, -ENOENT, "%s", dlerror());
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(library->dl, symbols[i].name);

		if (!symbol && symbols[i].older)
			symbol = dlsym(library->dl, symbols[i].older);
		if (!symbol && !symbols[i].is_optional)
			return err_set(err, -ENOSYS,
			               "%s has no %s: install a newer driver", name,
			               symbols[i].name);
		memcpy(symbols[i].slot, &symbol, sizeof(symbol));
	}
	return 0;
}

/* Opens a card by its UUID: an index means another card when one falls off the bus. */
static int nvml_library_open_card(struct nvml_library *library,
                                  const struct nvml_opening *opening, unsigned int index)
{
	char *uuid = library->uuids[library->n_cards];
	struct nvml_handle *card;
	int code = opening->by_index(index, &card);

	if (code == NVML_SUCCESS)
		code = library->uuid(card, uuid, NVML_UUID_BYTES);
	if (code == NVML_SUCCESS)
		code = library->by_uuid(uuid, &card);
	library->is_lost[library->n_cards] = code != NVML_SUCCESS;
	library->cards[library->n_cards] = code == NVML_SUCCESS ? card : NULL;
	/* A card that does not open keeps its place: reports go by places. */
	library->n_cards++;
	return code;
}

/* Cards without events are used all the same. */
static void nvml_library_open_events(struct nvml_library *library,
                                     const struct nvml_opening *opening)
{
	if (!opening->create_events || !library->register_events || !library->wait ||
	    !library->free_events ||
	    opening->create_events(&library->events) != NVML_SUCCESS) {
		library->events = NULL;
		return;
	}
	for (unsigned int i = 0; i < library->n_cards; i++)
		if (library->cards[i])
			(void)library->register_events(library->cards[i], NVML_EVENT_XID,
			                               library->events);
}

int nvml_library_open(struct nvml_library *library, const char *name, struct err *err)
{
	struct nvml_opening opening = { 0 };
	unsigned int count = 0;
	unsigned int n_open = 0;
	int code;
	int r;

	*library = (struct nvml_library){ 0 };
	r = nvml_library_load(library, &opening, name, err);
	if (r < 0) {
		if (library->dl)
			(void)dlclose(library->dl);
		library->dl = NULL;
		return r;
	}
	code = opening.init();
	if (code != NVML_SUCCESS) {
		(void)err_set(err, -ENODEV, "%s: %s", name, library->error(code));
		(void)dlclose(library->dl);
		library->dl = NULL;
		return -ENODEV;
	}
	(void)opening.driver(library->driver, sizeof(library->driver));
	code = opening.count(&count);
	for (unsigned int i = 0; code == NVML_SUCCESS && i < count && i < NVML_CARDS_MAX;
	     i++)
		n_open += nvml_library_open_card(library, &opening, i) == NVML_SUCCESS;
	if (n_open > 0) {
		nvml_library_open_events(library, &opening);
		return 0;
	}
	(void)err_set(err, -ENODEV, "%s: %s", name,
	              code == NVML_SUCCESS ? "there is no card" : library->error(code));
	nvml_library_close(library);
	return -ENODEV;
}

void nvml_library_close(struct nvml_library *library)
{
	if (!library->dl)
		return;
	if (library->events)
		(void)library->free_events(library->events);
	library->events = NULL;
	(void)library->shutdown();
	(void)dlclose(library->dl);
	library->dl = NULL;
}

static int nvml_library_read_memory(struct nvml_library *library,
                                    struct nvml_handle *card, struct nvml_card *ret_card)
{
	struct nvml_memory_v2 second = { .version = NVML_MEMORY_V2 };
	struct nvml_memory_v1 first = { 0 };
	int code;

	/* Reserved memory counts as used, as in the first version. */
	if (library->memory_v2 && library->memory_v2(card, &second) == NVML_SUCCESS) {
		ret_card->total_bytes = second.total;
		ret_card->free_bytes = second.free;
		ret_card->used_bytes = second.total - second.free;
		return NVML_SUCCESS;
	}
	code = library->memory_v1(card, &first);
	ret_card->total_bytes = first.total;
	ret_card->free_bytes = first.free;
	ret_card->used_bytes = first.used;
	return code;
}

/* Drivers have filled the same call with structures of other sizes. The bytes that were
 * written show the size. */
#define NVML_LIBRARY_UNTOUCHED 0xaa

static bool nvml_library_is_touched(const unsigned char *bytes, size_t from, size_t n)
{
	for (size_t i = from; i < from + n; i++)
		if (bytes[i] != NVML_LIBRARY_UNTOUCHED)
			return true;
	return false;
}

/* Largest process number of any machine: proc(5), /proc/sys/kernel/pid_max. */
#define NVML_LIBRARY_PID_MAX (1u << 22)

/* True: @count structures were written as declared here. Shorter ones would end before
 * the last one does, longer ones would go on. */
static bool nvml_library_is_list(const struct nvml_process_v2 *processes,
                                 unsigned int count)
{
	const unsigned char *bytes = (const unsigned char *)processes;
	size_t end = count * sizeof(*processes);
	size_t tail = sizeof(*processes) - offsetof(struct nvml_process_v2, gpu_instance);

	for (unsigned int i = 0; i < count; i++)
		if (processes[i].pid == 0 || processes[i].pid > NVML_LIBRARY_PID_MAX)
			return false;
	return !nvml_library_is_touched(bytes, end, sizeof(*processes)) &&
	       (count == 0 || nvml_library_is_touched(bytes, end - tail, tail));
}

/* Cards that do not tell who computes on them are used all the same, and so are those
 * that tell it in a layout of their own. */
static int nvml_library_read_processes(struct nvml_library *library,
                                       struct nvml_handle *card,
                                       struct nvml_card *ret_card)
{
	/* Twice what is offered, for a driver that writes longer ones. */
	static struct nvml_process_v2 processes[2 * NVML_LIBRARY_LIST_MAX];
	unsigned int count = NVML_LIBRARY_LIST_MAX;
	int code;

	if (!library->processes)
		return NVML_SUCCESS;
	memset(processes, NVML_LIBRARY_UNTOUCHED, sizeof(processes));
	code = library->processes(card, &count, processes);
	if (code == NVML_E_NOT_SUPPORTED || code == NVML_E_NO_PERMISSION ||
	    code == NVML_E_INSUFFICIENT_SIZE)
		return NVML_SUCCESS;
	if (code != NVML_SUCCESS)
		return code;
	if (count > NVML_LIBRARY_LIST_MAX || !nvml_library_is_list(processes, count)) {
		(void)fprintf(
			stderr,
			"driver %s lists processes in a layout that is not known: the "
			"list is not used\n",
			library->driver);
		library->processes = NULL;
		return NVML_SUCCESS;
	}
	ret_card->has_list = count <= NVML_PROCESSES_MAX;
	if (count > NVML_PROCESSES_MAX)
		count = NVML_PROCESSES_MAX;
	ret_card->n_processes = count;
	for (unsigned int i = 0; i < count; i++)
		ret_card->processes[i] = (struct nvml_process){
			.pid = (int32_t)processes[i].pid,
			.bytes = processes[i].used_bytes,
		};
	return NVML_SUCCESS;
}

/* Older drivers, and parts of a card, have no compute mode. */
static void nvml_library_read_mode(struct nvml_library *library, struct nvml_handle *card,
                                   struct nvml_card *ret_card)
{
	int mode = NVML_MODE_DEFAULT;

	if (!library->compute_mode || library->compute_mode(card, &mode) != NVML_SUCCESS)
		return;
	ret_card->is_exclusive = mode == NVML_MODE_EXCLUSIVE_PROCESS;
	ret_card->is_prohibited = mode == NVML_MODE_PROHIBITED;
}

static int nvml_library_read_card(struct nvml_library *library, unsigned int index,
                                  struct nvml_card *ret_card)
{
	struct nvml_handle *card = library->cards[index];
	int code = NVML_SUCCESS;

	/* The old handle may be good for nothing after a reset. */
	if (library->is_lost[index])
		code = library->by_uuid(library->uuids[index], &card);
	if (code == NVML_SUCCESS)
		code = nvml_library_read_memory(library, card, ret_card);
	if (code == NVML_SUCCESS)
		code = nvml_library_read_processes(library, card, ret_card);
	if (code == NVML_SUCCESS) {
		nvml_library_read_mode(library, card, ret_card);
		library->cards[index] = card;
	}
	library->is_lost[index] = code != NVML_SUCCESS;
	ret_card->is_lost = library->is_lost[index];
	return code;
}

/* The place of @card; n_cards: not known. A lost card may not tell its UUID any more. */
static unsigned int nvml_library_place(const struct nvml_library *library,
                                       struct nvml_handle *card)
{
	char uuid[NVML_UUID_BYTES];
	unsigned int i = 0;

	while (i < library->n_cards && library->cards[i] != card)
		i++;
	if (i < library->n_cards ||
	    library->uuid(card, uuid, sizeof(uuid)) != NVML_SUCCESS)
		return i;
	for (i = 0; i < library->n_cards && strcmp(library->uuids[i], uuid) != 0;)
		i++;
	return i;
}

/* Takes the critical errors so far; waits for nothing. */
static void nvml_library_read_events(struct nvml_library *library,
                                     struct nvml_report *report)
{
	struct nvml_event event = { 0 };

	for (unsigned int i = 0;
	     library->events && i < NVML_XIDS_MAX &&
	     library->wait(library->events, &event, 0) == NVML_SUCCESS;
	     i++) {
		unsigned int place = nvml_library_place(library, event.card);

		if (event.type == NVML_EVENT_XID && place < library->n_cards)
			report->xids[report->n_xids++] = (struct nvml_xid){
				.card = place,
				.xid = (uint32_t)event.data,
			};
	}
}

void nvml_library_read(struct nvml_library *library, uint64_t cards,
                       struct nvml_report *ret_report)
{
	uint64_t begun_ns = clock_now_ns();

	*ret_report = (struct nvml_report){ .is_open = 1, .n_cards = library->n_cards };
	memcpy(ret_report->driver, library->driver, sizeof(ret_report->driver));
	for (unsigned int i = 0; i < library->n_cards; i++) {
		struct nvml_card *card = &ret_report->cards[i];
		int code;

		memcpy(card->uuid, library->uuids[i], sizeof(card->uuid));
		card->is_lost = true;
		if (!(cards & UINT64_C(1) << i))
			continue;
		code = nvml_library_read_card(library, i, card);
		if (code != NVML_SUCCESS)
			(void)snprintf(ret_report->why, sizeof(ret_report->why), "%s: %s",
			               card->uuid, library->error(code));
	}
	nvml_library_read_events(library, ret_report);
	ret_report->took_ns = clock_now_ns() - begun_ns;
}
