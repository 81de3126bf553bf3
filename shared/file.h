/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether a file still has the content that it had, as far as stat(2) tells. */

#include <stdbool.h>
#include <sys/stat.h>

/* Same device, inode, size, time of modification and time of change. Nobody can set the time of
 * change, so it betrays a writer that set the modification time back (cp -p, rsync --inplace,
 * tar --overwrite). New rights and names move the time of change as well. */
bool file_is_same(const struct stat *a, const struct stat *b);
/* The same for a file that is being read: a name more or less explains a new time of
 * change. moultd links the files that it keeps, also while somebody reads them. */
bool file_is_unwritten(const struct stat *before, const struct stat *now);
