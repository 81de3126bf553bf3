/* SPDX-License-Identifier: Apache-2.0 */

/* How loaders are started: the words, and which spares serve which sections. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/process/recipe.h"
#include "tests/unit/config_bench.h"

#define HEAD        "[supervisor]\nloader = /opt/l\nengine_dir = /opt/e\n"
#define APPLICATION "[model m]\nengine = python\nroute = /\n"
#define SPARE       APPLICATION "spare = yes\n"
#define CLASS                                                                            \
	"[model m]\nengine = python\ninput = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n"
#define TEXT_BYTES 1024

static struct config *load(const char *head, const char *model)
{
	char text[TEXT_BYTES];

	(void)snprintf(text, sizeof(text), "%s%s", head, model);
	return config_bench_load_good(text);
}

/* All words and variables, each behind a space, but for moultd's own number. */
static void print(const struct recipe *recipe, char *text, size_t size)
{
	char parent[32];
	size_t n = 0;

	(void)snprintf(parent, sizeof(parent), "--parent=%d", (int)getpid());
	text[0] = '\0';
	for (size_t i = 0; recipe->argv[i]; i++)
		if (strcmp(recipe->argv[i], parent) != 0)
			n += (size_t)snprintf(text + n, size - n, " %s", recipe->argv[i]);
	for (size_t i = 0; recipe->environment[i]; i++)
		n += (size_t)snprintf(text + n, size - n, " %s", recipe->environment[i]);
	assert_true(n < size);
}

/* A model's section; the words of its loader, and those of its spare. */
static const struct {
	const char *model;
	const char *loader;
	const char *spare;
} words[] = {
	{ MODEL, " /opt/l --model=m --generation=7",
	  " /opt/l --spare=identity --engine-dir=/opt/e" },
	{ MODEL "environment.A = 1\nenvironment.B = x y\n",
	  " /opt/l --model=m --generation=7 A=1 B=x y",
	  " /opt/l --spare=identity --engine-dir=/opt/e A=1 B=x y" },
	{ APPLICATION "wsgi = app:app\n",
	  " /opt/l --model=m --generation=7 --python=/usr/bin/python3 "
	  "--engine-dir=/opt/e",
	  " /opt/l --spare=python --engine-dir=/opt/e --python=/usr/bin/python3" },
	{ APPLICATION "asgi = a.b:app\npython = /v/bin/python\nworking_directory = /w\n"
	              "spare = yes\npreload = torch, sklearn.svm\nwatch_code = yes\n",
	  " /opt/l --model=m --generation=7 --python=/v/bin/python --engine-dir=/opt/e "
	  "PYTHONDONTWRITEBYTECODE=1",
	  " /opt/l --spare=python --engine-dir=/opt/e --python=/v/bin/python "
	  "--directory=/w "
	  "--preload=torch,sklearn.svm PYTHONDONTWRITEBYTECODE=1" },
	{ CLASS "model = 1/model.py\nthreads = 3\n",
	  " /opt/l --model=m --generation=7 --python=/usr/bin/python3 "
	  "--engine-dir=/opt/e "
	  "OMP_NUM_THREADS=3",
	  " /opt/l --spare=python --engine-dir=/opt/e --python=/usr/bin/python3 "
	  "--file=1/model.py OMP_NUM_THREADS=3" },
	{ CLASS "model = x.py:Model\nenvironment.OMP_NUM_THREADS = 2\n",
	  " /opt/l --model=m --generation=7 --python=/usr/bin/python3 "
	  "--engine-dir=/opt/e "
	  "OMP_NUM_THREADS=2",
	  " /opt/l --spare=python --engine-dir=/opt/e --python=/usr/bin/python3 "
	  "--file=x.py "
	  "OMP_NUM_THREADS=2" },
};

static void test_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(words); i++) {
		struct config *config = load(HEAD, words[i].model);
		const struct config_model *section = config->models[0];
		char text[TEXT_BYTES];
		struct err err = ERR_NULL;
		struct recipe recipe;

		assert_int_equal(recipe_init(&recipe, config, section, 7, &err), 0);
		print(&recipe, text, sizeof(text));
		assert_string_equal(text, words[i].loader);
		recipe_fini(&recipe);
		assert_int_equal(recipe_init_spare(&recipe, config, section, section,
		                                   &err),
		                 0);
		print(&recipe, text, sizeof(text));
		assert_string_equal(text, words[i].spare);
		recipe_fini(&recipe);
		config_unref(config);
	}
}

/* Whether the spare of one configuration serves another one. */
static const struct {
	const char *name;
	const char *heads[2];
	const char *models[2];
	bool is_same;
} pairs[] = {
	{ "another model", { HEAD, HEAD }, { MODEL, MODEL "threads = 2\n" }, true },
	{ "another loader",
	  { HEAD, "[supervisor]\nloader = /opt/l2\nengine_dir = /opt/e\n" },
	  { MODEL, MODEL },
	  false },
	{ "other engines",
	  { HEAD, "[supervisor]\nloader = /opt/l\nengine_dir = /opt/e2\n" },
	  { MODEL, MODEL },
	  false },
	{ "a variable", { HEAD, HEAD }, { MODEL, MODEL "environment.A = 1\n" }, false },
	{ "another value",
	  { HEAD, HEAD },
	  { MODEL "environment.A = 1\n", MODEL "environment.A = 2\n" },
	  false },
	{ "another application of the folder",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\n", SPARE "wsgi = b:app\n" },
	  true },
	{ "another interpreter",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\n", SPARE "wsgi = a:app\npython = /v/bin/python\n" },
	  false },
	{ "another folder",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\n", SPARE "wsgi = a:app\nworking_directory = /w\n" },
	  false },
	{ "modules",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\n", SPARE "wsgi = a:app\npreload = torch\n" },
	  false },
	{ "other modules",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\npreload = numpy\n",
	    SPARE "wsgi = a:app\npreload = torch\n" },
	  false },
	{ "secrets",
	  { HEAD, HEAD },
	  { SPARE "wsgi = a:app\n",
	    SPARE "wsgi = a:app\nsecrets = /s\noption.secrets_env = TOKEN\n" },
	  true },
};

static void test_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(pairs); i++) {
		struct recipe recipes[2];
		struct err err = ERR_NULL;

		for (size_t k = 0; k < COUNT_OF(recipes); k++) {
			struct config *config =
				load(pairs[i].heads[k], pairs[i].models[k]);

			assert_int_equal(recipe_init_spare(&recipes[k], config,
			                                   config->models[0],
			                                   config->models[0], &err),
			                 0);
			config_unref(config);
		}
		if (recipe_is_same(&recipes[0], &recipes[1]) != pairs[i].is_same ||
		    !recipe_is_same(&recipes[0], &recipes[0]))
			fail_msg("%s", pairs[i].name);
		recipe_fini(&recipes[0]);
		recipe_fini(&recipes[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_same),
	};

	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
