/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "shared/err.h"

/* A listening, non-blocking TCP socket for "ADDRESS:PORT", "[ADDRESS]:PORT" or "*:PORT"
 * (numeric: no resolver is asked). The fd, or -errno with a sentence. */
int listen_open(const char *address, struct err *err);
