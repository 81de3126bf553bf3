/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A device whose memory models share, and who holds how much of it.
 *
 *	host   main memory: a loader holds its RssAnon, memory that nobody else can use.
 *	       Memory that loaders share counts once.
 *	nvml   a GPU: the driver's word counts for what is left. Its word on one process is
 *	       a hint; where it gives none, the growth of the device's use while that
 *	       loader was built stands in.
 *
 * A loader that is being built has a claim, the bytes that it is expected to need, so
 * that two reloads at once do not both count on the same free memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "supervisor/config/config.h"
#include "supervisor/devices/nvml.h"
#include "supervisor/memory/host.h"
#include "supervisor/memory/memory.h"

/* Most bytes that may be missing from memory that counts as back. */
#define DEVICE_TOLERANCE_BYTES (UINT64_C(16) << 20)

/* What of shared weights a driver charges a process for. */
enum device_charge {
	DEVICE_CHARGE_UNKNOWN,
	DEVICE_CHARGE_NONE,
	DEVICE_CHARGE_MADE, /* those that it has made itself */
	DEVICE_CHARGE_ALL,  /* all that it has mapped */
};

struct device_use {
	LIST_ENTRY(device_use) link;
	struct device *device;   /* NULL: not registered */
	pid_t pid;               /* 0: memory without a process */
	int fd;                  /* of that memory, borrowed; -1: none */
	bool is_tree;            /* all processes below it count as well */
	bool is_leaving;         /* killed: counts as free already */
	uint64_t claim_bytes;    /* 0: it holds all that it will hold */
	uint64_t now_bytes;      /* as of the last device_measure() */
	uint64_t round;          /* host_round() of the measuring, on main memory */
	uint64_t resident_bytes; /* as of that round */
	struct memory_size tree; /* of the processes below it, as of tree_ns */
	uint64_t tree_ns;
	uint64_t peak_bytes; /* the most that was ever measured */
	bool is_serving;
	uint64_t base_bytes; /* at the first look while serving; 0: there was none */
	/* nvml */
	uint64_t memory_bytes; /* size of memory without a process */
	/* Shared weights that the process has mapped, or has the descriptors of. None
	 * of them counts as held, whether the driver charges the process for them or
	 * not. */
	uint64_t mapped_bytes;
	uint64_t made_bytes;       /* of them: in chunks made by itself */
	uint64_t mapped_ns;        /* since when all are there; 0: not yet */
	uint64_t ahead_bytes;      /* of them: made before placing */
	enum device_charge charge; /* known from its first report while it serves on */
	uint64_t added_ns;
	uint64_t unseen_ns; /* a report of then or later ends the claim; 0: none does */
	bool has_baseline;
	bool is_dead;            /* reaped: its memory may or may not be back */
	uint64_t baseline_bytes; /* held by others than loaders when added */
	/* Use of the card when placing began; 0: not known. */
	uint64_t before_bytes;
	/* Growth of that use by the end of placing, shared weights left out; until
	 * then, what the loader took ahead; 0: nothing yet. */
	uint64_t placed_bytes;
};

struct device;

struct device_ops {
	/* Brings in the newest figures; the wait is bounded. False: they are older. */
	bool (*refresh)(struct device *device);
	/* Notes what the device says of the time before @use, which comes now; or NULL. */
	void (*begin)(struct device_use *use);
	/* Bytes that @use holds, as of these figures. */
	uint64_t (*look)(struct device_use *use);
	/* Bytes that anybody could still have; UINT64_MAX: not known. */
	uint64_t (*available)(struct device *device);
};

struct device {
	char name[CONFIG_DEVICE_MAX];
	const struct device_ops *ops;
	struct config_device config;
	bool has_neighbour;    /* another moultd serves, and its are budget and reserve */
	uint64_t others_bytes; /* of that one's loaders */
	LIST_HEAD(device_uses, device_use) uses;
	struct host memory; /* of main memory */
	/* nvml */
	struct nvml *nvml;          /* borrowed */
	char uuid[NVML_UUID_BYTES]; /* "": not known yet */
};

/* Budget and use of a device, in bytes. */
struct device_room {
	uint64_t budget_bytes;    /* UINT64_MAX: none is set */
	uint64_t reserve_bytes;   /* to leave free */
	uint64_t used_bytes;      /* by all loaders, claims included */
	uint64_t available_bytes; /* left on the machine; UINT64_MAX: not known */
	bool has_neighbour; /* another moultd's loaders are in used_bytes, and serve */
};

/* The device itself, as of the last device_measure(). */
struct device_figures {
	bool is_known;
	uint64_t total_bytes;
	uint64_t used_bytes; /* by everybody */
	uint64_t free_bytes;
	uint64_t age_ms; /* age of the bytes above */
	uint64_t xids;   /* critical errors so far, known or not */
	unsigned int last_xid;
};

