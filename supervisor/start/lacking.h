/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the walls round the models of a configuration want of the kernel, and it lacks. A loader
 * tells the same of itself once it stands; whoever starts moultd is told before that. Pure.
 */

#include <stdbool.h>

#include "shared/err.h"
#include "supervisor/config/config.h"

struct lacking_kernel {
	int landlock; /* version; 0: none */
	bool has_seccomp;
};

/* The layers that stand with a part of the walls missing. */
const char *lacking_standing(const struct lacking_kernel *kernel);
/* True, with a sentence: a model's walls lack something. Models that ask for no walls, or for
 * none of the missing kind, lack nothing. */
bool lacking_find(const struct config *config, const struct lacking_kernel *kernel,
                  struct err *ret_what);
/* Logs that for this kernel, in one line. */
void lacking_warn(const struct config *config);
