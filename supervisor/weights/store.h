/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Weights that outlive processes: one copy of each model file, which every loader that
 * needs it maps. The first loader fills the copy. Other loaders find it when it is full,
 * and wait for that rather than fill a second one. The memory is there as long as
 * somebody refers to the copy.
 *
 * In main memory a copy is a sealed memfd. On a GPU it is chunks, and the driver gave a
 * descriptor for each to the loader that made them. Holding the descriptors is enough to
 * keep the memory: this module asks the driver for nothing.
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

/* How a copy lies on a GPU; the members are those of shared/proto.h. */
struct store_chunks {
	uint64_t kept; /* number of leading chunks that were taken over from the scrap */
	uint64_t chunk_bytes;
	uint64_t mapped_bytes;
	char canary[STORE_CANARY_HEX];
};

struct store_copy {
	LIST_ENTRY(store_copy) link; /* links copies when full, else filling */
	struct store *store;
	struct device *device; /* whose memory holds the copy */
	unsigned int refs;
	int fd;                 /* memfd; -1 on a GPU */
	unsigned int n_serving; /* live loaders that serve with it, or served */
	bool is_full;
	bool is_listed;       /* false: abandoned or spoilt, nobody finds it */
	bool is_urgent;       /* its loader does not stand back for others */
	bool is_late;         /* filled only when the loader commits */
	blkcnt_t seen_blocks; /* blocks of the memfd when it last grew */
	uint64_t grown_ns;
	/* On a GPU. */
	int fds[PROTO_CHUNKS_MAX];
	size_t n_fds;
	struct store_copy *scrap; /* needed by nobody: its chunks are used again */
	struct store_chunks chunks;
	struct stat file; /* the file that was copied */
	char sha256[INPUTS_SHA256_HEX];
	struct device_use use;
};

struct store {
	LIST_HEAD(store_copies, store_copy) copies;
	struct store_copies filling;
	struct device *host;              /* main memory */
	void (*on_change)(void *context); /* or NULL */
	void *context;
};

/* @host is main memory, borrowed. */
void store_init(struct store *store, struct device *host);
/* Calls @on_change (NULL: nobody) from now on when a copy that was being filled is full, or
 * will never be. The callee calls nothing of this module. */
void store_listen(struct store *store, void (*on_change)(void *context), void *context);
/* Ends the store; nobody may refer to a copy any more. */
void store_fini(struct store *store);

/* The full copy of @file in the memory of @device, borrowed, or NULL. */
struct store_copy *store_find(const struct store *store, const struct device *device,
                              const struct stat *file);
/* A file's content is unchanged, although stat(2) says otherwise. */
void store_on_file_touched(struct store *store, const struct stat *before,
                           const struct stat *after);
/* True: a loader fills such a copy as fast as the caller would, and on_change() tells the
 * end. For an urgent caller a copy that stops growing does not count; nothing tells when
 * it stops, so urgent callers look again. */
bool store_is_coming(struct store *store, const struct device *device,
                     const struct stat *file, bool is_urgent);

struct store_wish {
	struct device *device; /* whose memory is to hold the copy */
	const struct stat *file;
	uint64_t claim_bytes; /* of the device, from now on, if it is to be filled */
	bool is_urgent;
	bool is_late; /* the loader will fill it when it commits */
};

/* Gives a new reference to the full copy, or to a new copy that the caller's loader is to
 * fill. 0 or -errno with a sentence. */
int store_take(struct store *store, const struct store_wish *wish,
               struct store_copy **ret_copy, struct err *err);
/* Takes the copy from those who wait for it: the loader that fills it may never end.
 * Accepts NULL. */
void store_copy_abandon(struct store_copy *copy);           /* accepts NULL */
struct store_copy *store_copy_ref(struct store_copy *copy); /* accepts NULL */
void store_copy_unref(struct store_copy *copy);             /* accepts NULL */

/* A loader serves with @copy from now on, or is gone. */
void store_copy_count(struct store_copy *copy, bool is_serving);
uint64_t store_copy_bytes(const struct store_copy *copy); /* 0 for NULL */
bool store_copy_is_placed(const struct store_copy *copy); /* on a GPU; not for NULL */
/* The loader says that it has filled the copy with what hashes to @sha256: from now on
 * the copy is found. Does nothing for a copy that was full before. -EBADMSG: the seals or
 * the size say otherwise. */
int store_copy_publish(struct store_copy *copy, const char *sha256);
/* Hands *@scrap, which nobody needs any more, to @copy, which is to be filled. When @copy
 * can use its chunks, takes the reference and leaves NULL; nobody else gets the scrap
 * from then on. */
void store_copy_give(struct store_copy *copy, struct store_copy **scrap);
/* Does on a GPU what store_copy_publish() does: takes the first @n_fds of @fds, leaving
 * -1 there. -EBADMSG: the descriptors cannot be what @chunks says. */
int store_copy_place(struct store_copy *copy, const struct store_chunks *chunks, int *fds,
                     size_t n_fds, const char *sha256);
/* Keeps others from trying a copy that somebody could not use. */
void store_copy_spoil(struct store_copy *copy);
