/* SPDX-License-Identifier: Apache-2.0 */

/* Manifests of generations that served well, written to a folder and read back. */

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"
#include "supervisor/config/keys.h"
#include "supervisor/config/value.h"
#include "supervisor/keep/manifest.h"

/* Digits in place of a hash that a loader would have computed. */
#define SHA256 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static uint64_t number;
static char folder[] = "/tmp/moult-manifest-XXXXXX";

static void in_folder(char *path, size_t size, const char *name)
{
	(void)snprintf(path, size, "%s/%s", folder, name);
}

static void write_text(const char *name, const char *text)
{
	char path[512];
	FILE *file;

	in_folder(path, sizeof(path), name);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static size_t count(const char *pattern)
{
	char path[512];
	glob_t found;
	size_t n;

	in_folder(path, sizeof(path), pattern);
	n = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return n;
}

/* Makes the inputs of a configuration of one model with @more lines. */
static struct inputs *inputs_with(const char *more)
{
	char path[512];
	FREE char *text = NULL;
	struct config *config;
	struct inputs *inputs;
	struct inputs_found found;
	struct err err = ERR_NULL;

	assert_true(asprintf(&text,
	                     "[model m]\nengine = identity\ninput = a FP32 [-1,4]\n"
	                     "input = c BYTES [-1]\noutput = b FP32 [-1,4]\n"
	                     "path = weights\nsecrets = secrets\n%s",
	                     more) > 0);
	write_text("moult.conf", text);
	in_folder(path, sizeof(path), "moult.conf");
	if (config_load(&config, path, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(inputs_new(&inputs, config, config->models[0],
	                            &(struct inputs_choice){ 0 }, &found, &err),
	                 0);
	config_unref(config);
	memcpy(inputs->weights_sha256, SHA256, sizeof(SHA256));
	return inputs;
}

static int load(struct inputs **ret_inputs, const struct inputs *like, struct err *err)
{
	return manifest_load(ret_inputs, folder, "m", like->config, err);
}

static void save(const struct inputs *inputs, bool with_secrets)
{
	struct err err = ERR_NULL;

	if (manifest_save(folder, inputs, with_secrets, ++number, &err) < 0)
		fail_msg("%s", err.text);
}

static int group_setup(void **state)
{
	char path[512];

	(void)state;
	assert_non_null(mkdtemp(folder));
	in_folder(path, sizeof(path), "secrets");
	assert_int_equal(mkdir(path, 0700), 0);
	write_text("secrets/one", "first value\n");
	write_text("secrets/two", "second value");
	write_text("weights", "weights");
	return 0;
}

static int group_teardown(void **state)
{
	char command[sizeof(folder) + 16];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static void check_keys_equal(const struct config_model *a, const struct config_model *b)
{
	for (size_t i = 0; i < config_model_table.n_keys; i++)
		if (!config_value_equal(&config_model_table.keys[i], a, b))
			fail_msg("key %s differs", config_model_table.keys[i].name);
}

static void test_what_goes_in_comes_out(void **state)
{
	static const char *const sections[] = {
		"",
		"max_batch = 7\nmax_delay = 3ms\nthreads = 2\nstrategy = stop-first\n",
		"option.a = some text = with # signs\noption.b =\nkeep_secrets = yes\n",
		"required_secrets = one, two\nversion = 17\nmax_body = 3M\n"
		"request_arena = 8M\nwatch_window = 0\ndisable_secrets_reload = yes\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		struct inputs *inputs = inputs_with(sections[i]);
		struct inputs *kept;
		struct err err = ERR_NULL;
		struct stat before;

		/* As in moultd: it has to know the change that its own link makes. */
		assert_int_equal(manifest_link(folder, inputs, &before, &inputs->file),
		                 0);
		save(inputs, i % 2 == 0);
		assert_int_equal(load(&kept, inputs, &err), 0);
		check_keys_equal(inputs->section, kept->section);
		assert_true(inputs_equal(inputs, kept));
		assert_string_equal(kept->weights_sha256, SHA256);
		assert_string_equal(kept->config->engine_dir, inputs->config->engine_dir);
		assert_int_equal(kept->secrets.count, 2);
		inputs_unref(kept);
		inputs_unref(inputs);
	}
}

/* The last two manifests and the files that they name stay; links to weights are no copies. */
static void test_little_is_kept(void **state)
{
	struct stat original;
	struct stat kept;
	char path[512];

	(void)state;
	for (unsigned int i = 1; i < 10; i++) {
		char more[32];
		struct inputs *inputs;

		(void)snprintf(more, sizeof(more), "threads = %u\n", i);
		inputs = inputs_with(more);
		save(inputs, i == 1);
		inputs_unref(inputs);
	}
	assert_int_equal(count("good/m/manifest-*"), 2);
	assert_int_equal(count("good/m/weights-*"), 1);
	assert_int_equal(count("good/m/*"), 3);
	in_folder(path, sizeof(path), "weights");
	assert_int_equal(stat(path, &original), 0);
	in_folder(path, sizeof(path), "good/m/weights-" SHA256);
	assert_int_equal(stat(path, &kept), 0);
	assert_int_equal(original.st_ino, kept.st_ino);
}

/* With any byte of the newest manifest damaged, the one before is taken. */
static void test_damage(void **state)
{
	char pattern[512];
	struct inputs *before = inputs_with("threads = 1\n");
	struct inputs *last = inputs_with("threads = 2\n");

	(void)state;
	in_folder(pattern, sizeof(pattern), "good/m/*");
	for (int round = 0; round < 20; round++) {
		struct inputs *kept;
		struct err err = ERR_NULL;
		FILE *file;
		glob_t found;

		save(before, false);
		save(last, false);
		assert_int_equal(load(&kept, last, &err), 0);
		assert_int_equal(kept->section->threads, 2);
		inputs_unref(kept);
		/* The newest manifest is the one with "threads = 2". */
		assert_int_equal(glob(pattern, 0, NULL, &found), 0);
		for (size_t i = 0; i < found.gl_pathc; i++) {
			char text[8192] = "";

			if (!strstr(found.gl_pathv[i], "/manifest-"))
				continue;
			file = fopen(found.gl_pathv[i], "r+e");
			assert_non_null(file);
			assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
			if (strstr(text, "threads = 2\\n")) {
				(void)fseek(file, round * 20, SEEK_SET);
				(void)fputc('~', file);
			}
			(void)fclose(file);
		}
		globfree(&found);
		assert_int_equal(load(&kept, last, &err), 0);
		assert_int_equal(kept->section->threads, 1);
		inputs_unref(kept);
	}
	inputs_unref(before);
	inputs_unref(last);
}

/* The path of the newest manifest of "m". */
static void find_newest(char path[512])
{
	char pattern[512];
	glob_t found;

	in_folder(pattern, sizeof(pattern), "good/m/manifest-*");
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	(void)snprintf(path, 512, "%s", found.gl_pathv[found.gl_pathc - 1]);
	globfree(&found);
}

static void check_reason(const struct inputs *like, const char *reason)
{
	struct inputs *kept;
	struct err err = ERR_NULL;

	assert_int_equal(load(&kept, like, &err), MANIFEST_E_NONE);
	if (!strstr(err.text, reason))
		fail_msg("'%s' instead of '%s'", err.text, reason);
}

static void check_serves(const struct inputs *like)
{
	struct inputs *kept;
	struct err err = ERR_NULL;

	assert_int_equal(load(&kept, like, &err), 0);
	inputs_unref(kept);
}

/* What is whole and has a wrong code is not moultd's, or not under this name. */
static void test_codes(void **state)
{
	struct inputs *inputs = inputs_with("threads = 3\n");
	char path[512];
	char other[512];
	char *digits;
	struct stat st;

	(void)state;
	/* None of before is left to be taken instead. */
	(void)snprintf(path, sizeof(path), "rm -r %s/good/m", folder);
	assert_int_equal(system(path), 0);
	save(inputs, false);
	check_serves(inputs);
	in_folder(path, sizeof(path), "good/.key");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & ALLPERMS, 0600);
	assert_int_equal(st.st_size, 32);

	/* an older one in the place of a newer one */
	find_newest(path);
	(void)strcpy(other, path);
	digits = strrchr(other, '/') + strlen("/manifest-");
	digits[1] = '1';
	assert_int_equal(rename(path, other), 0);
	check_reason(inputs, "has a wrong code");
	assert_int_equal(rename(other, path), 0);
	check_serves(inputs);

	/* as an older moultd wrote them */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path,
	                          st.st_size - (off_t)strlen("\nhmac-sha256 \n") - 64),
	                 0);
	check_reason(inputs, "has no code");

	/* another key, and none */
	save(inputs, false);
	check_serves(inputs);
	write_text("good/.key", "0123456789abcdef0123456789abcdef");
	check_reason(inputs, "has a wrong code");
	in_folder(path, sizeof(path), "good/.key");
	assert_int_equal(chmod(path, 0644), 0);
	check_reason(inputs, "the key of");
	assert_int_equal(unlink(path), 0);
	check_reason(inputs, "the key of");
	write_text("good/.key", "short");
	save(inputs, false);
	check_serves(inputs);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 32);
	inputs_unref(inputs);
}

