/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether what the arguments of one application have become can be served, in their own words: who
 * has given arguments knows of no file and of no key.
 */

#include "shared/err.h"

/* Reads @file, and looks for all that it names. 0, or -EINVAL with a sentence. */
int quick_check(const char *file, struct err *err);

/* Writes what @text, a sentence about @file, says of the arguments: "FILE:9: wsgi: ..." becomes
 * "--wsgi: ...". */
void quick_reword(const char *file, const char *text, struct err *ret_text);
