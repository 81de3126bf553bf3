/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether a file still has the content that it had, as far as stat(2) tells. */

#include <stdbool.h>
#include <sys/stat.h>

/* Same device, inode, size, time of modification and time of change. The last one tells of
 * a writer that set the modification time back (cp -p, rsync --inplace, tar --overwrite):
 * nobody can set it. It moves with new rights and names as well. */
bool file_is_same(const struct stat *a, const struct stat *b);
/* The same, of one that is being read meanwhile: a name more or less explains a new time of
 * change. moultd gives the files that it keeps a name of its own, whoever reads them. */
bool file_is_unwritten(const struct stat *before, const struct stat *now);