/* A manifest is of one model, whose folder it lies in. */
static void test_folders(void **state)
{
	struct inputs *inputs = inputs_with("");
	struct inputs *kept;
	struct err err = ERR_NULL;
	char from[512];
	char to[512];

	(void)state;
	save(inputs, false);
	in_folder(from, sizeof(from), "good/m");
	in_folder(to, sizeof(to), "good/n");
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(manifest_load(&kept, folder, "n", inputs->config, &err),
	                 MANIFEST_E_NONE);
	assert_non_null(strstr(err.text, "is another model's"));
	assert_int_equal(rename(to, from), 0);
	inputs_unref(inputs);
}

static void test_refusals(void **state)
{
	static const char *const names[] = { "", "../../x", "0123",
		                             "0123456789ABCDEF0123456789abcdef"
		                             "0123456789abcdef0123456789abcdef" };
	struct inputs *inputs = inputs_with("");
	struct inputs *kept;
	struct err err = ERR_NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(inputs->weights_sha256, sizeof(inputs->weights_sha256),
		               "%s", names[i]);
		assert_int_equal(manifest_save(folder, inputs, false, 1, &err), -EBADMSG);
	}
	assert_int_equal(manifest_load(&kept, folder, "other", inputs->config, &err),
	                 MANIFEST_E_NONE);
	assert_int_equal(manifest_load(&kept, "/nowhere", "m", inputs->config, &err),
	                 MANIFEST_E_NONE);
	inputs_unref(inputs);
}

static void test_prune(void **state)
{
	struct inputs *inputs = inputs_with("");
	struct config empty = { .n_models = 0 };

	(void)state;
	save(inputs, true);
	manifest_prune(folder, inputs->config);
	assert_true(count("good/m/*") >= 3);
	manifest_prune(folder, &empty);
	assert_int_equal(count("good/*"), 0);
	inputs_unref(inputs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_goes_in_comes_out),
		cmocka_unit_test(test_little_is_kept),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_codes),
		cmocka_unit_test(test_folders),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_prune),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
