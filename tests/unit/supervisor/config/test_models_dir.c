/* SPDX-License-Identifier: Apache-2.0 */

/* A folder with a file for each model: which files count, and what is wrong with one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "tests/unit/config_bench.h"

#define DIR_MODEL(name)                                                                  \
	"[model " name                                                                   \
	"]\nengine = e\npath = w.pt\ninput = a FP32 [1]\noutput = b FP32 "               \
	"[1]\n"

/* Compares a configuration with models_dir with the later one of @main_text and the folder d. */
static void check_emptied(const char *main_text)
{
	static const struct {
		const char *text;
		bool want;
	} rows[] = {
		{ "[supervisor]\nmodels_dir = e\n" MODEL, true },
		{ "[supervisor]\nmodels_dir = e\n", true },
		/* models_dir is not configured any more. */
		{ MODEL, false },
		/* Models have moved, all but one. */
		{ "[supervisor]\nmodels_dir = e\n" DIR_MODEL("zeroth") DIR_MODEL("first"),
		  true },
		{ "[supervisor]\nmodels_dir = e\n" DIR_MODEL("zeroth") DIR_MODEL("first")
		          DIR_MODEL("linked"),
		  false },
	};
	FREE char *dir = config_bench_path("e");
	struct config *running = config_bench_load_good(main_text);
	struct err why;

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_false(config_is_emptied(running, running, &why));
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct config *fresh = config_bench_load_good(rows[i].text);

		if (config_is_emptied(running, fresh, &why) != rows[i].want)
			fail_msg("row %zu", i);
		/* Models that were never in the folder are not missed. */
		assert_false(config_is_emptied(fresh, fresh, &why));
		config_unref(fresh);
	}
	config_unref(running);
	assert_int_equal(rmdir(dir), 0);
}

static void test_models_dir(void **state)
{
	static const char main_text[] = "[supervisor]\nmodels_dir = d\n" MODEL;
	FREE char *dir = config_bench_path("d");
	FREE char *sub = config_bench_path("d/sub.conf");
	FREE char *link = config_bench_path("d/link.conf");
	FREE char *weights = config_bench_path("d/w.pt");
	struct config *config;

	(void)state;
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(mkdir(sub, 0700), 0);
	config_bench_write("d/b.conf", DIR_MODEL("first"));
	config_bench_write("d/B.conf", DIR_MODEL("zeroth"));
	config_bench_write("d/.hidden.conf", "rubbish");
	config_bench_write("d/.conf", "rubbish");
	config_bench_write("d/b.conf~", "rubbish");
	config_bench_write("elsewhere", DIR_MODEL("linked"));
	assert_int_equal(symlink("../elsewhere", link), 0);
	config = config_bench_load_good(main_text);
	assert_int_equal(config->n_models, 4);
	assert_string_equal(config->models[0]->name, "m");
	assert_string_equal(config->models[1]->name, "zeroth");
	assert_string_equal(config->models[2]->name, "first");
	assert_string_equal(config->models[3]->name, "linked");
	assert_string_equal(config->models[3]->path, weights);
	config_unref(config);

	check_emptied(main_text);
	config_bench_write("d/c.conf", "");
	config_bench_refuses("empty file", main_text,
	                     "d/c.conf:1: the file holds no model");
	config_bench_write("d/c.conf", "# a\n[supervisor]\n");
	config_bench_refuses("supervisor", main_text,
	                     "d/c.conf:2: [supervisor]: belongs into the");
	config_bench_write("d/c.conf", DIR_MODEL("x") DIR_MODEL("y"));
	config_bench_refuses("two models", main_text,
	                     "d/c.conf:6: [model y]: a file of models_dir");
	config_bench_write("d/c.conf", DIR_MODEL("m"));
	config_bench_refuses("twin", main_text,
	                     "moult.conf:3 already: every model needs its own");
	assert_int_equal(remove(link), 0);
	assert_int_equal(symlink("../nowhere", link), 0);
	config_bench_remove("d/c.conf");
	config_bench_refuses("dangling", main_text,
	                     "d/link.conf: No such file or directory");

	assert_int_equal(remove(link), 0);
	config_bench_remove("elsewhere");
	config_bench_remove("d/b.conf");
	config_bench_remove("d/B.conf");
	config_bench_remove("d/.hidden.conf");
	config_bench_remove("d/.conf");
	config_bench_remove("d/b.conf~");
	assert_int_equal(rmdir(sub), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_models_dir),
	};

	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
