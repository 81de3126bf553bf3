/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What is in a zip archive, by its directory: PKWARE's APPNOTE 6.3.10, 4.3. Nothing is unpacked and
 * nothing trusted: every length of the file is checked before it is used.
 */

#include <stdint.h>

#include "shared/model_format.h"

#define ZIP_NAME_MAX 256

/* Methods of compression that are of use. */
enum {
	ZIP_STORED = 0,
	ZIP_DEFLATED = 8,
};

struct zip_entry {
	const char
		*name; /* "" for a longer one than ZIP_NAME_MAX; good inside the call */
	uint64_t at;   /* of its local header */
	uint64_t packed_bytes;
	uint64_t bytes;
	unsigned int method;
};

enum {
	_ZIP_E_SUCCESS,
	ZIP_E_CUT,    /* it has no end: the archive was cut off */
	ZIP_E_BEYOND, /* ZIP64, a directory that is too large, or one that cannot be read */
};

/* Calls @take with each entry. 0 or an outcome. */
int zip_list(const struct model_file *file,
             void (*take)(void *context, const struct zip_entry *entry), void *context);

/* Returns where the data begins of the entry whose local header is at @at; 0: that is no header. */
uint64_t zip_find_data(const struct model_file *file, uint64_t at);
