/* SPDX-License-Identifier: Apache-2.0 */

/* Engines that are missing, are no engines, or cannot be opened just now. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/shortage.h"

#include "loader/engine_host.h"

static const char *engine_dir;

static void test_opens(void **state)
{
	const struct engine_api *api = NULL;
	struct err err = ERR_NULL;

	(void)state;
	assert_int_equal(engine_host_open(&api, engine_dir, "identity", &err), 0);
	assert_string_equal(api->name, "identity");
}

static void test_refuses(void **state)
{
	static const struct {
		const char *name;
		const char *says;
	} rows[] = {
		{ "", "must be made of a-z" },
		{ "../identity", "must be made of a-z" },
		{ "Identity", "must be made of a-z" },
		{ "nosuch", "there is no engine 'nosuch'" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct engine_api *api = NULL;
		struct err err = ERR_NULL;

		assert_int_equal(engine_host_open(&api, engine_dir, rows[i].name, &err),
		                 ENGINE_E_CONFIG);
		if (!strstr(err.text, rows[i].says) || !strstr(err.text, "identity"))
			fail_msg("'%s': '%s'", rows[i].name, err.text);
		assert_null(api);
	}
}

static void write_engine(const char *path, const void *data, size_t bytes)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
}

/* A file that is no library would be as bad the next time. */
static void test_no_library(void **state)
{
	char dir[] = "/tmp/moult-engine-XXXXXX";
	char path[64];
	const struct engine_api *api = NULL;
	struct err err = ERR_NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/moult-engine-text.so", dir);
	write_engine(path, "no library", 10);
	assert_int_equal(engine_host_open(&api, dir, "text", &err), ENGINE_E_CONFIG);
	assert_non_null(strstr(err.text, "cannot be opened"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* A shortage of the machine says nothing about the engine. */
static void test_shortage(void **state)
{
	static const struct {
		int resource;
		rlim_t limit;
	} rows[] = {
		{ RLIMIT_NOFILE, 3 },
#ifndef __SANITIZE_ADDRESS__ /* the sanitizer ends the process without memory */
		{ RLIMIT_AS, 1 },
#endif
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct engine_api *api = NULL;
		struct err err = ERR_NULL;
		struct rlimit before;
		int r;

		before = shortage_begin(rows[i].resource, rows[i].limit);
		r = engine_host_open(&api, engine_dir, "fault", &err);
		shortage_end(rows[i].resource, &before);
		if (r != ENGINE_E_FAILED)
			fail_msg("row %zu: %d '%s'", i, r, err.text);
		assert_null(api);
	}
	test_opens(state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_no_library),
		cmocka_unit_test(test_shortage),
		cmocka_unit_test(test_opens),
	};

	if (argc != 2) {
		(void)fprintf(stderr, "usage: test_engine_host ENGINE_DIR\n");
		return 2;
	}
	engine_dir = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
