/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The options that an engine has. It declares them once, in its own file, as a text behind a
 * mark: so they can be looked up in that file by whoever does not open it (moultd -t), as
 * modinfo(8) does with modules of the kernel, and the engine itself refuses what is not among
 * them. An engine without the mark says only when it is opened what it does not know.
 */

#include <stddef.h>

#include "shared/err.h"

#define ENGINE_OPTIONS_MARK "moult-engine-options:"
/* Bytes of a declaration behind the mark, at the most. */
#define ENGINE_OPTIONS_BYTES_MAX 1024
/* Handled before any engine sees it. */
#define ENGINE_OPTIONS_OF_ALL "secrets_env"

/* ENGINE_OPTIONS(options, "secret, delay_us"); defines options. "": it has none. */
#define ENGINE_OPTIONS(variable, names)                                                  \
	static const char variable[] __attribute__((used)) = ENGINE_OPTIONS_MARK names

enum {
	_ENGINE_OPTIONS_E_SUCCESS,
	ENGINE_OPTIONS_E_UNKNOWN,
};

/* Whether @engine, which declares @options (with the mark), has one that is called @name. 0, or
 * UNKNOWN with a sentence that has those that there are, and the one that may be meant. */
int engine_options_check(const char *engine, const char *options, const char *name,
                         struct err *err);

/* The declaration in the bytes of an engine's file: with the mark, terminated. NULL: there is
 * none of use. */
const char *engine_options_find(const void *file, size_t bytes);
