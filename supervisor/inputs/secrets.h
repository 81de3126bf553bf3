/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One consistent snapshot of a directory of secrets: one file, one secret. Kubernetes'
 * ..data indirection is followed through one directory descriptor and checked before and
 * after, so that no snapshot mixes two rotations. Values leave this module only inside a
 * constant memfd; a digest keyed with a random key of this process stands for them
 * everywhere else.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"

#define SECRETS_DIGEST_HEX     33
#define SECRETS_FILES_MAX      64
#define SECRETS_FILE_BYTES_MAX (64 * 1024)

struct secrets {
	int fd;         /* constant memfd in the format of proto_secrets_next(); owned */
	uint32_t count; /* secrets in it */
	char digest[SECRETS_DIGEST_HEX]; /* keyed; "" when there are none */
	struct err skipped; /* what else lay there, "NAME (why), ..."; "": nothing */
};

#define SECRETS_NULL                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

enum {
	_SECRETS_E_SUCCESS,
	SECRETS_E_UNSETTLED, /* it changed while being read: try again soon */
	SECRETS_E_REFUSED,   /* missing, or without any of use: keep the last ones */
};

/* Reads @directory (NULL: no secrets, succeeds with an empty memfd). Every regular file
 * whose name does not begin with '.' is a secret; a trailing newline is kept as it is.
 * Skipped are empty files (for two seconds they count as being written), files that
 * everybody may write, that are too large or cannot be read, names of odd characters, links
 * that lead nowhere, and what is no regular file. Refused, with a sentence that names the
 * remedy: a missing directory, one without a secret, too many of them. Never blocks on a
 * FIFO. @err has a sentence on every failure. */
int secrets_read(struct secrets *ret_secrets, const char *directory, struct err *err);
/* Copies what is in @secrets to the empty file @fd, and back. 0 or -errno; -EINVAL: that
 * is not what was written. */
int secrets_save(const struct secrets *secrets, int fd);
int secrets_load(struct secrets *ret_secrets, int fd);
/* True also where that cannot be told. */
bool secrets_has(const struct secrets *secrets, const char *name);
void secrets_fini(struct secrets *secrets);
