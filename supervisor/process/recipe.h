/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How a loader is started: its words and what its environment has beyond moultd's own. All of
 * them are made here. Two loaders that were started by equal recipes are the same until they
 * get LOAD, so a recipe is also what a spare is known by.
 */

#include <stdbool.h>
#include <stdint.h>

#include "shared/err.h"
#include "supervisor/config/config.h"
#include "supervisor/process/child.h"

#define RECIPE_WORDS_MAX     9
#define RECIPE_VARIABLES_MAX (CONFIG_OPTIONS_MAX + 3)

struct recipe {
	char *argv[RECIPE_WORDS_MAX + 1]; /* ends with NULL, as the next one does */
	char *environment[RECIPE_VARIABLES_MAX + 1]; /* "NAME=VALUE" */
	bool is_short;                               /* of memory: words are missing */
};

/* The interpreter of @section; NULL: its engine needs none. Borrowed. */
const char *recipe_python(const struct config_model *section);

/* Makes the recipe of a loader for generation @number of @section. 0, or -ENOMEM with a
 * sentence; recipe_fini() is due in both cases. */
int recipe_init(struct recipe *recipe, const struct config *config,
                const struct config_model *section, uint64_t number, struct err *err);
/* The same for a loader that is started ahead, as @newest wants it: the newest section of the
 * model. */
int recipe_init_spare(struct recipe *recipe, const struct config *config,
                      const struct config_model *section,
                      const struct config_model *newest, struct err *err);
/* Starts a loader by it: as child_spawn() does, with the right to become the user that it names.
 * Nothing else that moultd starts gets that. */
int recipe_spawn(const struct recipe *recipe, struct child *child, struct ev_loop *loop,
                 int control_fd, const struct child_listener *listener, struct err *err);
/* What the word "--NAME=..." says, borrowed; @name is "--NAME=". NULL: there is none. */
const char *recipe_find(const struct recipe *recipe, const char *name);
/* @from is a zeroed recipe afterwards. */
void recipe_move(struct recipe *to, struct recipe *from);
/* Accepts a zeroed recipe. */
void recipe_fini(struct recipe *recipe);

bool recipe_is_same(const struct recipe *a, const struct recipe *b);
