/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/command.h"
#include "shared/ready.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* Words are separated by bars. */
static const struct {
	const char *text;
	const char *words;
	bool has_port;
	bool has_socket;
} splits[] = {
	{ "a", "a|", false, false },
	{ "  a\t b  ", "a|b|", false, false },
	{ "a -b 127.0.0.1:{port} 'app:create_app()'",
	  "a|-b|127.0.0.1:{port}|app:create_app()|", true, false },
	{ "a \"b c\" 'd \"e' f\\ g", "a|b c|d \"e|f g|", false, false },
	{ "a \"b\\\"c\\\\d\\e\" ''", "a|b\"c\\d\\e||", false, false },
	{ "a --uds={socket} x'y'\"z\"", "a|--uds={socket}|xyz|", false, true },
	{ "a '{\"k\": 1}' b~c", "a|{\"k\": 1}|b~c|", false, false },
};

static const struct {
	const char *text;
	const char *reason;
} refusals[] = {
	{ "", "it names no program" },
	{ " \t", "it names no program" },
	{ "'' a", "it names no program" },
	{ "a 'b", "a quotation that begins with ' does not end" },
	{ "a \"b'", "a quotation that begins with \" does not end" },
	{ "a > log", "> is for a shell" },
	{ "a | b", "| is for a shell" },
	{ "a && b", "& is for a shell" },
	{ "a $HOME", "$ is for a shell" },
	{ "~/a", "~ is for a shell" },
	{ "a `b`", "` is for a shell" },
};

static void test_splits(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(splits); i++) {
		struct command command;
		struct err err = ERR_NULL;
		char words[256] = "";

		if (command_init(&command, splits[i].text, &err))
			fail_msg("%s: %s", splits[i].text, err.text);
		for (size_t j = 0; j < command.n_words; j++) {
			(void)strcat(words, command.words[j]);
			(void)strcat(words, "|");
		}
		assert_null(command.words[command.n_words]);
		assert_string_equal(words, splits[i].words);
		assert_int_equal(command.has_port, splits[i].has_port);
		assert_int_equal(command.has_socket, splits[i].has_socket);
		command_fini(&command);
	}
}

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refusals); i++) {
		struct command command;
		struct err err = ERR_NULL;

		assert_true(command_init(&command, refusals[i].text, &err) < 0);
		if (!strstr(err.text, refusals[i].reason))
			fail_msg("'%s': '%s'", refusals[i].text, err.text);
		command_fini(&command);
	}
}

static void test_fill(void **state)
{
	struct command command;

	(void)state;
	assert_int_equal(command_init(&command, "a {port}:{port} b {port", NULL), 0);
	assert_int_equal(command_fill(&command, COMMAND_PORT, "8{port}"), 0);
	assert_string_equal(command.words[1], "8{port}:8{port}");
	assert_string_equal(command.words[3], "{port");
	command_fini(&command);
}

static void write_file(const char *path, mode_t mode)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* A path starts from the directory, a name is looked for where PATH says. */
static void test_find(void **state)
{
	static const struct {
		const char *text;
		const char *list;
		const char *found; /* NULL: refused */
		const char *reason;
	} rows[] = {
		{ "tool", "/nonexistent:bin", "bin/tool", NULL },
		{ "bin/tool", "/nonexistent", "bin/tool", NULL },
		{ "./bin/tool x", NULL, "./bin/tool", NULL },
		{ "tool", "/nonexistent", NULL, "there is no program 'tool' in PATH" },
		{ "text", "bin", NULL, "there is no program 'text' in PATH" },
		{ "bin/text", NULL, NULL, "is not executable: chmod +x" },
		{ "bin/none", NULL, NULL, "there is no program '" },
		{ "./bin", NULL, NULL, "is no program, but a directory" },
	};
	char folder[] = "/tmp/moult-command-XXXXXX";
	char path[256];

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/bin", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/bin/tool", folder);
	write_file(path, 0755);
	(void)snprintf(path, sizeof(path), "%s/bin/text", folder);
	write_file(path, 0644);
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct command command;
		struct err err = ERR_NULL;
		char *found = NULL;
		int r;

		assert_int_equal(command_init(&command, rows[i].text, &err), 0);
		r = command_find(&command, rows[i].list, folder, &found, &err);
		if (rows[i].found) {
			(void)snprintf(path, sizeof(path), "%s/%s", folder,
			               rows[i].found);
			assert_int_equal(r, 0);
			assert_string_equal(found, path);
		} else if (r == 0 || !strstr(err.text, rows[i].reason)) {
			fail_msg("'%s': '%s'", rows[i].text, err.text);
		}
		free(found);
		command_fini(&command);
	}
	(void)snprintf(path, sizeof(path), "rm -r %s", folder);
	assert_int_equal(system(path), 0);
}

static void test_ready(void **state)
{
	static const struct {
		const char *text;
		const char *method; /* NULL: refused */
		const char *target;
		unsigned int min;
		unsigned int max;
	} rows[] = {
		{ NULL, "GET", "/", 200, 499 },
		{ "/health", "GET", "/health", 200, 299 },
		{ "GET /health 200", "GET", "/health", 200, 200 },
		{ " POST  /v1/ready?x=1\t503 ", "POST", "/v1/ready?x=1", 503, 503 },
		{ "/a 404", "GET", "/a", 404, 404 },
		{ "", NULL, "is no path", 0, 0 },
		{ "GET", NULL, "is no path", 0, 0 },
		{ "GET health 200", NULL, "'health' is no path", 0, 0 },
		{ "http://x/", NULL, "'http://x/' is no path", 0, 0 },
		{ "get /health", NULL, "'get' is no path", 0, 0 },
		{ "GET /health ok", NULL, "'ok' is no status", 0, 0 },
		{ "GET /health 100", NULL, "'100' is no status", 0, 0 },
		{ "GET /health 2000", NULL, "'2000' is no status", 0, 0 },
		{ "GET /health 200 201", NULL, "'201' is too much", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct err err = ERR_NULL;
		struct ready ready;
		int r = ready_read(&ready, rows[i].text, &err);

		if (!rows[i].method) {
			if (r == 0 || !strstr(err.text, rows[i].target))
				fail_msg("'%s': '%s'", rows[i].text, err.text);
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(ready.method, rows[i].method);
		assert_string_equal(ready.target, rows[i].target);
		assert_int_equal(ready.status_min, rows[i].min);
		assert_int_equal(ready.status_max, rows[i].max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_splits), cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_fill),   cmocka_unit_test(test_find),
		cmocka_unit_test(test_ready),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
