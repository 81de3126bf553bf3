/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights that outlive processes: one sealed copy of each model file in main memory, which
 * every loader that needs it maps. The first loader fills it; only one that was filled and
 * sealed is found by others. The memory is there as long as somebody refers to the copy.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "shared/err.h"
#include "supervisor/device.h"
#include "supervisor/inputs.h"

struct store_copy {
	LIST_ENTRY(store_copy) link; /* while it is full */
	struct store *store;
	unsigned int refs;
	int fd; /* memfd */
	bool is_full;
	struct stat file; /* what it is a copy of */
	char sha256[INPUTS_SHA256_HEX];
	struct device_use use;
};

struct store {
	LIST_HEAD(store_copies, store_copy) copies;
	struct device *device; /* in whose memory they are */
};

void store_init(struct store *store, struct device *device);
/* No copy may be referred to any more. */
void store_fini(struct store *store);

/* The full copy of @file, borrowed, or NULL. */
struct store_copy *store_find(const struct store *store, const struct stat *file);
/* A new reference to that, or to a new one that is to be filled and counts on @claim_bytes
 * of the device at once. 0 or -errno with a sentence. */
int store_take(struct store *store, const struct stat *file, uint64_t claim_bytes,
               struct store_copy **ret_copy, struct err *err);
struct store_copy *store_copy_ref(struct store_copy *copy); /* accepts NULL */
void store_copy_unref(struct store_copy *copy);             /* likewise */

uint64_t store_copy_bytes(const struct store_copy *copy); /* 0 for NULL */
/* It has been filled with what hashes to @sha256, its loader says: from now on it is found.
 * Nothing happens when it was full before. -EBADMSG: its seals or its size say otherwise. */
int store_copy_publish(struct store_copy *copy, const char *sha256);
