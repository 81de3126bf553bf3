/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a mistyped name may have been meant to be. */

#include <stddef.h>

/* Letters to insert, delete or replace to make one of the other; SIZE_MAX when @b is longer
 * than names are. */
size_t nearest_distance(const char *a, const char *b);
/* Names that differ from @name in so many letters or more are not what was meant: half of them
 * have to be right. */
size_t nearest_limit(const char *name);
