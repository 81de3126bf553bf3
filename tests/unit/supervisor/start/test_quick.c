/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "supervisor/start/quick.h"
#include "supervisor/start/quick_check.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* Each is told what to change. */
static const struct {
	struct quick quick;
	const char *reason;
} refusals[] = {
	{ { .listen = "127.0.0.1:1" }, "nothing to serve: say --wsgi" },
	{ { .watch_code = true }, "nothing to serve: say --wsgi" },
	{ { .wsgi = "" }, "--wsgi: the value is empty" },
	{ { .asgi = "" }, "--asgi: the value is empty" },
	{ { .wsgi = "a:b", .asgi = "a:b" }, "say one of --wsgi, --asgi, --model" },
	{ { .command = "" }, "--command: the value is empty" },
	{ { .ready = "/" }, "nothing to serve: say --wsgi" },
	{ { .wsgi = "a:b", .command = "c {port}" }, "say one of --wsgi" },
	{ { .wsgi = "a:b", .ready = "/" }, "--ready is for --command" },
	{ { .command = "c {port}", .python = "/p" }, "--python is for applications" },
	{ { .command = "c {port}", .ready = "/\n" }, "--ready: the value has a line" },
	{ { .wsgi = "a:b", .model = "a:B" }, "say one of --wsgi" },
	{ { .repository = "m", .wsgi = "a:b" }, "--wsgi is for one application, and" },
	{ { .repository = "m", .watch_code = true }, "--watch-code is for one" },
	{ { .repository = "" }, "--model-repository: the value is empty" },
	{ { .wsgi = "a:b", .model_name = "m" },
	  "--model-name is for --model-repository" },
	{ { .model = "a:\nB" }, "--model: the value has a line" },
	{ { .wsgi = "a:b", .route = "/\nuser = root" }, "--route: the value has a line" },
	{ { .wsgi = "a:b", .threads = "1\r" }, "--threads: the value has a line" },
	{ { .wsgi = "a:b", .secrets = "\x7f" }, "--secrets: the value has a line" },
};

