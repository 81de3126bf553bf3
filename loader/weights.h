/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model file, read once into private memory and hashed on the way. What is used, what
 * was hashed and what is reported are the same bytes, whatever happens to the file.
 *
 * A lean reading hashes the file and keeps nothing but the descriptor, for an engine that
 * reads it later; weights_check() then says whether it is still the file that was hashed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "shared/err.h"

#define WEIGHTS_SHA256_HEX 65

struct weights {
	void *data; /* NULL: none, lean, or given back */
	size_t bytes;
	char sha256[WEIGHTS_SHA256_HEX]; /* empty: none */
	int fd;                          /* owned; -1: none */
	struct stat file;                /* of fd when it was read */
};

#define WEIGHTS_NULL                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

enum {
	_WEIGHTS_E_SUCCESS,
	WEIGHTS_E_REFUSED, /* no such file, not a regular one, or it changed meanwhile */
};

/* Reads @fd (taken, also on failure; -1: @path is opened). 0; WEIGHTS_E_REFUSED with a
 * sentence; -errno with a sentence. */
int weights_init(struct weights *weights, int fd, const char *path, bool is_lean,
                 struct err *err);
/* 0, or WEIGHTS_E_REFUSED with a sentence: the file changed since it was hashed. */
int weights_check(const struct weights *weights, const char *path, struct err *err);
/* Gives the memory and the descriptor back and keeps size and hash. */
void weights_drop(struct weights *weights);
