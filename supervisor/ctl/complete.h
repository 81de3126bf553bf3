/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a shell may offer for an unfinished command line of moultctl. It is read from the rows
 * of ctl_commands and ctl_options, so that a new command is completed without another line.
 */

#include "supervisor/ctl/arguments.h"

enum ctl_offer {
	CTL_OFFER_PRINTED, /* or there is nothing to offer */
	CTL_OFFER_FILES,   /* the shell knows them better */
	CTL_OFFER_MODELS,  /* moultd knows them */
};

/* Prints what the last of the @n_words, which is whole or not or empty, may become: one a line.
 * The words stand behind the program's name. Fills in @arguments as far as the words say where
 * moultd is asked. */
enum ctl_offer ctl_complete(FILE *out, int n_words, char **words,
                            struct ctl_arguments *arguments);
/* Prints the models of @answer, to the command status, whose names begin with @begun. */
void ctl_complete_models(FILE *out, const json_t *answer, const char *begun);
