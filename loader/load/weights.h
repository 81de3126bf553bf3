/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model file in memory. The bytes that are used, hashed and reported are the same, whatever
 * happens to the file, unless the operator vouches for it (share = file).
 *
 *	private  read into memory of this process
 *	fill     copied into a memfd, sealed later: one copy for all that map it
 *	map      mapped as it is: a memfd that was filled before, or the file itself
 *
 * Mappings are copy-on-write. A lean reading hashes the file and holds nothing but the
 * descriptor: later the engine reads the file itself, or weights_place() fills the store.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "shared/err.h"

#define WEIGHTS_SHA256_HEX 65

enum weights_share { WEIGHTS_PRIVATE, WEIGHTS_FILL, WEIGHTS_MAP };

struct weights {
	enum weights_share share;
	void *data; /* NULL: none, lean, or given back */
	size_t bytes;
	char sha256[WEIGHTS_SHA256_HEX]; /* "": not known */
	int fd;                          /* the file; owned; -1: none */
	int store_fd;                    /* the memfd to be filled; owned; -1: none */
	struct stat file;                /* of fd before it was read */
	_Atomic uint64_t *passed; /* bytes gone through, for who looks on; or NULL */
};

#define WEIGHTS_NULL                                                                     \
	{                                                                                \
		.fd = -1, .store_fd = -1                                                 \
	}

enum {
	_WEIGHTS_E_SUCCESS,
	WEIGHTS_E_REFUSED, /* no such file, not a regular one, or it changed meanwhile */
};

/* weights_init() takes both descriptors, also on failure. */
struct weights_source {
	enum weights_share share;
	bool is_lean;
	int fd;             /* -1: path is opened */
	int store_fd;       /* fill: a memfd as large as the file; else -1 */
	const char *path;   /* for messages */
	const char *sha256; /* map, lean: known from before; NULL: not known */
	_Atomic uint64_t
		*passed; /* see struct weights; borrowed as long as that is used */
};

/* Opens, checks and reads or maps the file. weights_drop() after success. 0; WEIGHTS_E_REFUSED or
 * -errno with a sentence. */
int weights_init(struct weights *weights, const struct weights_source *source,
                 struct err *err);
/* After a lean reading with WEIGHTS_FILL: fills and maps the store. Returns what weights_init()
 * does. */
int weights_place(struct weights *weights, const char *path, struct err *err);
/* Shows that @bytes of the file have been gone through so far. */
void weights_tell(const struct weights *weights, size_t bytes);
/* Seals the store that was filled, if any: nobody can change it from then on. 0, or -errno with
 * a sentence. */
int weights_seal(struct weights *weights, const char *path, struct err *err);
/* Gives back shared weights and empties the store. Only the descriptor of the file is left, as
 * after a lean reading. */
void weights_unshare(struct weights *weights);
/* 0, or WEIGHTS_E_REFUSED with a sentence: the file changed since it was hashed. */
int weights_check(const struct weights *weights, const char *path, struct err *err);
/* What weights_drop() does, at the end of the process, but leaves shared weights mapped: threads
 * that no engine can end, an application's own, may read them until the process is gone. */
void weights_leave(struct weights *weights);
/* Gives the memory and the descriptors back and keeps size and hash. */
void weights_drop(struct weights *weights);
