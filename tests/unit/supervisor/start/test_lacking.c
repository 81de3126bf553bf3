/* SPDX-License-Identifier: Apache-2.0 */

/* What is said of a kernel that lacks a part of the walls. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "supervisor/start/lacking.h"

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static const struct {
	const char *engine;
	enum config_sandbox sandbox;
	struct lacking_kernel kernel;
	const char *what; /* part of the sentence; NULL: nothing is lacking */
} rows[] = {
	{ "torch", CONFIG_SANDBOX_AUTO, { 7, true }, NULL },
	{ "server", CONFIG_SANDBOX_STRICT, { 6, true }, NULL },
	/* Debian 12 */
	{ "torch", CONFIG_SANDBOX_AUTO, { 2, true }, NULL },
	{ "python", CONFIG_SANDBOX_AUTO, { 2, true }, NULL },
	{ "python", CONFIG_SANDBOX_STRICT, { 2, true }, "no rules for signals" },
	{ "python", CONFIG_SANDBOX_NET, { 2, true }, "no rules for signals" },
	{ "server", CONFIG_SANDBOX_STRICT, { 2, true }, "no rules for TCP" },
	{ "server", CONFIG_SANDBOX_STRICT, { 4, true }, "no rules for signals" },
	{ "server", CONFIG_SANDBOX_NET, { 4, true }, "no rules for signals" },
	/* without landlock */
	{ "torch", CONFIG_SANDBOX_AUTO, { 0, true }, "there is no landlock" },
	{ "torch", CONFIG_SANDBOX_NET, { 0, true }, "there is no landlock" },
	{ "server", CONFIG_SANDBOX_STRICT, { 0, true }, "there is no landlock" },
	{ "python", CONFIG_SANDBOX_AUTO, { 0, true }, NULL },
	{ "torch", CONFIG_SANDBOX_OFF, { 0, false }, NULL },
	/* without seccomp */
	{ "torch", CONFIG_SANDBOX_AUTO, { 7, false }, "there is no seccomp" },
	{ "python", CONFIG_SANDBOX_AUTO, { 0, false }, "there is no seccomp" },
	{ "torch", CONFIG_SANDBOX_AUTO, { 0, false }, "; there is no seccomp" },
};

static void test_what_is_said(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config_model model = { .sandbox = rows[i].sandbox,
			                      .engine =
			                              (char *)(uintptr_t)rows[i].engine };
		struct config_model *models[] = { &model };
		struct config config = { .n_models = 1 };
		struct err what;
		bool is_lacking;

		(void)snprintf(model.name, sizeof(model.name), "m");
		memcpy(config.models, models, sizeof(models));
		is_lacking = lacking_find(&config, &rows[i].kernel, &what);
		if (is_lacking != (rows[i].what != NULL))
			fail_msg("row %zu: '%s'", i, what.text);
		if (!is_lacking)
			continue;
		if (!strstr(what.text, rows[i].what))
			fail_msg("row %zu: '%s'", i, what.text);
		assert_non_null(strstr(what.text, "(model 'm')"));
	}
}

static void test_what_stands(void **state)
{
	(void)state;
	for (int landlock = 0; landlock < 2; landlock++)
		for (int seccomp = 0; seccomp < 2; seccomp++) {
			const struct lacking_kernel kernel = { landlock, seccomp };
			const char *standing = lacking_standing(&kernel);

			assert_non_null(strstr(standing, "no_new_privs"));
			assert_int_equal(strstr(standing, "landlock") != NULL, landlock);
			assert_int_equal(strstr(standing, "seccomp") != NULL, seccomp);
		}
}

/* A configuration without a model asks for nothing. */
static void test_no_model(void **state)
{
	static const struct config none;
	const struct lacking_kernel kernel = { 0, false };
	struct err what;

	(void)state;
	assert_false(lacking_find(&none, &kernel, &what));
	assert_string_equal(what.text, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_said),
		cmocka_unit_test(test_what_stands),
		cmocka_unit_test(test_no_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
