/* SPDX-License-Identifier: Apache-2.0 */

/* Kept configurations: written, found and read back, and the folder that holds them. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "shared/cleanup.h"
#include "supervisor/keep/config_kept.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"
#include "supervisor/keep/keep.h"

#define MODEL  "engine = identity\ninput = a FP32 [-1,4]\noutput = b FP32 [-1,4]\n"
#define BROKEN "nonsense\n[supervisor]\n state_dir =  state  \n"

static const char *here;

static int enter(void **state)
{
	(void)state;
	here = scratch_enter();
	scratch_mkdir("state");
	(void)unsetenv("STATE_DIRECTORY");
	return 0;
}

static int leave(void **state)
{
	(void)state;
	scratch_leave();
	return 0;
}

static struct config *load(const char *text)
{
	struct config *config;
	struct err err = ERR_NULL;

	scratch_write("moult.conf", text);
	if (config_load(&config, scratch_path("moult.conf"), &err) < 0)
		fail_msg("%s", err.text);
	return config;
}

static int save(const struct config *config, uint64_t number, struct err *err)
{
	struct config_kept kept = { .config = config, .n_sections = config->n_models };
	FREE char *text = NULL;

	for (size_t i = 0; i < config->n_models; i++)
		kept.sections[i] = config->models[i];
	text = config_kept_print(&kept);
	assert_non_null(text);
	return config_kept_save(config->state_dir, text, number, err);
}

static void check_equal(const struct config_table *table, const void *a, const void *b)
{
	for (size_t i = 0; i < table->n_keys; i++)
		if (!config_value_equal(&table->keys[i], a, b))
			fail_msg("key %s differs", table->keys[i].name);
}

static void check_same(const struct config *a, const struct config *b)
{
	check_equal(&config_supervisor_table, a, b);
	check_equal(&config_device_table, &a->host, &b->host);
	assert_string_equal(a->file, b->file);
	assert_int_equal(a->n_models, b->n_models);
	for (size_t i = 0; i < a->n_models; i++) {
		check_equal(&config_model_table, a->models[i], b->models[i]);
		assert_string_equal(a->models[i]->name, b->models[i]->name);
		assert_string_equal(a->models[i]->file, b->models[i]->file);
		assert_int_equal(a->models[i]->line, b->models[i]->line);
	}
}

static void test_what_goes_in_comes_out(void **state)
{
	static const char *const texts[] = {
		"[supervisor]\nstate_dir = state\n[model a]\n" MODEL,
		"[device host]\nbudget = 3G\nreserve = 1M\n[model a]\n" MODEL
		"option.x = \"quoted\" \\ text = \xc3\xa9\noption.y =\n[supervisor]\n"
		"state_dir = state\nlisten = [::1]:0\nlog_level = debug\nsettle = 3ms\n"
		"control = sock\nloader = /bin/true\nmax_connections = 7\n"
		"[model b]\n" MODEL "secrets = s\nkeep_secrets = yes\npath = p q\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct config *config = load(texts[i]);
		struct config *kept;
		struct err err = ERR_NULL;

		assert_int_equal(save(config, i + 1, &err), 0);
		scratch_write("moult.conf", BROKEN);
		assert_int_equal(config_kept_load(&kept, "moult.conf", &err), 0);
		check_same(config, kept);
		config_unref(kept);
		config_unref(config);
	}
}

/* The largest configuration: as many models as allowed, each as large as its LOAD message
 * allows. */
