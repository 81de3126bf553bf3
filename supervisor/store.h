/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights that outlive processes: one sealed copy of each model file in main memory, which
 * every loader that needs it maps. The first loader fills it; only one that was filled and
 * sealed is found by others, who wait for that rather than fill one more. The memory is there
 * as long as somebody refers to the copy.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "shared/err.h"
#include "supervisor/device.h"
#include "supervisor/inputs.h"

struct store_copy {
	LIST_ENTRY(store_copy) link; /* of the full ones, or of those being filled */
	struct store *store;
	unsigned int refs;
	int fd;                 /* memfd */
	unsigned int n_serving; /* loaders that serve, or served, over it */
	bool is_full;
	bool is_listed;       /* not when it was abandoned */
	bool is_urgent;       /* its loader does not stand back for others */
	bool is_late;         /* it is filled when the loader commits */
	blkcnt_t seen_blocks; /* of its memory, when it was last seen to have grown */
	uint64_t grown_ns;
	struct stat file; /* what it is a copy of */
	char sha256[INPUTS_SHA256_HEX];
	struct device_use use;
};

struct store {
	LIST_HEAD(store_copies, store_copy) copies;
	struct store_copies filling;
	struct device *device; /* in whose memory they are */
	/* One that was being filled is full, or will never be: set by the owner, or NULL.
	 * Calls nothing here. */
	void (*on_change)(void *context);
	void *context;
};

void store_init(struct store *store, struct device *device);
/* No copy may be referred to any more. */
void store_fini(struct store *store);

/* The full copy of @file, borrowed, or NULL. */
struct store_copy *store_find(const struct store *store, const struct stat *file);
/* Somebody fills a copy of @file, as fast as the caller would: on_change() tells the end. One
 * that stops growing is no use to the urgent, and nobody tells: they look again. */
bool store_is_coming(struct store *store, const struct stat *file, bool is_urgent);

struct store_wish {
	const struct stat *file;
	uint64_t claim_bytes; /* of the device, at once, if it is to be filled */
	bool is_urgent;
	bool is_late; /* it will be filled when its loader commits */
};

/* A new reference to the full copy, or to a new one that is to be filled.
 * 0 or -errno with a sentence. */
int store_take(struct store *store, const struct store_wish *wish,
               struct store_copy **ret_copy, struct err *err);
/* It is not found any more, and nobody waits for it: who fills it may not end, or what is in
 * it may be wrong. */
void store_copy_abandon(struct store_copy *copy);           /* accepts NULL */
struct store_copy *store_copy_ref(struct store_copy *copy); /* accepts NULL */
void store_copy_unref(struct store_copy *copy);             /* likewise */

uint64_t store_copy_bytes(const struct store_copy *copy); /* 0 for NULL */
/* It has been filled with what hashes to @sha256, its loader says: from now on it is found.
 * Nothing happens when it was full before. -EBADMSG: its seals or its size say otherwise. */
int store_copy_publish(struct store_copy *copy, const char *sha256);
