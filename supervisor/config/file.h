/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Reads an INI file into a struct config: lines, sections, keys, and what must hold
 * between the keys of one section. Other files are not its concern.
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

/* Adds the contents of @path (absolute) to @config, which holds part of them after a
 * failure. 0, or -errno with a sentence that begins with FILE:LINE. */
int config_file_read(struct config *config, const char *path, enum config_file_kind kind,
                     struct err *err);

/* Adds a @text that was kept, with absolute paths, likewise; sentences begin with kept:LINE. */
int config_read_text(struct config *config, const char *text, enum config_file_kind kind,
                     struct err *err);
/* Notes that the model that was read last stood on @line of @file. 0 or -ENOMEM. */
int config_file_set_origin(struct config *config, const char *file, unsigned int line);
/* Opens a regular file of a size that a person may have written, without waiting on a
 * FIFO; the caller closes *ret_stream. 0, or -errno with a sentence. */
int config_file_open(const char *path, FILE **ret_stream, struct err *err);

/* Makes an empty configuration of @file (absolute), without defaults. The caller owns the
 * one reference to *ret_config. 0 or -ENOMEM. */
int config_new(struct config **ret_config, const char *file);
/* Sets every key of @table that has a default. 0 or -errno. */
int config_set_defaults(const struct config_table *table, void *object, struct err *err);
/* Sets the defaults of [supervisor] and of all devices. */
int config_set_all_defaults(struct config *config, struct err *err);
/* Completes a configuration when everything is read: fills in what no file says and
 * checks what belongs to no line. 0, or -errno with a sentence. */
int config_complete(struct config *config, struct err *err);

/* Says where loader and engines are, instead of looking for them. 0 or -ENOMEM. */
int config_set_places(struct config *config, const char *loader, const char *engine_dir);

/* Makes @file absolute. Links stay links: their targets may change before the next
 * reading. 0 or -errno; the caller frees *ret_path. */
int config_make_absolute(const char *file, char **ret_path);