static void test_the_largest(void **state)
{
	FREE char *text = NULL;
	char value[3600];
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct config *config;
	struct config *kept;
	struct err err = ERR_NULL;

	(void)state;
	assert_non_null(out);
	memset(value, '"', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	scratch_mkdir("models");
	for (unsigned int i = 0; i < CONFIG_MODELS_MAX; i++) {
		rewind(out);
		(void)fprintf(out, "[model m%u]\n" MODEL, i);
		for (unsigned int j = 0; j < 8; j++)
			(void)fprintf(out, "option.o%u = %s\n", j, value);
		assert_int_equal(fflush(out), 0);
		scratch_write(scratch_path("models/%02u.conf", i), text);
	}
	(void)fclose(out);
	config = load("[supervisor]\nstate_dir = state\nmodels_dir = models\n");
	assert_int_equal(config->n_models, CONFIG_MODELS_MAX);
	assert_int_equal(save(config, 10, &err), 0);
	scratch_write("moult.conf", BROKEN);
	assert_int_equal(config_kept_load(&kept, "moult.conf", &err), 0);
	check_same(config, kept);
	config_unref(kept);
	config_unref(config);
}

static void test_where_it_is_found(void **state)
{
	struct config *config =
		load("[supervisor]\nstate_dir = state\n[model a]\n" MODEL);
	struct config *kept;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(save(config, 20, &err), 0);
	config_unref(config);
	scratch_write("moult.conf", "state_dir is no value\n#state_dir = state\n");
	assert_int_equal(config_kept_load(&kept, "moult.conf", &err), -ENOENT);
	assert_int_equal(setenv("STATE_DIRECTORY", scratch_path("%s/state:/x", here), 1),
	                 0);
	assert_int_equal(config_kept_load(&kept, "moult.conf", &err), 0);
	config_unref(kept);
	scratch_remove("moult.conf");
	assert_int_equal(config_kept_load(&kept, "moult.conf", &err), 0);
	config_unref(kept);
	/* A configuration of another file is ignored. */
	scratch_write("other.conf", BROKEN);
	assert_int_equal(config_kept_load(&kept, "other.conf", &err), -ENOENT);
	assert_int_equal(unsetenv("STATE_DIRECTORY"), 0);
	scratch_write("moult.conf", BROKEN);
	assert_int_equal(config_kept_save(scratch_path("state"), "", 21, &err), 0);
	assert_int_equal(config_kept_load(&kept, "moult.conf", &err), -ENOENT);
}

/* Invented names are no manifests, and no number is taken from them. */
static void test_names(void **state)
{
	static const char *const bad[] = {
		"manifest-",
		"manifest-0",
		"manifest-00000000000000000007-xyz",
		"manifest-99999999999999999999-0123456789abcdef0123456789abcdef"
		"0123456789abcdef0123456789abcdef",
		"manifest-7-0123456789abcdef0123456789abcdef"
		"0123456789abcdef0123456789abcdef",
		"manifest-00000000000000000007_0123456789abcdef0123456789abcdef"
		"0123456789abcdef0123456789abcdef",
	};
	struct keep_entry entries[KEEP_LIST_MAX];
	struct err err = ERR_NULL;
	CLOSE_FD int fd = keep_open(scratch_path("state"), "names", KEEP_MAKE, &err);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(keep_last_number(scratch_path("nowhere")), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		scratch_write(scratch_path("state/good/names/%s", bad[i]), "{}");
	assert_int_equal(keep_list(fd, entries, KEEP_LIST_MAX), 0);
	assert_int_equal(keep_write_manifest(fd, "{\"a\": 1}", 1000), 0);
	assert_int_equal(keep_write_manifest(fd, "{\"a\": 2}", 999), 0);
	assert_int_equal(keep_write_manifest(fd, "{\"a\": 1}", 998), 0);
	assert_int_equal(keep_last_number(scratch_path("state")), 1000);
	assert_int_equal(keep_list(fd, entries, KEEP_LIST_MAX), 3);
	assert_int_equal(entries[0].number, 1000);
	assert_int_equal(entries[2].number, 998);
	assert_int_equal(keep_write_manifest(fd, "{\"a\": 1}", 1001), 0);
	keep_sweep(fd, KEEP_MANIFESTS);
	assert_int_equal(keep_list(fd, entries, KEEP_LIST_MAX), 2);
	assert_int_equal(entries[0].number, 1001);
	assert_int_equal(entries[1].number, 999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_goes_in_comes_out),
		cmocka_unit_test(test_the_largest),
		cmocka_unit_test(test_where_it_is_found),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, enter, leave);
}
