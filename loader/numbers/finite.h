/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether an output holds numbers: NaN and the infinities are none. Pure. */

#include <stdbool.h>

#include "loader/engine.h"

/* So many elements of a tensor are looked at, from its first on: a generation whose weights
 * are broken shows it everywhere, and an answer of any size costs no more than a few
 * microseconds. */
#define FINITE_LOOK_MAX 4096

/* False: one of those elements is not finite. True for what is no floating point type. */
bool finite_look(const struct engine_tensor *tensor);
