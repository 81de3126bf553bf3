/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The options of engine aoti. */

#include "loader/engine.h"
#include "shared/err.h"

struct aoti_options {
	const char *library; /* borrowed, as all; NULL: not named */
	const char *python;  /* the key python of the section */
	const char *model;   /* of several in one package */
};

/* 0, or ENGINE_E_CONFIG with a sentence. */
int aoti_options_read(const struct engine_config *config,
                      struct aoti_options *ret_options, struct err *err);
