/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One INI file into a struct config: lines, sections, keys, and what must hold between
 * the keys of one section. Knows nothing of other files.
 */

#include <stdio.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/config/keys.h"

enum config_file_kind {
	CONFIG_FILE_MAIN,  /* one [supervisor] and any number of models */
	CONFIG_FILE_MODEL, /* exactly one [model NAME] */
};

#define CONFIG_FILE_BYTES_MAX (1L << 20)
#define CONFIG_LINE_BYTES_MAX 4096

/* Adds what @path (absolute) says to @config, which holds part of it after a failure. 0,
 * or -errno with a sentence that begins with FILE:LINE. */
int config_file_read(struct config *config, const char *path, enum config_file_kind kind,
                     struct err *err);

/* The same of a @text that is in no file. */
int config_read_text(struct config *config, const char *text, enum config_file_kind kind,
                     struct err *err);
/* A regular file of a size that a person may have written, without waiting on a FIFO. 0, or
 * -errno with a sentence. */
int config_file_open(const char *path, FILE **ret_stream, struct err *err);

/* Sets every key of @table that has a default. 0 or -errno. */
int config_set_defaults(const struct config_table *table, void *object, struct err *err);
/* Those of [supervisor] and [device host]. */
int config_set_all_defaults(struct config *config, struct err *err);
/* What is left to do when everything is read: fills in what no file says and checks what
 * belongs to no line. 0, or -errno with a sentence. */
int config_complete(struct config *config, struct err *err);

/* Links stay links: where they lead may change before the next reading. 0 or -errno; the
 * caller frees *ret_path. */
int config_make_absolute(const char *file, char **ret_path);

void config_model_free(struct config_model *model);
