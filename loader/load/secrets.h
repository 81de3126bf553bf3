/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The secrets of one generation, as proto_secrets_next() reads them. Values stay in the sealed
 * memory in which they came, which core dumps leave out; they are never printed.
 */

#include <stddef.h>

#include "loader/engine.h"
#include "shared/err.h"
#include "shared/memfd.h"

struct secrets {
	struct memfd memory;
	struct engine_secret *rows;
	size_t n_rows;
};

#define SECRETS_NULL                                                                     \
	{                                                                                \
		.memory = MEMFD_NULL                                                     \
	}

/* Takes @fd in any case. 0, or -errno with a sentence. */
int secrets_init(struct secrets *secrets, int fd, struct err *err);
void secrets_fini(struct secrets *secrets);

/* Returns the secret, borrowed; NULL: no secret has that name. */
const struct engine_secret *secrets_find(const struct secrets *secrets, const char *name);

/* Puts the secrets that @list ("NAME,NAME") names into this process' environment. 0,
 * -EINVAL or -ENOMEM with a sentence. */
int secrets_export(const struct secrets *secrets, const char *list, struct err *err);
