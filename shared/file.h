/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether a file still has the content that it had, as far as stat(2) tells; and its bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Same device, inode, size, time of modification and time of change. Nobody can set the time of
 * change, so it betrays a writer that set the modification time back (cp -p, rsync --inplace,
 * tar --overwrite). New rights and names move the time of change as well. */
bool file_is_same(const struct stat *a, const struct stat *b);
/* The same for a file that is being read: a name more or less explains a new time of
 * change. moultd links the files that it keeps, also while somebody reads them. */
bool file_is_unwritten(const struct stat *before, const struct stat *now);

/* Reads until @bytes from @at on are in @buffer, or the file ends. Returns how many there are, or
 * -errno. The descriptor's offset, which others may share, stays. */
ssize_t file_read_at(int fd, void *buffer, size_t bytes, uint64_t at);
