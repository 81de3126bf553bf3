/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The options that an engine has. An engine declares them once, in its own file, as a text
 * behind a mark. moultd -t finds the text without opening the library, as modinfo(8) does with
 * modules of the kernel; the engine itself refuses an option that is not in the text. The
 * options of an engine without the mark are checked only when it is opened.
 */

#include <stddef.h>

#include "shared/err.h"

#define ENGINE_OPTIONS_MARK "moult-engine-options:"
/* Bytes of a declaration behind the mark, at the most. */
#define ENGINE_OPTIONS_BYTES_MAX 1024
/* The loader handles this option before any engine sees it. */
#define ENGINE_OPTIONS_OF_ALL "secrets_env"

/* ENGINE_OPTIONS(options, "secret, delay_us"); defines the text options. "": no options. */
#define ENGINE_OPTIONS(variable, names)                                                  \
	static const char variable[] __attribute__((used)) = ENGINE_OPTIONS_MARK names

enum {
	_ENGINE_OPTIONS_E_SUCCESS,
	ENGINE_OPTIONS_E_UNKNOWN,
};

/* Checks that @engine, which declares @options (with the mark), has an option called @name. 0, or
 * UNKNOWN with a sentence that lists the options and guesses which one was meant. */
int engine_options_check(const char *engine, const char *options, const char *name,
                         struct err *err);

/* Returns the declaration in the bytes of an engine's file, with the mark and terminated. The
 * text is borrowed from @file. NULL: the file has no declaration, or a broken one. */
const char *engine_options_find(const void *file, size_t bytes);
