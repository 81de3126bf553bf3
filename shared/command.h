/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A command line that no shell reads: words, placeholders, and the program that the first word
 * names. moultd -t and the engine server read it alike.
 *
 * Blanks separate words. What stands in '' is taken as it is; in "" a backslash protects " and \,
 * and outside it protects any character. What only a shell would understand is refused.
 */

#include <stdbool.h>
#include <stddef.h>

#include "shared/err.h"

#define COMMAND_PORT   "{port}"
#define COMMAND_SOCKET "{socket}"

struct command {
	char **words; /* ends with NULL */
	size_t n_words;
	bool has_port; /* the placeholder occurs */
	bool has_socket;
};

#define COMMAND_NULL                                                                     \
	{                                                                                \
		.words = NULL                                                            \
	}

/* Reads @text. 0, or -EINVAL or -ENOMEM with a sentence. command_fini() in any case. */
int command_init(struct command *command, const char *text, struct err *err);
void command_fini(struct command *command);

/* Puts @value in the place of each @placeholder. 0 or -ENOMEM. */
int command_fill(struct command *command, const char *placeholder, const char *value);

/* Finds the program that the first word names: a path, which starts from @directory (NULL: the
 * working directory), or a name in @list, which has the form of PATH. The caller frees *ret_path.
 * 0, or -errno with a sentence that names the remedy. */
int command_find(const struct command *command, const char *list, const char *directory,
                 char **ret_path, struct err *err);
