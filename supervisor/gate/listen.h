/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

/* Listens, non-blocking, at TCP "ADDRESS:PORT", "[ADDRESS]:PORT" or "*:PORT" (numeric: no
 * resolver is asked). The fd, which the caller owns, or -errno with a sentence. */
int listen_open(const char *address, struct err *err);

/* Prints where @fd listens into @text: ADDRESS:PORT with the port that the kernel chose,
 * a path of a unix socket, or "unknown". Returns @text. */
const char *listen_describe(int fd, char *text, size_t size);

/* True: only this machine reaches where @fd listens, a loopback address or a unix socket. */
bool listen_is_local(int fd);
/* True: @fd is a unix socket, which no browser reaches. */
bool listen_is_unix(int fd);
