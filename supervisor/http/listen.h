/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "shared/err.h"

/* A listening, non-blocking TCP socket for "ADDRESS:PORT", "[ADDRESS]:PORT" or "*:PORT"
 * (numeric: no resolver is asked). The fd, or -errno with a sentence. */
int listen_open(const char *address, struct err *err);

/* Where @fd listens, into @text: ADDRESS:PORT with the port that the kernel chose, a path of
 * a unix socket, or "unknown". Returns @text. */
const char *listen_describe(int fd, char *text, size_t size);