static const struct {
	struct quick quick;
	const char *text;
} rows[] = {
	{ { .wsgi = "a:b", .python = "/p" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = python\n"
	  "python = /p\nwsgi = a:b\nworking_directory = /d\nroute = /\n" },
	{ { .asgi = "a:b", .python = "/p" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = python\n"
	  "python = /p\nasgi = a:b\nworking_directory = /d\nroute = /\n" },
	{ { .model = "a:B", .python = "/p" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = python\n"
	  "python = /p\nmodel = a:B\nworking_directory = /d\nroute = /\n" },
	{ { .model = "a:B", .python = "/p", .is_root = true },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n"
	  "# An ordinary user here takes root's rights from what is served.\n"
	  "user = root\n\n[model app]\nengine = python\n"
	  "python = /p\nmodel = a:B\nworking_directory = /d\nroute = /\n" },
	{ { .wsgi = "a:b", .python = "bin/p", .listen = "[::]:1", .route = "/x/" },
	  "[supervisor]\nlisten = [::]:1\n\n[model app]\nengine = python\n"
	  "python = /d/bin/p\nwsgi = a:b\nworking_directory = /d\nroute = /x/\n" },
	{ { .command = "c -p '{port}'", .route = "/x/" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = server\n"
	  "command = c -p '{port}'\nworking_directory = /d\nroute = /x/\n" },
	{ { .command = "c {socket}", .ready = "GET /h 200", .threads = "8" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = server\n"
	  "command = c {socket}\nready = GET /h 200\nworking_directory = /d\nroute = /\n"
	  "threads = 8\n" },
	{ { .repository = "models", .python = "/p" },
	  "[supervisor]\nlisten = 127.0.0.1:8080\nmodel_repository = /d/models\n"
	  "model_repository_python = /p\n" },
	{ { .repository = "/mnt/models",
	    .model_name = "m",
	    .listen = "*:1",
	    .grpc_listen = "*:2",
	    .python = "p" },
	  "[supervisor]\nlisten = *:1\ngrpc_listen = *:2\nmodel_repository = "
	  "/mnt/models\n"
	  "model_repository_python = /d/p\n"
	  "model_repository_name = m\n" },
	{ { .wsgi = "a:b",
	    .python = "/p",
	    .threads = "2",
	    .replicas = "3",
	    .secrets = "s",
	    .watch_code = true },
	  "[supervisor]\nlisten = 127.0.0.1:8080\n\n[model app]\nengine = python\n"
	  "python = /p\nwsgi = a:b\nworking_directory = /d\nroute = /\nthreads = 2\n"
	  "replicas = 3\nsecrets = /d/s\nwatch_code = yes\n" },
};

static int write_text(const struct quick *quick, const char *folder, char **ret_text,
                      struct err *err)
{
	size_t bytes = 0;
	FILE *stream = open_memstream(ret_text, &bytes);
	int r;

	assert_non_null(stream);
	r = quick_write(quick, "/d", folder, stream, err);
	assert_int_equal(fclose(stream), 0);
	return r;
}

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refusals); i++) {
		struct err err = ERR_NULL;
		char *text = NULL;

		assert_true(quick_is_asked(&refusals[i].quick));
		assert_int_equal(write_text(&refusals[i].quick, "/f", &text, &err),
		                 -EINVAL);
		if (!strstr(err.text, refusals[i].reason))
			fail_msg("row %zu: '%s'", i, err.text);
		assert_string_equal(text, "");
		free(text);
	}
}

static void test_texts(void **state)
{
	const struct quick nothing = { 0 };
	char *text = NULL;

	(void)state;
	assert_false(quick_is_asked(&nothing));
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(write_text(&rows[i].quick, NULL, &text, NULL), 0);
		assert_string_equal(text, rows[i].text);
		free(text);
	}
	assert_int_equal(write_text(&rows[0].quick, "/f", &text, NULL), 0);
	assert_non_null(strstr(text, "control = /f/moultd.sock\nstate_dir = /f/state\n"));
	free(text);
}

/* Nobody else can enter the folder, and nothing of it stays. */
static void test_folder(void **state)
{
	const struct quick quick = { .wsgi = "a:b" };
	struct err err = ERR_NULL;
	struct stat status;
	char *file = NULL;
	char folder[4096];
	char state_dir[4200];

	(void)state;
	assert_int_equal(quick_begin(&quick, &file, &err), 0);
	assert_int_equal(stat(file, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	(void)snprintf(folder, sizeof(folder), "%s", file);
	*strrchr(folder, '/') = '\0';
	assert_int_equal(stat(folder, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", folder);
	assert_int_equal(mkdir(state_dir, 0700), 0);
	quick_end(file);
	assert_int_equal(stat(folder, &status), -1);
	assert_int_equal(errno, ENOENT);

	/* Where the arguments are refused, nothing stays either. */
	assert_true(quick_begin(&refusals[0].quick, &file, &err) < 0);
	quick_end(file);
	quick_end(NULL);
}

/* Sentences of the configuration's reader and of its checks. */
static void test_words(void **state)
{
	static const struct {
		const char *text;
		const char *said;
	} words[] = {
		{ "/t/f:9: wsgi: 'a' names none", "--wsgi: 'a' names none" },
		{ "/t/f:6: [model app]: python: /p: none", "--python: /p: none" },
		{ "/t/f: [model app]: watch_code: no", "--watch-code: no" },
		{ "/t/f:6: [model app]: secrets: make it, or remove the key secrets",
		  "--secrets: make it, or remove --secrets" },
		{ "/t/f:6: [model app]: secrets: remove the key secretsx",
		  "--secrets: remove the key secretsx" },
		{ "/t/f:8: [model app]: working_directory: /d is none",
		  "the working directory: /d is none" },
		{ "/t/f:6: [model app]: engine: there is none", "engine: there is none" },
		{ "[supervisor]: loader: /l: none", "loader: /l: none" },
		{ "/t/f: cannot be read", "cannot be read" },
		{ "threadsx: y", "threadsx: y" },
		{ "out of memory", "out of memory" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(words); i++) {
		struct err text = ERR_NULL;

		quick_reword("/t/f", words[i].text, &text);
		assert_string_equal(text.text, words[i].said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_folder),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