enum device_reclaim {
	DEVICE_RECLAIM_DONE,
	DEVICE_RECLAIM_WAITING, /* no report since the reaping */
	DEVICE_RECLAIM_LISTED,  /* the driver still counts the process */
	DEVICE_RECLAIM_HELD,    /* not counted any more, memory not back */
	DEVICE_RECLAIM_UNKNOWN, /* no driver to ask, or no baseline */
};

/* What every kind of device begins with. */
void device_begin(struct device *device, const char *name, const struct device_ops *ops);
/* Makes @device main memory; @loop is borrowed, NULL: as in struct host. */
void device_init(struct device *device, const char *name, struct ev_loop *loop);
/* Makes @device a GPU; @nvml is borrowed. */
void device_init_nvml(struct device *device, const char *name, struct nvml *nvml);
/* No use may be left. */
void device_fini(struct device *device);

void device_add(struct device *device, struct device_use *use, pid_t pid,
                uint64_t claim_bytes);
/* Registers memory that no process has to itself: the memfd @fd; -1: device_resize() will
 * tell. */
void device_add_memory(struct device *device, struct device_use *use, int fd,
                       uint64_t claim_bytes);
/* From now on the processes that @use's has started count as well. */
void device_add_tree(struct device_use *use);
/* Takes @use off its device. Does nothing when it was never added. */
void device_remove(struct device_use *use);
/* It is expected to need @bytes; 0: it holds all that it will hold. */
void device_claim(struct device_use *use, uint64_t bytes);
/* The claim ends with the first report of now or later. */
void device_claim_until_seen(struct device_use *use);
/* It holds @bytes now; its peak from here on is that of serving. */
void device_serve(struct device_use *use, uint64_t bytes);
/* Memory without a process is of @bytes now. */
void device_resize(struct device_use *use, uint64_t bytes);

/* The loader made @bytes of its weights before placing, and has a context on the card. */
void device_note_ahead(struct device_use *use, uint64_t bytes);
/* The loader is given @bytes of shared weights, which the driver may charge it for from
 * here on; 0: none any more. */
void device_note_given(struct device_use *use, uint64_t bytes);
/* The loader is about to place its weights; the loader has placed them. */
void device_note_placing(struct device_use *use);
void device_note_placed(struct device_use *use);
/* The weights are shared: @bytes, of which the loader made @made_bytes; the rest was
 * there. */
void device_note_mapped(struct device_use *use, uint64_t bytes, uint64_t made_bytes);

/* Budget and reserve belong to another moultd, whose loaders hold @others_bytes. */
void device_set_neighbour(struct device *device, uint64_t others_bytes);
/* Measures what each loader holds now: microseconds for each; a GPU takes NVML_WAIT_MS
 * at most. False: the driver did not answer by then, and the figures are a moment old. */
bool device_measure(struct device *device);
/* True: a driver runs and has no report of @since_ns or later yet; 0: of now. */
bool device_is_asked(const struct device *device, uint64_t since_ns);
/* Bytes that one loader holds now, as of this round; 0 when it was never added. Asks no
 * driver. */
uint64_t device_look(struct device_use *use);
/* Main memory for a receipt: what is available, and @shared_bytes of weights. */
struct memory_sample device_sample(struct device *host, uint64_t shared_bytes);
/* Adds a loader to @sample; @pss_bytes is its own report. */
void device_sample_add(struct memory_sample *sample, struct device_use *use,
                       uint64_t pss_bytes);
/* Measures all and sums up. */
struct device_room device_room(struct device *device);
/* Counts @bytes of what is used as free: who asks for room holds them already. */
void device_room_give(struct device_room *room, uint64_t bytes);
/* True: @need_bytes more fit once @coming_bytes are given back, and the reserve stays
 * free. */
bool device_has_room(struct device *device, uint64_t need_bytes, uint64_t coming_bytes);
/* Bytes that all but @except (or NULL) held at their peaks beyond what they hold, or
 * claim, now. */
uint64_t device_peaks(const struct device *device, const struct device_use *except);
/* Sums up the known figures, for somebody who looks on; waits for nothing. */
struct device_room device_room_seen(struct device *device);
/* Compute mode of the card in the last report: one process at a time may use it; none
 * may. */
bool device_is_exclusive(const struct device *device);
bool device_is_prohibited(const struct device *device);
struct device_figures device_figures(const struct device *device);

/* Tells whether the memory of @use, whose process was reaped at @reaped_ns, is back.
 * Does not wait: asks for the next report. */
enum device_reclaim device_reclaim(struct device_use *use, uint64_t reaped_ns);
/* Number of the GPU's last critical error (Xid) if it came at @since_ns or later, else
 * 0. */
unsigned int device_xid(const struct device *device, uint64_t since_ns);
/* Names in a sentence who holds memory that @use was to give back; *ret_bytes is how
 * much. */
void device_explain_residue(const struct device_use *use, uint64_t *ret_bytes,
                            struct err *ret_why);
