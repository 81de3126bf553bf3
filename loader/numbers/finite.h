/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Looks for NaN and infinities in an output. Pure. */

#include <stdbool.h>

#include "loader/engine.h"

/* The first elements of a tensor are looked at, so many: broken weights show everywhere, and an
 * answer of any size costs no more than a few microseconds. */
#define FINITE_LOOK_MAX 4096

/* False: one of the first FINITE_LOOK_MAX elements is not finite. True for other types than floating
 * point. */
bool finite_look(const struct engine_tensor *tensor);
