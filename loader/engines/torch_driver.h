/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Asks the GPU's driver without libtorch, for engine torch. Nothing here makes a context. */

#include <stdbool.h>
#include <stddef.h>

/* Writes "a driver for CUDA 12.4" into @text. Returns @text. */
const char *torch_driver_name(char *text, size_t size);
/* True when the host can read the memory of card number @index, so that a libtorch without CUDA
 * can compute over it: on a few machines, and over the driver of the tests. */
bool torch_driver_shows_host(int index);
/* Returns the memory of the card that this thread computes on; 0: not known. */
size_t torch_driver_total_bytes(void);
