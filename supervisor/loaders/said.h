/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What follows from a loader's words, once they were read (loaders/message.h) and are allowed.
 */

#include <stdbool.h>

#include "shared/err.h"
#include "supervisor/loaders/generation.h"

/* Logs walls and figures of a loader that is STAGED. */
void said_staged(const struct generation *generation);

/* Notes what a loader that is READY teaches of its inputs. False with a sentence: the loader lacks
 * what clients must know. */
bool said_ready(struct generation *generation, struct err *err);
