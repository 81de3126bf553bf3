/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A device whose memory models share, and who holds how much of it.
 *
 *	host   main memory: what a loader holds is its RssAnon, what nobody else can use.
 *	       What loaders share counts once.
 *	nvml   a GPU: what it has left is the driver's word. What it says of one process is
 *	       a hint; where it says nothing, what the device lost while that loader was
 *	       built stands in.
 *
 * A loader that is being built has a claim, the bytes that it is expected to need, so that
 * two reloads at once do not both count on the same free memory.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "supervisor/config/config.h"
#include "supervisor/devices/nvml.h"

/* Memory that is back up to this is back. */
#define DEVICE_TOLERANCE_BYTES (UINT64_C(16) << 20)

struct device_use {
	LIST_ENTRY(device_use) link;
	struct device *device; /* NULL: not registered */
	pid_t pid;             /* 0: memory without a process */
	int fd;                /* that memory's, borrowed; -1 on a GPU */
	bool is_leaving;       /* killed: what it holds counts as free already */
	uint64_t claim_bytes;  /* 0: it holds what it will hold */
	uint64_t now_bytes;    /* as of the last device_measure() */
	uint64_t peak_bytes;   /* most that was ever measured */
	/* nvml */
	uint64_t memory_bytes; /* without a process: that it is */
	/* Shared weights that the process has mapped, or has the descriptors of. They are not
	 * what it holds, whether the driver charges it with them or not. */
	uint64_t mapped_bytes;
	uint64_t made_bytes;  /* of them: in chunks that it made itself */
	uint64_t mapped_ns;   /* all of them are there since then; 0: not yet */
	uint64_t ahead_bytes; /* of them: that it made before it was to place them */
	uint64_t added_ns;
	uint64_t unseen_ns; /* has placed its weights then, in no report yet; 0: seen */
	bool has_baseline;
	bool is_dead;            /* reaped: what it held may or may not be back */
	uint64_t baseline_bytes; /* held by others than loaders when this one was added */
	/* Used when it began to place its weights; 0: not known. */
	uint64_t before_bytes;
	/* Used more when it had, without those; 0: not yet. What it took ahead, until then. */
	uint64_t placed_bytes;
};

struct device;

struct device_ops {
	const char *kind;
	/* Brings in what there is to know now; a bounded wait. False: it is not of now. */
	bool (*refresh)(struct device *device);
	/* Of @use, as of then. */
	uint64_t (*held)(const struct device_use *use);
	/* What anybody could still have; UINT64_MAX: not known. */
	uint64_t (*available)(const struct device *device);
};

struct device {
	char name[CONFIG_DEVICE_MAX];
	const struct device_ops *ops;
	struct config_device config;
	/* In use by loaders of another moultd, to which the budget and the reserve belong; 0:
	 * there is none. */
	uint64_t others_bytes;
	LIST_HEAD(device_uses, device_use) uses;
	/* nvml */
	struct nvml *nvml;          /* borrowed */
	char uuid[NVML_UUID_BYTES]; /* "": not known yet */
};

/* What there is, in bytes. */
struct device_room {
	uint64_t budget_bytes;  /* UINT64_MAX: none is set */
	uint64_t reserve_bytes; /* to be left free */
	uint64_t used_bytes;    /* by all loaders, claims included */
	uint64_t
		available_bytes; /* what the machine has to give; UINT64_MAX: not known */
	uint64_t others_bytes;   /* of used: by those of another moultd */
};

/* The device itself, as of the last device_measure(). */
struct device_figures {
	bool is_known;
	uint64_t total_bytes;
	uint64_t used_bytes; /* by everybody */
	uint64_t free_bytes;
	uint64_t age_ms; /* of what is above */
	uint64_t xids;   /* critical errors so far, known or not */
	unsigned int last_xid;
};

enum device_reclaim {
	DEVICE_RECLAIM_DONE,
	DEVICE_RECLAIM_WAITING, /* no report since then */
	DEVICE_RECLAIM_LISTED,  /* the driver still counts the process */
	DEVICE_RECLAIM_HELD,    /* it does not, and its memory is not back */
	DEVICE_RECLAIM_UNKNOWN, /* there is nobody to ask, or nothing to compare with */
};

/* Main memory. */
void device_init(struct device *device, const char *name);
/* A GPU. */
void device_init_nvml(struct device *device, const char *name, struct nvml *nvml);
/* No use may be left. */
void device_fini(struct device *device);

void device_add(struct device *device, struct device_use *use, pid_t pid,
                uint64_t claim_bytes);
/* Memory that no process has to itself: the memfd @fd; -1: its memory_bytes will say. */
void device_add_memory(struct device *device, struct device_use *use, int fd,
                       uint64_t claim_bytes);
/* It is gone. Nothing happens when it was never added. */
void device_remove(struct device_use *use);

/* It has made @bytes of its weights before it is to place them, and holds a context. */
void device_note_ahead(struct device_use *use, uint64_t bytes);
/* It is about to place its weights, and has placed them. */
void device_note_placing(struct device_use *use);
void device_note_placed(struct device_use *use);
/* Its weights are shared: @bytes, of which it made @made_bytes, and the rest was there. */
void device_note_mapped(struct device_use *use, uint64_t bytes, uint64_t made_bytes);

/* Looks at what each loader holds now: microseconds for each; a GPU NVML_WAIT_MS at most.
 * False: its driver did not answer by then, and the figures are those of a moment ago. */
bool device_measure(struct device *device);
/* Its driver is being asked, and has not answered what was asked since @since_ns; 0: now. */
bool device_is_asked(const struct device *device, uint64_t since_ns);
/* Looks at what one loader holds now; 0 when it was never added. */
uint64_t device_look(struct device_use *use);
/* Looks at all and sums up. */
struct device_room device_room(struct device *device);
/* Room for @need_bytes more, once @coming_bytes are given back; the reserve stays free. */
bool device_has_room(struct device *device, uint64_t need_bytes, uint64_t coming_bytes);
/* What all but @except (or NULL) held at their peaks beyond what they hold, or claim, now. */
uint64_t device_peaks(const struct device *device, const struct device_use *except);
/* Sums up what is known: for somebody who looks on, and waits for nothing. */
struct device_room device_room_seen(struct device *device);
/* One process at a time may compute on it; none may. As of the last report. */
bool device_is_exclusive(const struct device *device);
bool device_is_prohibited(const struct device *device);
struct device_figures device_figures(const struct device *device);

/* The process of @use was reaped at @reaped_ns: is its memory back? Does not wait: asks for
 * the next report. */
enum device_reclaim device_reclaim(struct device_use *use, uint64_t reaped_ns);
/* The number of the last critical error of the GPU if that was at @since_ns or later, else
 * 0. */
unsigned int device_xid(const struct device *device, uint64_t since_ns);
/* Who holds memory that @use was to give back, as a sentence. *ret_bytes is how much. */
void device_explain_residue(const struct device_use *use, uint64_t *ret_bytes,
                            struct err *ret_why);
