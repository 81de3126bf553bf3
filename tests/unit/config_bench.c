/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/config_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/cleanup.h"

static char folder[] = "/tmp/moult-config-XXXXXX";

int config_bench_enter(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

int config_bench_leave(void **state)
{
	(void)state;
	config_bench_remove("moult.conf");
	return rmdir(folder);
}

const char *config_bench_folder(void)
{
	return folder;
}

char *config_bench_path(const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	return path;
}

void config_bench_write_bytes(const char *name, const char *text, size_t bytes)
{
	FREE char *path = config_bench_path(name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
}

void config_bench_write(const char *name, const char *text)
{
	config_bench_write_bytes(name, text, strlen(text));
}

void config_bench_remove(const char *name)
{
	FREE char *path = config_bench_path(name);

	assert_int_equal(remove(path), 0);
}

int config_bench_load(const char *text, struct config **ret_config, struct err *err)
{
	FREE char *path = config_bench_path("moult.conf");

	config_bench_write("moult.conf", text);
	return config_load(ret_config, path, err);
}

struct config *config_bench_load_good(const char *text)
{
	struct config *config = NULL;
	struct err err = ERR_NULL;
	int r = config_bench_load(text, &config, &err);

	if (r != 0)
		fail_msg("refused: %s\n%s", err.text, text);
	return config;
}

void config_bench_refuses(const char *name, const char *text, const char *want)
{
	struct config *config = NULL;
	struct err err = ERR_NULL;
	FREE char *path = config_bench_path("");
	int r = config_bench_load(text, &config, &err);

	if (r == 0)
		fail_msg("%s: was accepted", name);
	assert_null(config);
	if (strncmp(err.text, path, strlen(path)) != 0)
		fail_msg("%s: does not begin with the file: %s", name, err.text);
	if (!strstr(err.text, want))
		fail_msg("%s: wanted \"%s\", got \"%s\"", name, want, err.text);
}
