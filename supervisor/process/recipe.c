/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Words are added in a fixed order, so that equal recipes are equal lists. What differs between two
 * loaders of one model, its generation, is in the recipe of a loader and not in that of a spare; the
 * user of loader_users is in both, since no process changes it later.
 */
#include "supervisor/process/recipe.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/user.h"
#include "supervisor/process/privileges.h"

/* Appends a word to the first free place of @list. */
static void recipe_add(struct recipe *recipe, char **list, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void recipe_add(struct recipe *recipe, char **list, const char *format, ...)
{
	va_list args;

	while (*list)
		list++;
	va_start(args, format);
	if (vasprintf(list, format, args) < 0) {
		*list = NULL;
		recipe->is_short = true;
	}
	va_end(args);
}

const char *recipe_python(const struct config_model *section)
{
	if (!config_is_python(section))
		return NULL;
	return config_python(section);
}

static void recipe_begin(struct recipe *recipe, const struct config *config)
{
	*recipe = (struct recipe){ 0 };
	recipe_add(recipe, recipe->argv, "%s", config->loader);
	recipe_add(recipe, recipe->argv, "--parent=%d", (int)getpid());
}

static void recipe_add_user(struct recipe *recipe, const struct config *config,
                            const char *model)
{
	uint32_t user = config_user_of(config, model);

	if (user && user_may_change())
		recipe_add(recipe, recipe->argv, "--user=%u", user);
}

static bool recipe_has_variable(const struct config_model *section, const char *name)
{
	for (size_t i = 0; i < section->n_environment; i++)
		if (strcmp(section->environment[i].name, name) == 0)
			return true;
	return false;
}

static int recipe_end(struct recipe *recipe, const struct config_model *section,
                      struct err *err)
{
	/* Python compares a file's time to the second with that of its compiled form: of two
	 * changes within one second the second would not count. */
	if (section->watch_code)
		recipe_add(recipe, recipe->environment, "PYTHONDONTWRITEBYTECODE=1");
	/* Read by numpy's and torch's libraries as they are loaded. */
	if (section->python_class && !section->route &&
	    !recipe_has_variable(section, "OMP_NUM_THREADS"))
		recipe_add(recipe, recipe->environment, "OMP_NUM_THREADS=%u",
		           section->threads);
	for (size_t i = 0; i < section->n_environment; i++)
		recipe_add(recipe, recipe->environment, "%s=%s",
		           section->environment[i].name, section->environment[i].value);
	return recipe->is_short ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int recipe_init(struct recipe *recipe, const struct config *config,
                const struct config_model *section, uint64_t number, struct err *err)
{
	const char *python = recipe_python(section);

	recipe_begin(recipe, config);
	recipe_add(recipe, recipe->argv, "--model=%s", section->name);
	recipe_add(recipe, recipe->argv, "--generation=%llu", (unsigned long long)number);
	recipe_add_user(recipe, config, section->name);
	/* With an interpreter the loader executes that, and runs inside it. */
	if (python) {
		recipe_add(recipe, recipe->argv, "--python=%s", python);
		recipe_add(recipe, recipe->argv, "--engine-dir=%s", config->engine_dir);
	}
	return recipe_end(recipe, section, err);
}

/* The file that @object, "MODULE:NAME" or "FILE.py:NAME", is in. Returns its length; 0: it is
 * in a module. */
static int recipe_file(const char *object)
{
	size_t n = object ? strcspn(object, ":") : 0;

	return n > 3 && strncmp(object + n - 3, ".py", 3) == 0 ? (int)n : 0;
}

static const char *recipe_object(const struct config_model *section)
{
	if (section->wsgi)
		return section->wsgi;
	return section->asgi ? section->asgi : section->python_class;
}

/* What an interpreter is to import ahead, and where modules of the application's own would come
 * from, which it has to leave alone. */
static void recipe_add_python(struct recipe *recipe, const struct config_model *section,
                              const struct config_model *newest)
{
	const char *object = recipe_object(section);
	char names[CONFIG_NAMES_MAX * (CONFIG_NAME_MAX + 1)] = "";
	size_t n = 0;

	recipe_add(recipe, recipe->argv, "--python=%s", recipe_python(section));
	if (section->working_directory)
		recipe_add(recipe, recipe->argv, "--directory=%s",
		           section->working_directory);
	if (recipe_file(object) > 0)
		recipe_add(recipe, recipe->argv, "--file=%.*s", recipe_file(object),
		           object);
	for (size_t i = 0; i < newest->n_preload && n < sizeof(names); i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i ? "," : "",
		                      newest->preload[i]);
	if (n > 0)
		recipe_add(recipe, recipe->argv, "--preload=%s", names);
}

int recipe_init_spare(struct recipe *recipe, const struct config *config,
                      const struct config_model *section,
                      const struct config_model *newest, struct err *err)
{
	recipe_begin(recipe, config);
	recipe_add(recipe, recipe->argv, "--spare=%s", section->engine);
	recipe_add(recipe, recipe->argv, "--engine-dir=%s", config->engine_dir);
	recipe_add_user(recipe, config, section->name);
	if (config_is_python(section))
		recipe_add_python(recipe, section, newest);
	return recipe_end(recipe, section, err);
}

int recipe_spawn(const struct recipe *recipe, struct child *child, struct ev_loop *loop,
                 int control_fd, const struct child_listener *listener, struct err *err)
{
	bool has_user = recipe_find(recipe, "--user=") != NULL;
	int r;

	if (has_user)
		privileges_lend(true);
	r = child_spawn(child, loop, recipe->argv, recipe->environment, control_fd,
	                listener, err);
	if (has_user)
		privileges_lend(false);
	return r;
}

void recipe_move(struct recipe *to, struct recipe *from)
{
	*to = *from;
	*from = (struct recipe){ 0 };
}

static void recipe_free_list(char **list)
{
	for (; *list; list++) {
		free(*list);
		*list = NULL;
	}
}

void recipe_fini(struct recipe *recipe)
{
	recipe_free_list(recipe->argv);
	recipe_free_list(recipe->environment);
}

static bool recipe_is_same_list(char *const *a, char *const *b)
{
	while (*a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return !*a && !*b;
}

const char *recipe_find(const struct recipe *recipe, const char *name)
{
	for (size_t i = 0; recipe->argv[i]; i++)
		if (strncmp(recipe->argv[i], name, strlen(name)) == 0)
			return recipe->argv[i] + strlen(name);
	return NULL;
}

bool recipe_is_same(const struct recipe *a, const struct recipe *b)
{
	return recipe_is_same_list(a->argv, b->argv) &&
	       recipe_is_same_list(a->environment, b->environment);
}
