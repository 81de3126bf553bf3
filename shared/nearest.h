/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Guesses which name a mistyped one was meant to be. */

#include <stddef.h>

/* The Levenshtein distance: bytes to insert, delete or replace to turn @a into @b. SIZE_MAX when
 * @b has 40 bytes or more. */
size_t nearest_distance(const char *a, const char *b);
/* A name at this distance from @name, or farther, is no guess: half of the letters have to be
 * right. */
size_t nearest_limit(const char *name);
