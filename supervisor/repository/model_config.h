/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A config.pbtxt of Triton's (its model_config.proto, message ModelConfig) as keys of a model's
 * section. What moult does otherwise and that a model works without becomes a doubt; what it does
 * not do, and what is no field at all, is refused by name.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/repository/fields.h"

struct model_config {
	const char *engine;             /* NULL: the model's file says it */
	char filename[FIELDS_WORD_MAX]; /* default_model_filename; "" */
	char name[FIELDS_WORD_MAX];     /* ""; to be that of the model's folder */
	uint32_t version; /* the only one that is to serve; 0: the highest */
	char *keys;       /* lines of the section; owned, NULL where there are none */
	char *doubts;     /* sentences, separated by "; "; owned, or NULL */
};

/* Reads @root, the whole text. 0 with @ret_config, which model_config_fini() gives back, or -EINVAL
 * with a sentence that begins with the line, or -ENOMEM. */
int model_config_read(struct model_config *ret_config, const struct pbtxt_node *root,
                      struct err *err);
void model_config_fini(struct model_config *config);
