/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the kernel has for the walls round loaders. */

#include <stdbool.h>

/* Returns the version of landlock's interface; 0: there is none, or it is switched off. */
int kernel_landlock(void);
bool kernel_has_seccomp(void);
