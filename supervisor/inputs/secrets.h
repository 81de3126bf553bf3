/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A consistent snapshot of a directory of secrets: each file is a secret. Kubernetes'
 * ..data link is followed through one directory descriptor and checked before and
 * after, so that no snapshot mixes two rotations. Values leave this module only inside
 * a constant memfd; a digest keyed with a random key of this process stands for them
 * everywhere else.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "shared/memfd.h"

#define SECRETS_DIGEST_HEX     33
#define SECRETS_FILES_MAX      64
#define SECRETS_FILE_BYTES_MAX (64 * 1024)

struct secrets {
	int fd;         /* constant memfd in the format of proto_secrets_next(); owned */
	uint32_t count; /* secrets in it */
	char digest[SECRETS_DIGEST_HEX]; /* keyed; "" when there are none */
	struct err skipped;              /* other entries, "NAME (why), ..."; "": none */
};

#define SECRETS_NULL                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

enum {
	_SECRETS_E_SUCCESS,
	SECRETS_E_UNSETTLED, /* the directory changed while being read: try again soon */
	SECRETS_E_REFUSED,   /* missing, or without a secret: keep the last ones */
};

/* Reads @directory (NULL: no secrets, succeeds with an empty memfd). Every regular file
 * whose name does not begin with '.' is a secret; a trailing newline is kept. Skipped
 * are empty files (for two seconds they count as being written), files that everybody
 * may write, that are too large or cannot be read, names with other characters than
 * letters, digits, '.', '_' and '-', links that lead nowhere, and all that is no
 * regular file. Refused, with a sentence that names the remedy: a missing directory,
 * one without a secret, too many of them. Never blocks on a FIFO. @err has a sentence
 * on every failure. */
int secrets_read(struct secrets *ret_secrets, const char *directory, struct err *err);
/* The same digest, without the values. */
struct secrets secrets_identity(const struct secrets *secrets);
/* Leaves SECRETS_NULL in *@secrets. */
struct secrets secrets_take(struct secrets *secrets);
/* Makes *@ret_copy stand for the same values as @secrets. 0 or -errno. */
int secrets_copy(struct secrets *ret_copy, const struct secrets *secrets);
/* Maps the values as one text; memfd_fini() ends that. 0 or -errno. */
int secrets_map(const struct secrets *secrets, struct memfd *ret_map);
/* Reads such a text from the file @fd. 0 or -errno; -EINVAL: the file holds something
 * else. */
int secrets_load(struct secrets *ret_secrets, int fd);
/* True: @secrets has @name, or could not be looked at. */
bool secrets_has(const struct secrets *secrets, const char *name);
void secrets_fini(struct secrets *secrets);
