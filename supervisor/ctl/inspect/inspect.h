/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* moultctl inspect: what a file is, and the section that serves it. No moultd is asked. */

#include "supervisor/ctl/arguments.h"

/* Prints the section, or says on stderr what the file is and what to do. */
enum ctl_exit ctl_inspect(const struct ctl_arguments *arguments);

/* "digits" of "/a/digits.pt": a name that a section may have. */
void ctl_inspect_name(const char *path, char *name, size_t size);
