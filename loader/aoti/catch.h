/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Catches what is written to standard error: a compiled model has no other way to say why it
 * fails. Whatever other threads write meanwhile is caught, too, and given on.
 */

#include <stddef.h>

#define CATCH_TEXT_MAX 4096

struct catch
{
	int saved_fd; /* -1: nothing is caught */
	int fd;
};

void catch_begin(struct catch *catch);
/* Ends it, and writes the cause into @cause: one line, "" if there is none. */
void catch_end(struct catch *catch, char *cause, size_t size);
/* The cause in what torch has written, without what goes before it: one line. */
void catch_find_cause(const char *text, char *cause, size_t size);
