/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A model file, read once into private memory and hashed on the way. What is used, what
 * was hashed and what is reported are the same bytes, whatever happens to the file.
 */

#include <stddef.h>

#include "shared/err.h"

#define WEIGHTS_SHA256_HEX 65

struct weights {
	void *data; /* NULL: none, or given back */
	size_t bytes;
	char sha256[WEIGHTS_SHA256_HEX]; /* empty: none */
};

enum {
	_WEIGHTS_E_SUCCESS,
	WEIGHTS_E_REFUSED, /* no such file, not a regular one, or it changed meanwhile */
};

/* Reads @path. 0; WEIGHTS_E_REFUSED with a sentence; -errno with a sentence. */
int weights_init(struct weights *weights, const char *path, struct err *err);
/* Gives the memory back and keeps size and hash. */
void weights_drop(struct weights *weights);
