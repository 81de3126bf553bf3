/* SPDX-License-Identifier: Apache-2.0 */

/* What keys say together: spares of interpreters, what an engine hosts, and tensors that are left
 * out. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/config_bench.h"

/* The shortest application of Python. */
#define PYTHON "[model m]\nengine = python\nroute = /\nwsgi = a:app\n"

static const struct {
	const char *text;
	const char *want;
} refused[] = {
	{ "[model m]\nengine = torch\ninput = a FP32 [1]\nmax_batch = 2\n",
	  ":4: max_batch: above 1 every input and output must have -1" },
	{ MODEL "spare = yes\npreload = torch\n",
	  ":6: preload: these are modules of Python, and " },
	{ PYTHON "preload = torch\n",
	  ":5: preload: a spare loader imports modules ahead, and " },
	{ PYTHON "spare = yes\npreload = torch, sklearn-svm\n",
	  ":6: preload: 'sklearn-svm' is no name of a module: write it as import does" },
	{ PYTHON "spare = yes\npreload = .torch\n", ":6: preload: '.torch' is no name" },
	{ PYTHON "spare = yes\npreload = torch.\n",
	  ":6: preload: 'torch.' is no name of a module" },
	{ PYTHON "spare = yes\npreload = a..b\n",
	  ":6: preload: 'a..b' is no name of a module" },
	{ PYTHON "spare = yes\npreload = a.1b\n",
	  ":6: preload: 'a.1b' is no name of a module" },
	{ MODEL "command = a {port}\n",
	  ":5: command: is for engine server alone: leave it out" },
	{ MODEL "ready = /x\n", ":5: ready: is for engine server alone" },
	{ PYTHON "command = a {port}\n", ":5: command: is for engine server alone" },
	{ MODEL "python = /bin/sh\n",
	  ":5: python: is for engine python, engine onnx and engine aoti: leave it" },
	{ MODEL "wsgi = a:b\n", ":5: wsgi: is for engine python alone" },
	{ MODEL "asgi = a:b\n", ":5: asgi: is for engine python alone" },
	{ MODEL "model = a:B\n", ":5: model: is for engine python alone" },
};

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT_OF(refused); i++) {
		struct config *config = NULL;
		struct err err = ERR_NULL;

		if (config_bench_load(refused[i].text, &config, &err) == 0)
			fail_msg("accepted: %s", refused[i].text);
		if (!strstr(err.text, refused[i].want))
			fail_msg("wanted \"%s\", got \"%s\"", refused[i].want, err.text);
	}
}

static void test_taken(void **state)
{
	struct config *config = config_bench_load_good(
		PYTHON "spare = yes\npreload = torch, _a1.b_2 ,sklearn.svm\n");
	const struct config_model *model = config->models[0];

	(void)state;
	assert_int_equal(model->n_preload, 3);
	assert_string_equal(model->preload[0], "torch");
	assert_string_equal(model->preload[1], "_a1.b_2");
	assert_string_equal(model->preload[2], "sklearn.svm");
	config_unref(config);
}

/* The model tells what no line does. */
static void test_no_tensors(void **state)
{
	static const struct {
		const char *text;
		size_t n_inputs;
		size_t n_outputs;
	} rows[] = {
		{ "[model m]\nengine = torch\n", 0, 0 },
		{ "[model m]\nengine = torch\nmax_batch = 8\n", 0, 0 },
		{ "[model m]\nengine = torch\ninput = a FP32 [1]\n", 1, 0 },
		{ "[model m]\nengine = torch\noutput = a FP32 [1]\n", 0, 1 },
		{ "[model m]\nengine = python\nmodel = a:A\n", 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct config *config = config_bench_load_good(rows[i].text);

		assert_int_equal(config->models[0]->n_inputs, rows[i].n_inputs);
		assert_int_equal(config->models[0]->n_outputs, rows[i].n_outputs);
		config_unref(config);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_taken),
		cmocka_unit_test(test_no_tensors),
	};

	return cmocka_run_group_tests(tests, config_bench_enter, config_bench_leave);
}
