/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The inputs of a model as they lie on disk: whether they changed, and why they cannot be
 * used as they are. sources.c alone writes them.
 */

#include <ev.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "shared/err.h"
#include "supervisor/inputs/inputs.h"
#include "supervisor/inputs/secrets.h"
#include "supervisor/inputs/watch.h"

struct code;
struct model;

enum source { SOURCE_SECRETS, SOURCE_FILE, SOURCE_COUNT };

struct sources {
	struct watch_path *secrets_watch;
	struct watch_path *file_watch;
	struct code *code_watch;
	char seen_secrets[SECRETS_DIGEST_HEX]; /* any other digest wants a reload */
	struct stat seen_file;
	ev_timer unsettled;             /* secrets changed while being read */
	unsigned int n_unsettled;       /* so often in a row */
	struct secrets fresh;           /* for the reload that they ask for */
	ev_timer fresh_end;             /* they are read again from then on */
	struct err stale[SOURCE_COUNT]; /* why an input on disk is no use, or "" */
	struct err skipped;             /* entries of the secrets, and why; or "" */
};

void sources_init(struct model *model);
void sources_fini(struct model *model);
/* Arms, or moves, the watches that the section asks for. */
void sources_arm(struct model *model);
/* Notes what a reload was tried with, or refused for: that is no change any more. */
void sources_note(struct model *model, const struct inputs_found *found);
/* The secrets that ask for a reload, if they were read a moment ago and no change was
 * seen since, or NULL. Borrowed. */
const struct secrets *sources_secrets(const struct model *model);
/* Secrets are changing: looks again soon. @reason is for people if that does not end. */
void sources_retry(struct model *model, const struct err *reason);
/* True: nobody serves, and the secrets have changed while being read for long enough: the
 * next generation is built without them. */
bool sources_gives_up(const struct model *model);
/* Notes why an input on disk is of no use; "": it is of use. */
void sources_set_stale(struct model *model, enum source input, const char *reason);
/* The first such reason, or "". Borrowed. */
const char *sources_stale(const struct model *model);
