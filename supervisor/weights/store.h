/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights that outlive processes: one copy of each model file, which every loader that needs
 * it maps. The first loader fills it; only one that was filled is found by others, who wait for
 * that rather than fill one more. The memory is there as long as somebody refers to the copy.
 *
 * In main memory it is a memfd that is sealed. On a GPU it is chunks, for each of which the
 * driver gave the loader that made them a descriptor: holding those is all that it takes to
 * keep the memory, and nothing here asks the driver for anything.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "shared/err.h"
#include "shared/proto.h"
#include "supervisor/devices/device.h"
#include "supervisor/inputs/inputs.h"

#define STORE_CANARY_HEX 65

/* How a copy lies on a GPU, in the words of shared/proto.h. */
struct store_chunks {
	uint64_t kept; /* so many of the first ones are the first ones of the scrap */
	uint64_t chunk_bytes;
	uint64_t mapped_bytes;
	char canary[STORE_CANARY_HEX];
};

struct store_copy {
	LIST_ENTRY(store_copy) link; /* of the full ones, or of those being filled */
	struct store *store;
	struct device *device; /* in whose memory it lies */
	unsigned int refs;
	int fd;                 /* memfd; -1 on a GPU */
	unsigned int n_serving; /* loaders that serve, or served, over it */
	bool is_full;
	bool is_listed;       /* not when it was abandoned, or is spoilt */
	bool is_urgent;       /* its loader does not stand back for others */
	bool is_late;         /* it is filled when the loader commits */
	blkcnt_t seen_blocks; /* of its memory, when it was last seen to have grown */
	uint64_t grown_ns;
	/* On a GPU. */
	int fds[PROTO_CHUNKS_MAX];
	size_t n_fds;
	struct store_copy *scrap; /* nobody needs it: its chunks are to be used again */
	struct store_chunks chunks;
	struct stat file; /* what it is a copy of */
	char sha256[INPUTS_SHA256_HEX];
	struct device_use use;
};

struct store {
	LIST_HEAD(store_copies, store_copy) copies;
	struct store_copies filling;
	struct device *host; /* main memory */
	/* One that was being filled is full, or will never be: set by the owner, or NULL.
	 * Calls nothing here. */
	void (*on_change)(void *context);
	void *context;
};

void store_init(struct store *store, struct device *host);
/* No copy may be referred to any more. */
void store_fini(struct store *store);

/* The full copy of @file in the memory of @device, borrowed, or NULL. */
struct store_copy *store_find(const struct store *store, const struct device *device,
                              const struct stat *file);
/* A file is as it was, although stat(2) says otherwise. */
void store_on_file_touched(struct store *store, const struct stat *before,
                           const struct stat *after);
/* Somebody fills such a copy, as fast as the caller would: on_change() tells the end. One that
 * stops growing is no use to the urgent, and nobody tells: they look again. */
bool store_is_coming(struct store *store, const struct device *device,
                     const struct stat *file, bool is_urgent);

struct store_wish {
	struct device *device; /* in whose memory */
	const struct stat *file;
	uint64_t claim_bytes; /* of the device, at once, if it is to be filled */
	bool is_urgent;
	bool is_late; /* it will be filled when its loader commits */
};

/* A new reference to the full copy, or to a new one that is to be filled.
 * 0 or -errno with a sentence. */
int store_take(struct store *store, const struct store_wish *wish,
               struct store_copy **ret_copy, struct err *err);
/* Nobody is to wait for it: who fills it may not end. */
void store_copy_abandon(struct store_copy *copy);           /* accepts NULL */
struct store_copy *store_copy_ref(struct store_copy *copy); /* accepts NULL */
void store_copy_unref(struct store_copy *copy);             /* likewise */

uint64_t store_copy_bytes(const struct store_copy *copy); /* 0 for NULL */
bool store_copy_is_placed(const struct store_copy *copy); /* on a GPU; not for NULL */
/* It has been filled with what hashes to @sha256, its loader says: from now on it is found.
 * Nothing happens when it was full before. -EBADMSG: its seals or its size say otherwise. */
int store_copy_publish(struct store_copy *copy, const char *sha256);
/* Nobody needs *@scrap any more: takes the reference and leaves NULL if @copy, which is to be
 * filled, can make use of its chunks. Nobody else gets it from then on. */
void store_copy_give(struct store_copy *copy, struct store_copy **scrap);
/* The same on a GPU: takes the first @n_fds of @fds, leaving -1 there. -EBADMSG: they cannot be
 * what @chunks says. */
int store_copy_place(struct store_copy *copy, const struct store_chunks *chunks, int *fds,
                     size_t n_fds, const char *sha256);
/* Somebody could not use it: nobody else is to try. */
void store_copy_spoil(struct store_copy *copy);
