/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A directory of a test's own, with helpers. Every failure ends the test. */

#include <stddef.h>

/* Makes the directory and moves into it. Returns its resolved, absolute path. */
const char *scratch_enter(void);
/* Leaves the directory, and removes it with everything inside. */
void scratch_leave(void);

/* Paths may be relative to it. The results live until the 8th call after. */
const char *scratch_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

void scratch_write_bytes(const char *path, const void *data, size_t bytes);
void scratch_write(const char *path, const char *text);
/* Puts a new file in the place of the old one, in one step. */
void scratch_replace(const char *path, const char *text);
void scratch_mkdir(const char *path);
void scratch_link(const char *target, const char *path);
/* Swaps files as the kubelet does: writes @directory/..@stamp/@name, and points ..data there.
 * The folder that ..data led to before is removed. */
void scratch_swap(const char *directory, const char *stamp, const char *name,
                  const char *text);
void scratch_remove(const char *path); /* with everything inside */

/* Counts the descriptors that this process has open. */
size_t scratch_fds(void);
